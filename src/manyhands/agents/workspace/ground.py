"""Where workspaces come from: one base folder, sandboxes over it, and states restored in them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from manyhands.agents.workspace.tree import Tree
from manyhands.errors import SandboxError
from manyhands.ports import Sandbox, Sandboxes, SandboxLimits
from manyhands.runtime import Effect

#: Gives a blob's content.
Read = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Ground:
    """``base``: the folder that all states are told from; it must not change while a run needs it.

    ``contained``: nothing that a command does reaches beyond its sandbox, so that one that was cut
    off by a crash has left nothing, and may be run again from the state before it.
    """

    sandboxes: Sandboxes
    base: Path
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    place: str | None = None
    contained: bool = True

    @property
    def effect(self) -> Effect:
        """Of a command: what leaves no trace when it is cut off can be repeated."""
        return Effect.IDEMPOTENT if self.contained else Effect.ONCE

    @asynccontextmanager
    async def at(self, tree: Tree, read: Read, *, writable: bool = True) -> AsyncGenerator[Sandbox]:
        """A sandbox in the state ``tree``. Not ``writable``: what commands write there is scratch,
        and no part of any state."""
        async with self.sandboxes.open(
            self.base,
            writable=writable or bool(tree.nodes),
            limits=self.limits,
            env=self.env,
            place=self.place,
        ) as sandbox:
            await restore(sandbox, tree, read)
            if writable or not tree.nodes:
                yield sandbox
                return
            async with sandbox.fork(writable=False) as scratch:
                yield scratch

    def plain(self, path: str) -> str:
        """A path without the place of the workspace in front of it, wherever a sandbox has put
        the workspace; any other as it is."""
        place = (self.place or str(self.base)).rstrip("/")
        found = "/" + posixpath.normpath(path).lstrip("/") if path.startswith("/") else path
        return found[len(place) + 1 :] or "." if f"{found}/".startswith(f"{place}/") else path

    def content(self, tree: Tree, path: str, read: Read) -> bytes | None:
        """Of a regular file in that state; None: there is none, or it is a link."""
        node = tree.nodes.get(path)
        if node is not None:
            return read(node.blob) if node.kind == "file" else None
        try:
            if _leads_out(self.base, path) or not (self.base / path).is_file():
                return None
            return (self.base / path).read_bytes()
        except (OSError, ValueError):  # a name that no file can have, or one that is not readable
            return None


def _leads_out(base: Path, path: str) -> bool:
    """Whether it is absolute or a link is on the way: that is none of the workspace's content."""
    parts = path.split("/")
    return not _is_inner(path) or any(
        (base / Path(*parts[:n])).is_symlink() for n in range(1, len(parts) + 1)
    )


def _is_inner(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/")


async def restore(sandbox: Sandbox, tree: Tree, read: Read) -> None:
    """Bring a sandbox that is in the base's state into the state ``tree``.

    Whatever the base has at a path that the tree names is taken away first, for a folder may be
    where a file comes, or a link that a write would go along.
    """
    if outer := [path for path in tree.nodes if not _is_inner(path)]:
        raise SandboxError(
            f"a workspace's state names {outer[0]!r}, which is not in it",
            next="is the journal damaged? `manyhands export` shows the run",
        )
    tree = tree.after({})  # in order: what is above comes first
    folders = {path: node.mode for path, node in tree.nodes.items() if node.kind == "folder"}
    made = {path: mode for path, mode in folders.items() if mode}
    await _each(sandbox, "rm -rf --", [path for path in tree.nodes if folders.get(path, 1)])
    await _each(sandbox, "rmdir --", [p for p in above(tree) if p not in folders], failing=True)
    for path, node in tree.nodes.items():
        if node.kind == "file":
            await sandbox.write(path, read(node.blob), mode=node.mode)
    links = [(node.link, path) for path, node in tree.nodes.items() if node.kind == "link"]
    around = {os.path.dirname(path) for _, path in links} - {""}
    await _each(sandbox, "mkdir -p --", sorted({*folders, *around}))
    modes = [word for path, mode in made.items() for word in (f"{mode:o}", path)]
    await _each(sandbox, "chmod --", modes, "-n 2")
    await _each(sandbox, "ln -sfnT --", [word for link in links for word in link], "-n 2")


def above(tree: Tree) -> list[str]:
    """The folders that files are gone from, the innermost first: those that are empty now went
    with them, unless the tree names them."""
    gone = [path for path, node in tree.nodes.items() if node.kind == "gone"]
    found = {folder for path in gone for folder in map(str, PurePosixPath(path).parents)} - {"."}
    return sorted(found, key=lambda path: (-path.count("/"), path))


async def emptied(sandbox: Sandbox, tree: Tree) -> list[str]:
    """The folders of the base that are there still, with nothing in them."""
    elsewhere = {path for path, node in tree.nodes.items() if node.kind in ("link", "file")}
    folders = [
        path
        for path in above(tree)
        if not elsewhere & {path, *map(str, PurePosixPath(path).parents)}
    ]
    if not folders:
        return []
    printed = bytearray()
    find = 'for each; do find "./$each" -maxdepth 0 -type d -empty -print0 2>/dev/null; done; :'
    given = b"".join(os.fsencode(path) + b"\0" for path in folders)
    command = ["xargs", "-0", "sh", "-c", find, "sh"]
    await sandbox.exec(command, stdin=given, on_output=printed.extend)
    return [os.fsdecode(each)[2:] for each in bytes(printed).split(b"\0") if each]


async def _each(
    sandbox: Sandbox, command: str, words: Sequence[str], at_once: str = "", failing: bool = False
) -> None:
    if not words:
        return
    given = b"".join(os.fsencode(word) + b"\0" for word in words)
    done = await sandbox.exec(f"xargs -0 {at_once} {command}", stdin=given)
    if done.killed is not None or (done.code != 0 and not failing):
        told = done.output.decode("utf-8", "replace").strip()
        raise SandboxError(
            f"a workspace could not be restored: {command} ended with {done.code}: {told[:300]}",
            next="read the sandbox's limits, then resume the run",
        )
