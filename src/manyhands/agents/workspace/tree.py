"""A state of a workspace, as what differs from the folder that it began as.

Invariant: a tree names contents by their hash, so it is small, comparable and survives every
process; the contents are blobs of the journal. What a tree does not name is as in the base.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Node(BaseModel):
    """What is at a path. ``blob``: of a file's content; ``link``: where a symlink leads; ``gone``:
    the base has a file there, and this state has not. ``folder``: an empty one, that is new or
    (with mode 0) the base's own, which is there still without what was in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["file", "link", "folder", "gone"]
    mode: int = 0
    size: int = 0
    blob: str = ""
    link: str = ""


GONE = Node(kind="gone")

#: Path -> what is there now; None: what the base has there.
Delta = dict[str, Node | None]


class Tree(BaseModel):
    """``nodes``: path (relative, POSIX) -> what is there. Paths that are not named are the base's.

    Two states with equal contents are equal trees.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: dict[str, Node] = Field(default_factory=dict)

    def after(self, delta: Mapping[str, Node | None]) -> Tree:
        """This state with ``delta`` applied."""
        nodes = {**self.nodes, **delta}
        return Tree(nodes={path: node for path, node in sorted(nodes.items()) if node is not None})

    def since(self, earlier: Tree) -> Delta:
        """What has changed from ``earlier`` to this state; ``earlier.after(it) == self``."""
        paths = sorted(earlier.nodes.keys() | self.nodes.keys())
        mine, theirs = self.nodes.get, earlier.nodes.get
        return {path: mine(path) for path in paths if mine(path) != theirs(path)}

    @property
    def hash(self) -> str:
        return blob_name(self.model_dump_json().encode())


def blob_name(content: bytes) -> str:
    """The name under which the journal keeps these bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
