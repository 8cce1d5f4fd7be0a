"""The workspace that all agents' work goes into: versions of it, each merged from the one before.

Invariants: a version is one event of the journal, made from the latest there is; two merges never
start from the same version; what cannot be merged is kept beside it, and nothing is overwritten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from manyhands.agents.workspace.ground import Ground
from manyhands.agents.workspace.tree import Tree
from manyhands.errors import JournalError
from manyhands.runtime import ArtifactStatus, Effect, Run
from manyhands.teams.code.merging import Conflict, Merged, merge
from manyhands.teams.code.records import Held, Merge

WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True)
class Merging:
    """What came of it. ``paths``: what the change touches; ``tree`` and ``version``: of the
    workspace, that it made (0: none)."""

    merge: Merge
    paths: tuple[str, ...] = ()
    held: Held | None = None
    tree: Tree = Tree()  # noqa: RUF009 - frozen
    version: int = 0


class Clash(BaseModel):
    """A file in which two changes conflict. ``marks``: how long those are that the places have in
    it; 0: it is as the workspace has it, and ``theirs`` names the other content (a blob; '': it
    has none)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    kind: str
    marks: int = 0
    theirs: str = ""


class _TakenUp(BaseModel):
    tree: Tree
    conflicts: tuple[Clash, ...]


@dataclass(slots=True)
class Trunk:
    """``ignored``: paths that are no part of anybody's work; ``protected``: that nobody may change.
    ``lock``: one merge at a time."""

    ground: Ground
    ignored: Callable[[str], bool]
    protected: Callable[[str], bool]
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def head(self, run: Run) -> Tree:
        """The latest version as of now (not journaled)."""
        found = run.newest(WORKSPACE)
        return Tree() if found is None else load(run, found.blob)

    async def start(self, run: Run, key: str) -> Tree:
        """The latest version, the same on replay."""
        return load(run, await run.step(key, lambda: self._blob(run), effect=Effect.PURE))

    def _blob(self, run: Run) -> str:
        found = run.newest(WORKSPACE)
        return "" if found is None else found.blob

    async def take(
        self, run: Run, start: Tree, end: Tree, *, hold: str = "", key: str = "held"
    ) -> Merging:
        """Merge the change from ``start`` to ``end`` into the latest version.

        ``hold``: why it shall be kept beside the workspace instead ('': it shall not), under
        ``key``.
        """
        changed = self.changed(start, end)
        if not changed:
            return Merging(Merge.NOTHING)
        if touched := [path for path in changed if self.protected(path)]:
            why = f"it changes protected files: {', '.join(touched[:20])}"
            return Merging(Merge.REFUSED, changed, await self._hold(run, key, start, end, why))
        if hold:
            return Merging(Merge.HELD, changed, await self._hold(run, key, start, end, hold))
        async with self._lock:
            if not run.known("merged") and not run.known(key):
                return await self._merge(run, key, changed, start, end)
        if run.known("merged"):
            return await self._put(run, Tree(), changed)
        held = await self._hold(run, key, start, end, "")
        return Merging(Merge.CONFLICT, changed, held)

    async def _merge(
        self, run: Run, key: str, changed: tuple[str, ...], start: Tree, end: Tree
    ) -> Merging:
        merged = await merge(
            self.ground, run.read_blob, start, self.head(run), end, ignored=self.ignored
        )
        if not merged.conflicts:
            await self._store(run, merged)
            return await self._put(run, merged.tree, changed)
        paths = tuple(conflict.path for conflict in merged.conflicts)
        told = ", ".join(f"{each.path} ({each.kind})" for each in merged.conflicts[:20])
        why = f"it conflicts with what others changed in {told}"
        held = await self._hold(run, key, start, end, why, paths)
        return Merging(Merge.CONFLICT, changed, held)

    async def _put(self, run: Run, tree: Tree, changed: tuple[str, ...]) -> Merging:
        """On replay, the version that was put."""
        content = tree.model_dump_json()
        put = await run.put(
            "merged", WORKSPACE, content, kind="tree", status=ArtifactStatus.ACCEPTED
        )
        return Merging(Merge.MERGED, changed, tree=load(run, put.blob), version=put.version)

    async def _store(self, run: Run, merged: Merged) -> None:
        for name, content in merged.contents.items():
            if await run.blob(content) != name:
                raise JournalError(
                    f"a merged file could not be kept as it is ({name}): it holds a secret",
                    next="take the secret out of the repository's files",
                )

    async def _hold(
        self,
        run: Run,
        key: str,
        start: Tree,
        end: Tree,
        why: str,
        conflicts: tuple[str, ...] = (),
    ) -> Held:
        """Keep the change as it is; on replay, as it was kept."""
        held = Held(
            start=await run.blob(start.model_dump_json().encode()),
            end=await run.blob(end.model_dump_json().encode()),
            conflicts=conflicts,
            why=why,
        )
        kept = await run.put(key, f"held/{run.path}", held.model_dump(), kind="change")
        return Held.model_validate_json(run.read_blob(kept.blob))

    async def taken_up(self, run: Run, held: Held) -> tuple[Tree, Tree, tuple[Clash, ...]]:
        """A state to go on from: the latest version with the change on top, with marks where the
        two conflict. Gives the version, that state and the conflicts; the same on replay."""
        head = await self.start(run, "start")
        key = "taken-up"
        if not run.known(key):
            start, end = load(run, held.start), load(run, held.end)
            merged = await merge(self.ground, run.read_blob, start, head, end, ignored=self.ignored)
            await self._store(run, merged)
            found = [_told(conflict) for conflict in merged.conflicts]
            content = {"tree": merged.marked.model_dump(mode="json"), "conflicts": found}
        else:
            content = {}
        put = await run.put(key, f"taken-up/{run.path}", content, kind="tree")
        kept = _TakenUp.model_validate_json(run.read_blob(put.blob))
        return head, kept.tree, kept.conflicts

    def changed(self, start: Tree, end: Tree) -> tuple[str, ...]:
        """The paths that differ, but for those that are nobody's work."""
        return tuple(path for path in end.since(start) if not self.ignored(path))


def _told(conflict: Conflict) -> Clash:
    return Clash(
        path=conflict.path,
        kind=conflict.kind,
        marks=conflict.marks,
        theirs=conflict.theirs.blob if conflict.theirs is not None else "",
    )


def load(run: Run, blob: str) -> Tree:
    return Tree.model_validate_json(run.read_blob(blob)) if blob else Tree()
