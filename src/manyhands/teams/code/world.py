"""What a coder's tools change, for a person who drives in its place: its workspace."""

from __future__ import annotations

from dataclasses import dataclass, field

from manyhands.agents.workspace.ground import Read
from manyhands.agents.workspace.tree import Tree
from manyhands.agents.workspace.workspace import Workspace
from manyhands.teams.code.patches import unified_diff
from manyhands.teams.code.states import Ignored


@dataclass
class CodersWorld:
    """A `World`. States are named by their tree's hash; from one to another leads a patch."""

    workspace: Workspace
    read: Read
    ignored: Ignored
    _seen: dict[str, Tree] = field(default_factory=dict[str, Tree])

    def state(self) -> str:
        tree = self.workspace.tree
        self._seen[tree.hash] = tree
        return tree.hash

    async def difference(self, before: str) -> str:
        start = self._seen[before]
        ground, tree = self.workspace.ground, self.workspace.tree
        return await unified_diff(ground, self.read, start, tree, self.ignored)
