"""What can be cited: a folder's documents, and what a run has fetched itself.

Invariant: an id names one passage, whichever shelf it stands on; what a run fetches stays with that
run and never gets among the documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from manyhands.ports import Library, Passage


@dataclass(frozen=True, slots=True)
class Shelves:
    """``documents``: None where the user gave none. ``fetched``: pages and tools' results."""

    fetched: Library
    documents: Library | None = None

    async def search(self, query: str, limit: int) -> list[Passage]:
        """The best of both, taken in turn: their scores do not compare."""
        theirs = await self.documents.search(query, limit) if self.documents else []
        ours = await self.fetched.search(query, limit)
        return _in_turn(theirs, ours)[:limit]

    async def read(self, id: str) -> Passage | None:
        found = await self.documents.read(id) if self.documents else None
        return found or await self.fetched.read(id)

    async def source(self, name: str) -> list[Passage]:
        found = await self.documents.source(name) if self.documents else []
        return found or await self.fetched.source(name)

    async def passages(self, ids: Iterable[str]) -> dict[str, Passage | None]:
        return {id: await self.read(id) for id in dict.fromkeys(ids)}


def _in_turn(first: list[Passage], second: list[Passage]) -> list[Passage]:
    longest = max(len(first), len(second))
    pairs = [row[at : at + 1] for at in range(longest) for row in (first, second)]
    return [passage for row in pairs for passage in row]
