"""A journal read for its spans: a page of events at a time, whatever its length.

Invariant: only reads; each read is over before its events are looked at, so that nobody who writes
has to wait.
"""

from __future__ import annotations

from collections.abc import Iterator

from manyhands.errors import JournalUnreadable
from manyhands.runtime import Event, Reader
from manyhands.runtime.journal import Journal
from manyhands.telemetry.content import Content
from manyhands.telemetry.fold import Fold
from manyhands.telemetry.spans import Span

#: Events in memory at once.
PAGE = 1000


def newest(journal: Journal, run_id: str) -> int:
    """The number of the run's last event."""
    return journal.read("SELECT max(seq) FROM events WHERE run_id=?", run_id)[0][0] or 0


def pages(journal: Journal, run_id: str, after: int = 0) -> Iterator[list[Event]]:
    """Events with seq > ``after`` that are there now. Raises `JournalUnreadable` for a hole."""
    last = newest(journal, run_id)
    while after < last:
        until = min(last, after + PAGE)
        page = list(journal.events(run_id, after, until + 1))
        if len(page) != until - after:
            raise JournalUnreadable(
                f"journal {journal.path} is damaged: event {until} of run {run_id} is missing",
                next="restore the file from a copy, or import an export of the run",
            )
        yield page
        after = until


def fold_of(journal: Journal, run_id: str, limit: int | None) -> Fold:
    """``limit``: bytes of a text that was said (None: what was said is not told)."""
    content = None if limit is None else Content(journal.blob, limit)
    return Fold(run_id, journal.blob, content)


def spans_of(journal: Journal, run_id: str, limit: int | None = None) -> Iterator[Span]:
    """All spans of a run as it is now, each id once. Raises `RunNotFound`."""
    running = Reader(journal).status(run_id) == "running"
    fold = fold_of(journal, run_id, limit)
    for page in pages(journal, run_id):
        for event in page:
            yield from (span for span in fold.take(event) if span.final)
    yield from fold.rest(running=running)
