"""The context store: what the tasks of one order found out, versioned, with what it rests on.

Invariants: every item is an artifact, and every decision about it a step or a mark of the journal,
so a replay has an equal store in whatever order its tasks come to it; nothing is dropped or
silently overwritten: what repeats or contradicts another item is kept and shown as such; an item
whose file has changed is stale from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from manyhands.errors import ToolError
from manyhands.runtime import ArtifactStatus, Effect, Evidence, Run
from manyhands.teams.code.items import (
    PREFIX,
    RANKS,
    Added,
    Entry,
    Judgement,
    Offer,
    Relation,
    Stale,
)
from manyhands.teams.code.judging import differs, judge, made_stale
from manyhands.teams.code.shelf import Shelf

__all__ = ["Added", "Entry", "Offer", "Relation", "Store"]


@dataclass(frozen=True, slots=True)
class _File:
    """The last that was heard of a file. ``version``: of the workspace."""

    version: int
    hash: str | None
    since: str


@dataclass(slots=True)
class Store(Shelf):
    """Equal to another where all items are, and what was last heard of the files.

    Calls may come from several tasks at once. On replay they may come in another order: a decision
    about an item then waits until that item is there again.
    """

    files: dict[str, _File] = field(default_factory=dict[str, _File])
    _changing: asyncio.Condition = field(
        default_factory=asyncio.Condition, compare=False, repr=False
    )

    async def add(self, run: Run, key: str, offer: Offer, producer: str) -> Added:
        """Keep what a task offers, and say what it is to the items there are.

        A task's own item with the same id is superseded; another task's is so only by
        ``supersedes``. Raises `ToolError`, with nothing kept, where that names no item.
        """
        async with self._changing:
            found: Judgement = await run.step(
                key, self._judge, offer, producer, effect=Effect.PURE, returns=Judgement
            )
            if found.refused:
                raise ToolError(found.refused, next=found.next)
            entry = await self._put(run, f"{key}-put", offer, producer, found)
            for ref in found.supersedes:
                why = f"by {entry.ref} of {producer}"
                await self._mark(run, f"{key}-over-{ref}", ref, ArtifactStatus.SUPERSEDED, why)
            if found.stale:
                mark = (f"{key}-stale", entry.ref, ArtifactStatus.STALE, found.stale)
                await self._mark(run, *mark)
        return Added(
            ref=entry.ref,
            version=entry.version,
            supersedes=found.supersedes,
            duplicates=found.duplicates,
            contradicts=found.contradicts,
            stale=found.stale,
        )

    def _judge(self, offer: Offer, producer: str) -> Judgement:
        return judge(self, offer, producer, self._is_other)

    def _is_other(self, evidence: Evidence) -> str:
        """It may have been taken from an older state of the workspace than the latest."""
        known = self.files.get(evidence.source)
        return differs(evidence, known.hash, known.since) if known else ""

    async def _put(
        self, run: Run, key: str, offer: Offer, producer: str, found: Judgement
    ) -> Entry:
        """The journal's own content is the entry's: secrets are not in it."""
        noted = [Evidence(kind="task", source=producer)]
        noted += [Evidence(kind="supersedes", source=ref) for ref in found.supersedes]
        artifact = await run.put(
            key,
            f"{PREFIX}{offer.id}",
            offer.content,
            kind=offer.kind,
            evidence=[*offer.evidence, *noted],
        )
        entry = Entry(
            id=offer.id,
            version=artifact.version,
            kind=offer.kind,
            content=run.read_blob(artifact.blob).decode(),
            producer=producer,
            agent=artifact.producer,
            seq=artifact.seq,
            blob=artifact.blob,
            evidence=offer.evidence,
            duplicates=found.duplicates,
            contradicts=found.contradicts,
        )
        self.entries[entry.ref] = entry
        self._changing.notify_all()
        return entry

    async def refresh(
        self,
        run: Run,
        key: str,
        changed: Mapping[str, str | None],
        *,
        version: int,
        since: str,
    ) -> tuple[str, ...]:
        """Mark what rests on a file that is now another one: ``changed`` is path -> its hash in
        this ``version`` of the workspace (None: it is gone), as `states.hashes` gives it.
        ``since``: whose change that was.

        Versions may be told in any order: what is known of a later one stays. Gives the items that
        became stale; so does a replay, whatever it asks.
        """
        async with self._changing:
            new = {path: hash for path, hash in changed.items() if self._is_newer(path, version)}
            found: Stale = await run.step(
                key,
                lambda: Stale(items=made_stale(self, new, since)),
                effect=Effect.PURE,
                returns=Stale,
            )
            self.files |= {path: _File(version, hash, since) for path, hash in new.items()}
            for ref, why in found.items.items():
                await self._mark(run, f"{key}-stale-{ref}", ref, ArtifactStatus.STALE, why)
        return tuple(found.items)

    def _is_newer(self, path: str, version: int) -> bool:
        known = self.files.get(path)
        return known is None or known.version < version

    async def _mark(
        self, run: Run, key: str, ref: str, status: ArtifactStatus, reason: str
    ) -> None:
        await self._changing.wait_for(lambda: ref in self.entries)
        id, _, version = ref.rpartition("@")
        await run.mark(key, f"{PREFIX}{id}", int(version), status, reason)
        self._set(ref, status, reason)

    def _set(self, ref: str, status: ArtifactStatus, reason: str) -> None:
        entry = self.entries[ref]
        if RANKS[status] >= RANKS[entry.status]:
            self.entries[ref] = entry.model_copy(update={"status": status, "reason": reason})
