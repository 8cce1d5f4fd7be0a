"""A change as a patch in git's extended format, which `git apply` takes.

Invariants: the patch is made by git in a repository of our own that holds the changed files alone,
so nothing that the user's or an agent's repository says has a part in it; all its lines are UTF-8,
for files of other encodings are given as binary. As in git, of permissions only "may be executed"
is told, and empty folders are not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from manyhands.agents.workspace.ground import Ground, Read
from manyhands.agents.workspace.tree import Node, Tree
from manyhands.errors import ConfigError
from manyhands.teams.code.git_alone import PATIENCE, failed, fresh_folder, git
from manyhands.teams.code.states import Changed, Ignored, States, in_git

_SIDES = ("refs/manyhands/before", "refs/manyhands/after")
_DIFF = (
    "-r",
    "-p",
    "--binary",
    "--full-index",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)


@dataclass(frozen=True, slots=True)
class _Version:
    path: str
    mode: str
    content: bytes


async def unified_diff(ground: Ground, read: Read, start: Tree, end: Tree, ignored: Ignored) -> str:
    """What leads from ``start`` to ``end``; '' where nothing does that a patch can tell.

    Write it as UTF-8, without translating line ends. What is below `.git` is never part of it:
    git applies no such patch. Raises `ConfigError` where git cannot be run.
    """
    states = States(ground, read)
    pairs = [
        (_version(states, start, each, each.before), _version(states, end, each, each.after))
        for each in states.changed(start, end, ignored)
        if not in_git(each.path)
    ]
    texts = [pair for pair in pairs if all(_is_utf8(each) for each in pair)]
    others = [pair for pair in pairs if pair not in texts]
    return await _patch(texts, binary=False) + await _patch(others, binary=True)


def _version(states: States, tree: Tree, change: Changed, node: Node | None) -> _Version | None:
    if node is None or node.kind not in ("file", "link"):
        return None
    mode = "120000" if node.kind == "link" else "100755" if node.mode & 0o100 else "100644"
    return _Version(change.path, mode, states.content(tree, change.path))


def _is_utf8(version: _Version | None) -> bool:
    """Or what git takes for binary by itself, which looks at the beginning alone."""
    if version is None or b"\0" in version.content[:8000]:
        return True
    if b"\0" in version.content:
        return False
    try:
        version.content.decode()
    except UnicodeDecodeError:
        return False
    return True


async def _patch(pairs: Sequence[tuple[_Version | None, _Version | None]], *, binary: bool) -> str:
    if not pairs:
        return ""
    with fresh_folder() as folder:
        try:
            return await _patch_in(folder, pairs, binary)
        except TimeoutError as error:
            raise ConfigError(
                f"git took more than {PATIENCE:g} s for the patch of {len(pairs)} files",
                next="leave the largest files out",
            ) from error


async def _patch_in(
    folder: Path, pairs: Sequence[tuple[_Version | None, _Version | None]], binary: bool
) -> str:
    await _ok(folder, "init", "--quiet", "--bare", "--template=", "--object-format=sha1", ".")
    sides = zip(_SIDES, ([pair[0] for pair in pairs], [pair[1] for pair in pairs]))
    stream = b"".join(_commit(ref, (v for v in side if v is not None)) for ref, side in sides)
    await _ok(folder, "fast-import", "--quiet", input=stream)
    attributes = folder / "attributes-of-ours"
    attributes.write_text("* -diff\n" if binary else "")
    option = f"core.attributesFile={attributes}"
    out = await _ok(folder, "diff-tree", *_DIFF, *_SIDES, option=option)
    return out.decode("utf-8", "replace")


async def _ok(folder: Path, *words: str, option: str = "gc.auto=0", input: bytes = b"") -> bytes:
    code, out, said = await git(folder, "-c", option, *words, input=input)
    if code != 0:
        raise failed(words[0], code, said)
    return out


def _commit(ref: str, versions: Iterable[_Version]) -> bytes:
    """One commit, as fast-import reads it; its files are in it as they are."""
    lines = [f"commit {ref}\ncommitter m <m> 0 +0000\ndata 0\n".encode()]
    for version in versions:
        lines.append(f"M {version.mode} inline ".encode() + _quoted(version.path) + b"\n")
        lines.append(f"data {len(version.content)}\n".encode() + version.content + b"\n")
    return b"".join(lines)


def _quoted(path: str) -> bytes:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return b'"' + os.fsencode(escaped) + b'"'
