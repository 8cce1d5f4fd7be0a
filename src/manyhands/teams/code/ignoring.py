"""What takes no part in merges and diffs: git's own records, caches, what the repository ignores.

Invariants: a path is ignored where it or a folder that it lies in is, as for git; the rules are
those of one state, so that an agent cannot hide a change by a rule that comes with it; a rule that
would take long to match is not applied.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from manyhands.agents.workspace.ground import Read
from manyhands.agents.workspace.tree import Tree
from manyhands.errors import ConfigError
from manyhands.teams.code.states import ancestors, in_git, node_in

#: Folders and files that tools make for themselves, by name.
CACHES = frozenset(
    [
        "__pycache__",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        ".hypothesis",
        ".import_linter_cache",
        ".pytype",
        ".tox",
        ".nox",
        ".ipynb_checkpoints",
        ".parcel-cache",
        ".turbo",
        ".nyc_output",
        ".eslintcache",
        ".gradle",
        ".ccls-cache",
        ".DS_Store",
    ]
)
CACHED_ENDINGS = (".pyc", ".pyo")
#: Of one line of a `.gitignore`: each star multiplies what matching may cost.
MOST_STARS, MOST_CHARACTERS = 4, 400
#: Of one `.gitignore`.
MOST_LINES, MOST_BYTES = 2_000, 200_000


def ignored_by(
    base: Path,
    tree: Tree | None = None,
    read: Read | None = None,
    *,
    keep_git: bool = False,
    tracked: Collection[str] = (),
) -> Callable[[str], bool]:
    """Says of a path (a folder's may end in ``/``) whether it takes no part.

    The `.gitignore` files are those of ``base``, or of the state ``tree`` over it. ``tracked``:
    files that count whatever a rule says, as for git those in its index do. ``keep_git``: what is
    below `.git` counts.
    """
    rules = _Rules(base, tree or Tree(), read)
    counted = frozenset(tracked)

    def ignored(path: str) -> bool:
        if in_git(path):
            return not keep_git
        if path in counted:
            return False
        return _is_cache(path) or rules.ignore(path)

    return ignored


def _is_cache(path: str) -> bool:
    parts = path.rstrip("/").split("/")
    if any(part in CACHES for part in parts) or parts[-1].endswith(CACHED_ENDINGS):
        return True
    return any(a == "node_modules" and b == ".cache" for a, b in pairwise(parts))


class _Rules:
    """The `.gitignore` files of one state; each is read when a path below it is first asked for."""

    def __init__(self, base: Path, tree: Tree, read: Read | None) -> None:
        self._base, self._tree, self._read = base, tree, read
        self._known: dict[str, list[_Rule]] = {}
        self._folders: dict[str, bool] = {}

    def ignore(self, path: str) -> bool:
        bare = path.rstrip("/")
        if any(self._folder(above) for above in ancestors(bare)):
            return True
        return self._folder(bare) if path.endswith("/") else self._decide(bare, "")

    def _folder(self, folder: str) -> bool:
        if folder not in self._folders:
            self._folders[folder] = self._decide(folder, "/")
        return self._folders[folder]

    def _decide(self, path: str, end: str) -> bool:
        """The last line that says something of the path, in the nearest file, decides."""
        for where in ["", *ancestors(path)][::-1]:
            below = path[len(where) + 1 :] if where else path
            for rule in reversed(self._of(where)):
                if rule.matches(below, end):
                    return rule.include
        return False

    def _of(self, where: str) -> list[_Rule]:
        if where not in self._known:
            text = self._text(f"{where}/.gitignore" if where else ".gitignore")
            self._known[where] = _compiled(text) if text else []
        return self._known[where]

    def _text(self, path: str) -> str:
        node = self._tree.nodes.get(path)
        if node is None:
            found = node_in(self._base, path)
            is_file = found is not None and found.kind == "file" and found.size <= MOST_BYTES
            content = (self._base / path).read_bytes() if is_file else b""
        elif node.kind == "file" and self._read is not None and node.size <= MOST_BYTES:
            content = self._read(node.blob)
        else:
            content = b""
        return content.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class _Rule:
    """One line. ``spec`` matches what lies below a match, too; here only a path itself counts, for
    the folders on the way have been asked before.

    ``length``: of the paths that it can match, in components (0: any); ``last``: matches the last
    component (None: it may be any); ``name_only``: nothing but the last component counts.
    """

    spec: Any
    include: bool
    length: int
    last: Any
    name_only: bool

    def matches(self, path: str, end: str) -> bool:
        name = path.rpartition("/")[2]
        if self.name_only:
            return _says(self.spec, name + end)
        if self.length and path.count("/") + 1 != self.length:
            return False
        if self.last is None:
            return _says(self.spec, path + (end if self.length else ""))  # "a/**" is not "a/"
        return _says(self.spec, path + end) and _says(self.last, name)


def _says(spec: Any, path: str) -> bool:
    return spec.check_file(path).include is not None


def _compiled(text: str) -> list[_Rule]:
    try:
        pathspec: Any = importlib.import_module("pathspec")
    except ImportError as error:
        raise ConfigError(
            f"a .gitignore cannot be read: the package pathspec is missing ({error})",
            next="pip install 'manyhands[code]'",
        ) from error
    found: list[_Rule] = []
    for line in text.splitlines()[:MOST_LINES]:
        stars = len(re.findall(r"\*+", line))
        if line.strip() and stars <= MOST_STARS and len(line) <= MOST_CHARACTERS:
            with suppress(ValueError):  # no pattern, for git neither
                found += _rule(pathspec.GitIgnoreSpec.from_lines, line)
    return found


def _rule(compiled: Callable[[list[str]], Any], line: str) -> list[_Rule]:
    spec = compiled([line])
    includes = [p.include for p in spec.patterns if p.include is not None]
    if not includes:
        return []  # a comment
    bare = line.rstrip().removeprefix("!").rstrip("/")
    parts = bare.removeprefix("/").split("/")
    name_only = "/" not in bare
    free = "**" in parts
    last = compiled([parts[-1]]) if free and parts[-1] != "**" else None
    return [_Rule(spec, includes[0], 0 if free else len(parts), last, name_only)]
