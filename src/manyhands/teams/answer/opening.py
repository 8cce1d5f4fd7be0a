"""Before the work: the index is brought up to date, and what is remembered is looked up."""

from __future__ import annotations

from functools import partial

from manyhands.agents.context import Item
from manyhands.ports import Indexed
from manyhands.runtime import Run
from manyhands.teams.answer.case import Case

#: Findings of earlier runs that are recalled.
MOST_RECALLED = 8

#: Tools that tell nothing of the world: with these alone an answer rests on the model.
NO_SOURCES = frozenset({"now", "python"})


async def prepare(run: Run, case: Case) -> None:
    """What there is to read and to remember, journaled: a replay sees the same."""
    case.notes += case.desk.notes
    documents = case.desk.shelves.documents
    if documents is not None:
        found: Indexed = await run.step("index", documents.refresh, returns=Indexed)
        about = {"files": found.files, "passages": found.passages, "changed": found.changed}
        await run.record("indexed", "answer:index", about)
        case.notes += [f"Not read: {path} ({why})" for path, why in found.unreadable]
        case.checked = found.passages > 0
    case.checked |= case.desk.fetcher is not None or bool(set(case.desk.tools.tools) - NO_SOURCES)
    if case.desk.memory is not None:
        recall = partial(case.desk.memory.recall, case.desk.shelves)
        told: list[Item] = await run.step(
            "recall", recall, case.question, MOST_RECALLED, returns=list[Item]
        )
        case.recalled = tuple(told)
