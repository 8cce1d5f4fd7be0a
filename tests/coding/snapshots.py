"""States of a workspace as plain dictionaries, and ways to and from trees and folders.

A model of its own: nothing here uses the code that is tested but for the types `Node` and `Tree`.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

from manyhands.agents.workspace.ground import Ground
from manyhands.agents.workspace.tree import GONE, Node, Tree, blob_name


class There(NamedTuple):
    """A file (``mode`` > 0) or a link (0) and its content or where it leads."""

    content: bytes
    mode: int = 0o644


Snapshot = dict[str, There]


def link(to: str) -> There:
    return There(os.fsencode(to), 0)


class Blobs(dict[str, bytes]):
    """What a journal would keep. `read` gives nothing that was not put."""

    def put(self, content: bytes) -> str:
        name = blob_name(content)
        self[name] = content
        return name

    def read(self, name: str) -> bytes:
        return self[name]


def ground_over(folder: Path) -> Ground:
    nothing: Any = None
    return Ground(nothing, folder)


def write(folder: Path, snapshot: Snapshot) -> Path:
    for path, there in snapshot.items():
        where = folder / path
        where.parent.mkdir(parents=True, exist_ok=True)
        if there.mode == 0:
            where.symlink_to(os.fsdecode(there.content))
        else:
            where.write_bytes(there.content)
            where.chmod(there.mode)
    return folder


def read(folder: Path) -> Snapshot:
    found: Snapshot = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        name = path.relative_to(folder).as_posix()
        if stat.S_ISLNK(status.st_mode):
            found[name] = link(os.readlink(path))
        elif stat.S_ISREG(status.st_mode):
            found[name] = There(path.read_bytes(), stat.S_IMODE(status.st_mode))
    return found


def tree_of(base: Snapshot, now: Snapshot, blobs: Blobs) -> Tree:
    """As a workspace would name the state ``now`` over ``base``."""
    nodes: dict[str, Node] = {}
    for path in sorted(base.keys() | now.keys()):
        there = now.get(path)
        if there == base.get(path):
            continue
        if there is None:
            nodes[path] = GONE
        elif there.mode == 0:
            nodes[path] = Node(kind="link", link=os.fsdecode(there.content))
        else:
            blob = blobs.put(there.content)
            size = len(there.content)
            nodes[path] = Node(kind="file", mode=there.mode, size=size, blob=blob)
    return Tree(nodes=nodes)


def snapshot_of(base: Snapshot, tree: Tree, blobs: Blobs) -> Snapshot:
    found = dict(base)
    for path, node in tree.nodes.items():
        found.pop(path, None)
        if node.kind == "file":
            found[path] = There(blobs.read(node.blob), node.mode)
        elif node.kind == "link":
            found[path] = link(node.link)
    return found


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def nothing_ignored(path: str) -> bool:
    return False
