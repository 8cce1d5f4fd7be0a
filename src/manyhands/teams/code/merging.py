"""Three-way merge of workspace states: what a coder changed goes into the workspace as it is now.

Invariants: a change is in the merged state or its path is among the conflicts; where there is a
conflict the merged state has what the workspace had; what is ignored has no part in it, but for
what has to go with a folder whose place a file takes. Nothing is stored here, and no agent's words
reach git's command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from manyhands.agents.workspace.ground import Ground, Read
from manyhands.agents.workspace.tree import Node, Tree, blob_name
from manyhands.teams.code.conflicts import (
    BEFORE,
    OURS,
    THEIRS,
    Conflict,
    ConflictKind,
    marker_size,
)
from manyhands.teams.code.git_alone import failed, fresh_folder, git
from manyhands.teams.code.states import Ignored, States, ancestors, with_nodes

__all__ = ["Conflict", "ConflictKind", "Merged", "merge"]


@dataclass(frozen=True, slots=True)
class Merged:
    """``tree``: the merged state, with ``ours`` where there is a conflict. ``marked``: the same,
    but with marks in the text files that conflict. ``contents``: blobs that either of them names
    and that may not be stored yet."""

    tree: Tree
    marked: Tree
    contents: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    conflicts: tuple[Conflict, ...] = ()


async def merge(
    ground: Ground, read: Read, start: Tree, ours: Tree, theirs: Tree, *, ignored: Ignored
) -> Merged:
    """``start``: what a coder began from, ``ours``: the workspace now, ``theirs``: the coder's
    end. Raises `ConfigError` where git cannot be run."""
    with fresh_folder() as folder:
        merging = _Merging(States(ground, read), start, ours, theirs, ignored, folder)
        for change in merging.states.changed(start, theirs, ignored):
            await merging.take(change.path, change.before, change.after)
    merging.make_way()
    merging.part_files_from_folders()
    return merging.done()


@dataclass(slots=True)
class _Merging:
    """``nodes``: what is taken into ``ours``, by path. ``marks``: files with marks."""

    states: States
    start: Tree
    ours: Tree
    theirs: Tree
    ignored: Ignored
    folder: Path
    nodes: dict[str, Node | None] = field(default_factory=dict[str, "Node | None"])
    marks: dict[str, Node] = field(default_factory=dict[str, Node])
    contents: dict[str, bytes] = field(default_factory=dict[str, bytes])
    conflicts: dict[str, Conflict] = field(default_factory=dict[str, Conflict])

    async def take(self, path: str, before: Node | None, other: Node | None) -> None:
        """One path that theirs has changed."""
        mine = self.states.node(self.ours, path)
        if mine == before:
            self.nodes[path] = other
        elif mine == other:
            return
        elif _may_be_folder(mine) and _may_be_folder(other):
            self.nodes[path] = mine or other  # an empty folder and none are no conflict
        elif mine is None or other is None:
            self._conflict(path, ConflictKind.DELETED)
        elif mine.kind != other.kind:
            is_folder = "folder" in (mine.kind, other.kind)
            self._conflict(path, ConflictKind.FOLDER if is_folder else ConflictKind.KIND)
        elif mine.kind == "link":
            self._conflict(path, ConflictKind.LINK)
        else:
            await self._files(path, before, mine, other)

    async def _files(self, path: str, before: Node | None, mine: Node, other: Node) -> None:
        """Content and mode, each by itself."""
        if before is not None and before.kind != "file":
            before = None
        content = await self._content(path, before, mine, other)
        if content is None:
            return
        mode = _mode(before, mine, other)
        node = self._node(content, mine.mode if mode is None else mode)
        if mode is None:
            self._conflict(path, ConflictKind.MODE)
            self.marks[path] = node
        else:
            self.nodes[path] = node

    async def _content(
        self, path: str, before: Node | None, mine: Node, other: Node
    ) -> bytes | None:
        """None: there is a conflict, and it was noted."""
        states = self.states
        if mine.blob == other.blob or (before is not None and before.blob == other.blob):
            return states.content(self.ours, path)
        if before is not None and before.blob == mine.blob:
            return states.content(self.theirs, path)
        was = b"" if before is None else states.content(self.start, path)
        texts = (states.content(self.ours, path), was, states.content(self.theirs, path))
        if any(b"\0" in text for text in texts):
            return self._conflict(path, ConflictKind.BINARY)
        size = marker_size(texts)
        try:
            clean, merged = await self._merge_file(size, *texts)
        except TimeoutError:
            return self._conflict(path, ConflictKind.BINARY)
        if clean:
            return merged
        kind = ConflictKind.ADDED if before is None else ConflictKind.TEXT
        self._conflict(path, kind, merged, size)
        mode = _mode(before, mine, other)
        self.marks[path] = self._node(merged, mine.mode if mode is None else mode)
        return None

    async def _merge_file(
        self, size: int, ours: bytes, before: bytes, theirs: bytes
    ) -> tuple[bool, bytes]:
        for name, content in (("ours", ours), ("before", before), ("theirs", theirs)):
            (self.folder / name).write_bytes(content)
        words = ["merge-file", "-p", "--diff3", f"--marker-size={size}"]
        words += [word for label in (OURS, BEFORE, THEIRS) for word in ("-L", label)]
        code, merged, said = await git(self.folder, *words, "ours", "before", "theirs")
        if not 0 <= code < 128:
            raise failed("merge-file", code, said)
        return code == 0, merged

    def _node(self, content: bytes, mode: int) -> Node:
        blob = blob_name(content)
        self.contents[blob] = content
        return Node(kind="file", mode=mode, size=len(content), blob=blob)

    def _conflict(self, path: str, kind: ConflictKind, marked: bytes = b"", marks: int = 0) -> None:
        self.conflicts[path] = Conflict(
            path=path,
            kind=kind,
            theirs=self.states.node(self.theirs, path),
            text=marked.decode("utf-8", "replace"),
            marks=marks,
        )

    def make_way(self) -> None:
        """What is ignored goes with the folder whose place a file or a link takes."""
        files = {path for path, node in self.nodes.items() if _is_file(node)}
        below = [path for path in self.ours.nodes if not files.isdisjoint(ancestors(path))]
        below += [path for file in files for path in _files_below(self.states, file)]
        for path in below:
            if path not in self.nodes and self.ignored(path):
                self.nodes[path] = None

    def part_files_from_folders(self) -> None:
        """Where one side has a file and the other a folder in its place, ours stays as a whole."""
        seen: set[str] = set()
        while root := next((r for r in self._clashes() if r not in seen), None):
            seen.add(root)
            for path in [p for p in self.nodes if p == root or p.startswith(f"{root}/")]:
                del self.nodes[path]
                if not self.ignored(path):
                    self._conflict(path, ConflictKind.FOLDER)
            for path in [p for p in self.marks if p.startswith(f"{root}/")]:
                del self.marks[path]

    def _clashes(self) -> Iterator[str]:
        """Files and links that something lies below of, the outermost first."""
        tree = with_nodes(self.states, self.ours, self.nodes)
        above = {a for p, node in tree.nodes.items() if node.kind != "gone" for a in ancestors(p)}
        for path in sorted(above, key=lambda each: (each.count("/"), each)):
            if _is_file(self.states.node(tree, path)):
                yield path

    def done(self) -> Merged:
        tree = self._without_full_folders(with_nodes(self.states, self.ours, self.nodes))
        marked = with_nodes(self.states, tree, self.marks)
        named = {node.blob for each in (tree, marked) for node in each.nodes.values()}
        return Merged(
            tree=tree,
            marked=marked,
            contents={blob: self.contents[blob] for blob in sorted(named & self.contents.keys())},
            conflicts=tuple(self.conflicts[path] for path in sorted(self.conflicts)),
        )

    def _without_full_folders(self, tree: Tree) -> Tree:
        """A folder is named only where it is empty."""
        there = {path: node for path, node in tree.nodes.items() if node.kind != "gone"}
        full = {above for path in there for above in ancestors(path)}
        found = [path for path, node in there.items() if node.kind == "folder" and path in full]
        return with_nodes(self.states, tree, dict.fromkeys(found))


def _is_file(node: Node | None) -> bool:
    return node is not None and node.kind in ("file", "link")


def _may_be_folder(node: Node | None) -> bool:
    return node is None or node.kind == "folder"


def _mode(before: Node | None, mine: Node, other: Node) -> int | None:
    """None: both sides have changed it, to different ones."""
    if mine.mode == other.mode or (before is not None and before.mode == other.mode):
        return mine.mode
    return other.mode if before is not None and before.mode == mine.mode else None


def _files_below(states: States, path: str) -> Iterator[str]:
    """Files and links that the base has in the folder ``path``."""
    base = states.ground.base
    where = base / path
    if not where.is_dir() or any((base / a).is_symlink() for a in [*ancestors(path), path]):
        return
    for each in sorted(where.iterdir()):
        below = f"{path}/{each.name}"
        if each.is_dir() and not each.is_symlink():
            yield from _files_below(states, below)
        else:
            yield below
