"""What is at a path in a state of the workspace, whether the state names it or the base has it.

Invariants: nothing is looked at through a link; two states are compared by what is there, so a path
that one state names and another has from the base is equal where content, kind and mode are.
Folders are not content: an empty one that a state names is there, one of the base is not listed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from manyhands.agents.workspace.ground import Ground, Read
from manyhands.agents.workspace.tree import GONE, Node, Tree, blob_name

Ignored = Callable[[str], bool]

#: Of a mode, all that is ever compared or set.
PERMISSIONS = 0o777


@dataclass(frozen=True, slots=True)
class Changed:
    """One path that differs between two states; None: nothing is there."""

    path: str
    before: Node | None
    after: Node | None


@dataclass(frozen=True, slots=True)
class States:
    """Looks into states of one ground; what the base has is read and hashed once for each path."""

    ground: Ground
    read: Read
    _base: dict[str, Node | None] = field(default_factory=dict[str, "Node | None"])

    def node(self, tree: Tree, path: str) -> Node | None:
        """What is there in that state; None: nothing, or a folder of the base."""
        found = tree.nodes.get(path)
        if found is not None:
            return None if found.kind == "gone" else found
        return self.of_base(path)

    def of_base(self, path: str) -> Node | None:
        if path not in self._base:
            self._base[path] = node_in(self.ground.base, path)
        return self._base[path]

    def content(self, tree: Tree, path: str) -> bytes:
        """Of a regular file, or where a link leads; nothing of all else."""
        node = self.node(tree, path)
        if node is not None and node.kind == "link":
            return os.fsencode(node.link)
        return self.ground.content(tree, path, self.read) or b""

    def named(self, path: str, node: Node | None) -> Node | None:
        """How a tree names that ``node`` is at ``path``; None: it does not, the base has it so."""
        if node == self.of_base(path):
            return None
        return GONE if node is None else node

    def changed(self, start: Tree, end: Tree, ignored: Ignored) -> list[Changed]:
        """What differs from ``start`` to ``end``, in order of the paths."""
        paths = [path for path in end.since(start) if not ignored(path)]
        found = [Changed(p, self.node(start, p), self.node(end, p)) for p in sorted(paths)]
        return [each for each in found if each.before != each.after]


def hashes(ground: Ground, read: Read, tree: Tree, paths: Iterable[str]) -> dict[str, str | None]:
    """Path -> the hash of what is there (of a link: of where it leads); None: nothing is."""
    states = States(ground, read)
    return {path: hash_of(states.node(tree, path)) for path in paths}


def hash_of(node: Node | None) -> str | None:
    if node is None or node.kind not in ("file", "link"):
        return None
    return node.blob if node.kind == "file" else blob_name(os.fsencode(node.link))


def node_in(folder: Path, path: str) -> Node | None:
    """The file or link at ``path`` of a folder on disk; None: none, or only along a link."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return None
    where = folder
    for part in parts[:-1]:
        where = where / part
        if where.is_symlink():
            return None
    where = where / parts[-1]
    try:
        status = os.lstat(where)
        if stat.S_ISLNK(status.st_mode):
            return link_node(os.readlink(where))
        if not stat.S_ISREG(status.st_mode):
            return None
        content = where.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    mode = stat.S_IMODE(status.st_mode)
    return Node(kind="file", mode=mode, size=len(content), blob=blob_name(content))


def link_node(target: str) -> Node:
    """What is no UTF-8 is told as escapes: it can be compared, and no state can name it."""
    return Node(kind="link", link=os.fsencode(target).decode("utf-8", "backslashreplace"))


def in_git(path: str) -> bool:
    """Whether it is part of a repository's own records, which can hold programs that git runs."""
    return any(part.casefold() == ".git" for part in path.split("/"))


def ancestors(path: str) -> list[str]:
    """The folders that ``path`` lies in, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def with_nodes(states: States, tree: Tree, nodes: Mapping[str, Node | None]) -> Tree:
    """``tree`` with ``nodes`` at their paths (None: nothing there), named as briefly as can be."""
    return tree.after({path: states.named(path, node) for path, node in nodes.items()})
