"""What earlier runs found out, kept per project: one JSON file for each finding.

Invariants: only a finding that an answer was given with is kept, with its evidence and date; one
whose source has changed is marked stale and not recalled; what is recalled is data with its origin,
never an instruction. Files are written whole or not at all, so any process may read at any time.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from manyhands.agents.context import Item
from manyhands.errors import ConfigError
from manyhands.runtime import Run
from manyhands.teams.answer.claims import Finding
from manyhands.teams.answer.records import Record
from manyhands.teams.answer.shelves import Shelves
from manyhands.teams.answer.wording import content_of

FOLDER = ".manyhands/memory"


class Remembered(Record):
    """``hashes``: passage -> hash of its source when it was kept. ``date``: ISO, UTC.

    ``stale``: why it does not hold any more ('': it does, as far as is known).
    """

    id: str
    finding: Finding
    question: str
    run: str
    date: str
    hashes: dict[str, str]
    stale: str = ""


class Memory:
    """The findings of the project in this folder."""

    def __init__(self, project: Path) -> None:
        self._folder = project / FOLDER

    def all(self) -> list[Remembered]:
        """Every finding, newest first; a file that is not one is left alone."""
        found = [each for path in sorted(self._folder.glob("*.json")) if (each := _read(path))]
        return sorted(found, key=lambda each: (each.date, each.id), reverse=True)

    def get(self, id: str) -> Remembered:
        """By its id or the beginning of it. Raises `ConfigError`."""
        found = [each for each in self.all() if id and each.id.startswith(id)]
        if len(found) == 1:
            return found[0]
        raise ConfigError(
            f"{len(found)} findings in {self._folder} begin with {id!r}",
            next="manyhands memory list",
        )

    def forget(self, id: str) -> Remembered:
        """Raises `ConfigError` where there is none."""
        found = self.get(id)
        (self._folder / f"{found.id}.json").unlink(missing_ok=True)
        return found

    def search(self, query: str, limit: int) -> list[Remembered]:
        """Those that share words with the query, the rarer the better; the best first."""
        known = self.all()
        said = {each.id: content_of(each.finding.text) for each in known}
        about = {each.id: said[each.id] | content_of(each.question) for each in known}
        rarity = Counter(word for found in about.values() for word in found)
        asked = content_of(query)

        def score(each: Remembered) -> float:
            """What it says counts in full, what was asked for half."""
            shared = asked & about[each.id]
            rare = {word: math.log(1 + len(known) / rarity[word]) for word in shared}
            return sum(rare[word] / (1 if word in said[each.id] else 2) for word in shared)

        ranked = sorted(known, key=score, reverse=True)
        return [each for each in ranked[:limit] if score(each) > 0]

    async def refresh(self, shelves: Shelves) -> int:
        """Mark what has lost its source; how many were marked."""
        marked = 0
        for each in self.all():
            why = "" if each.stale else await _stale(each, shelves)
            if why:
                self._write(each.model_copy(update={"stale": why}))
                marked += 1
        return marked

    async def recall(self, shelves: Shelves, question: str, limit: int) -> list[Item]:
        """What bears on the question and holds, as material for an agent."""
        await self.refresh(shelves)
        found = [each for each in self.search(question, limit * 2) if not each.stale][:limit]
        return [
            Item("remembered", _told(each), f"memory:{each.id}", f"run {each.run}")
            for each in found
        ]

    async def keep(
        self, run: Run, question: str, findings: Iterable[Finding], shelves: Shelves
    ) -> None:
        """Keep the cited ones among them, once."""
        cited = [finding for finding in findings if finding.citations]
        now = await run.now("remembered-at")
        date = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")

        async def write() -> list[str]:
            return [
                self._write(
                    Remembered(
                        id=_id(finding),
                        finding=finding,
                        question=question,
                        run=run.id,
                        date=date,
                        hashes=await _hashes(finding, shelves),
                    )
                )
                for finding in cited
            ]

        await run.step("remember", write)

    def _write(self, each: Remembered) -> str:
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(each.model_dump_json(indent=2) + "\n")
        Path(name).replace(self._folder / f"{each.id}.json")
        return each.id


def _read(path: Path) -> Remembered | None:
    try:
        return Remembered.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def _id(finding: Finding) -> str:
    return hashlib.sha256(finding.model_dump_json().encode()).hexdigest()[:12]


def _told(each: Remembered) -> str:
    cited = "\n".join(f"[{c.passage}] {c.quote!r}" for c in each.finding.citations)
    return f"{each.finding.text}\n{cited}\n(kept {each.date}; read the passage before you cite it)"


async def _hashes(finding: Finding, shelves: Shelves) -> dict[str, str]:
    passages: Sequence[str] = [citation.passage for citation in finding.citations]
    found = await shelves.passages(passages)
    return {id: passage.hash for id, passage in found.items() if passage is not None}


async def _stale(each: Remembered, shelves: Shelves) -> str:
    """A page of the web cannot be looked up here: it counts as unchanged."""
    for id, known in each.hashes.items():
        if "://" in id:
            continue
        passage = await shelves.read(id)
        if passage is None:
            return f"{id} is not there any more"
        if passage.hash != known:
            return f"the source of {id} has changed"
    return ""
