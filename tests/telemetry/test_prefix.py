"""Any part of a journal and then the rest give what the whole gives: a live export rests on it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import Verbosity, given, settings
from hypothesis import strategies as st

from manyhands.runtime import Event, Runtime, import_run
from manyhands.telemetry import Content, Fold, Span
from tests.answering.stage import Stage as Answering
from tests.coding.stage import Stage as Coding

GOLDEN = Path(__file__).parents[1] / "golden" / "v1.jsonl"

#: The runs are too long to be shown with an example.
QUIETLY = settings(verbosity=Verbosity.quiet, deadline=None, max_examples=25)
#: A journal's events, and its blobs.
Told = tuple[list[Event], dict[str, bytes]]


def read(path: Path, run_id: str) -> Told:
    async def work() -> Told:
        async with Runtime.open(path) as runtime:
            if run_id == "golden":
                await import_run(runtime.journal, GOLDEN)
            events = [event async for event in runtime.events(run_id)]
            rows = runtime.journal.read("SELECT hash, content FROM blobs")
            return events, {name: content for name, content in rows}

    return asyncio.run(work())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Told]:
    answer, code = tmp_path_factory.mktemp("answer"), tmp_path_factory.mktemp("code")
    asyncio.run(Answering(answer).ask())
    asyncio.run(Coding(code).solve())
    golden = tmp_path_factory.mktemp("golden") / "journal.db"
    return [
        read(answer / "journal.db", "asked"),
        read(code / "journal.db", "solved"),
        read(golden, "golden"),
    ]


def whole(told: Told) -> list[tuple[int, Span]]:
    events, blobs = told
    fold = Fold("run", blobs.__getitem__, Content(blobs.__getitem__))
    return [(event.seq, span) for event in events for span in fold.take(event)]


@QUIETLY
@given(data=st.data())
def test_a_fold_that_begins_again_goes_on_where_the_other_was(
    runs: list[Told], data: st.DataObject
) -> None:
    """What was sent before a crash, and what is sent after it, are all spans and none twice."""
    events, blobs = told = runs[data.draw(st.integers(0, 2))]
    cut = data.draw(st.integers(0, len(events)))
    first = Fold("run", blobs.__getitem__, Content(blobs.__getitem__))
    sent = [(event.seq, span) for event in events[:cut] for span in first.take(event)]
    again = [each for each in whole(told) if each[0] > cut]
    assert sent + again == whole(told)


@QUIETLY
@given(data=st.data())
def test_what_is_open_has_the_ids_that_it_will_have(runs: list[Told], data: st.DataObject) -> None:
    """A run that is exported in the middle: no id twice, every parent there, and all of them are
    those of the whole run."""
    events, blobs = runs[data.draw(st.integers(0, 2))]
    cut = data.draw(st.integers(1, len(events)))
    fold = Fold("run", blobs.__getitem__)
    spans = [span for event in events[:cut] for span in fold.take(event) if span.final]
    spans += fold.rest(running=data.draw(st.booleans()))
    ids = [span.id for span in spans]
    assert len(set(ids)) == len(ids)
    assert {span.parent for span in spans} <= {*ids, ""}
    end = Fold("run", blobs.__getitem__)
    known = {span.id for event in events for span in end.take(event)}
    known |= {span.id for span in end.rest(running=False)}
    assert set(ids) <= known


@QUIETLY
@given(data=st.data())
def test_an_epoch_changes_no_id(runs: list[Told], data: st.DataObject) -> None:
    """As if the run had been resumed any number of times before."""
    events, blobs = told = runs[data.draw(st.integers(0, 2))]
    more = data.draw(st.integers(1, 50))
    shifted = [replace(event, epoch=event.epoch + more) for event in events], blobs
    assert [s.id for _, s in whole(shifted)] == [s.id for _, s in whole(told)]
