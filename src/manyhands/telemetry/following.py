"""Runs sent to a collector as they go on, by a process of its own.

Invariants: the journal is only read, so nothing here can harm a run; what the cursor says is what
was acknowledged, so a crash loses nothing, and what is sent again has the ids that it had; only one
batch is in memory, so a collector that is away costs no more than time.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from manyhands.errors import JournalUnreadable, RunNotFound, TelemetryError
from manyhands.runtime import Event, Type
from manyhands.runtime.journal import Journal
from manyhands.telemetry.cursor import Cursor
from manyhands.telemetry.fold import Fold
from manyhands.telemetry.otlp import BATCH_SPANS, BATCH_TEXT, Collector, Sent, text_of
from manyhands.telemetry.reading import fold_of, newest, pages
from manyhands.telemetry.spans import Span

#: Seconds between two looks at the journal; the first and the longest wait for a collector.
LOOK, FIRST_WAIT, LONGEST_WAIT = 0.5, 1.0, 60.0
#: Runs whose fold is kept between two looks; of others it is made anew.
MOST_FOLDS = 64

#: Told that the collector is away: why, and the seconds until the next try.
Away = Callable[[str, float], None]


@dataclass(slots=True)
class Patience:
    """``seconds``: how long to wait for a collector that is away (None: for ever)."""

    seconds: float | None = None
    told: Away = lambda why, wait: None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


def deliver(collector: Collector, spans: Sequence[Span], patience: Patience) -> Sent:
    """Send one batch, however long that takes. Raises `TelemetryError` when patience is over."""
    wait, since = FIRST_WAIT, patience.clock()
    while True:
        found = collector.send(spans)
        if found is not None:
            return found
        gone = patience.clock() - since
        if patience.seconds is not None and gone + wait > patience.seconds:
            raise TelemetryError(
                f"{collector.endpoint}: {collector.trouble} for {gone:.0f} s",
                next="look at the collector and say it again: what it has, it has once",
            )
        pause = wait * random.uniform(0.8, 1.2)
        patience.told(collector.trouble, pause)
        patience.sleep(pause)
        wait = min(LONGEST_WAIT, wait * 2)


@dataclass(slots=True)
class _Row:
    run_id: str
    created: float


@dataclass
class Following:
    """``runs``: those to follow (none: all of the journal). ``limit``: see `fold_of`.

    ``on_sent`` is told of every batch that a run has sent, ``on_damage`` of a run that cannot be
    read: what comes before the damage is sent, the others go on, and it is in ``damaged``.
    """

    journal: Journal
    collector: Collector
    cursor: Cursor
    runs: Sequence[str] = ()
    limit: int | None = None
    patience: Patience = field(default_factory=Patience)
    on_sent: Callable[[str, Sent], None] = lambda run_id, sent: None
    on_damage: Callable[[JournalUnreadable], None] = lambda error: None
    total: Sent = field(default_factory=Sent, init=False)
    damaged: dict[str, JournalUnreadable] = field(
        default_factory=dict[str, JournalUnreadable], init=False
    )
    _folds: OrderedDict[str, Fold] = field(default_factory=OrderedDict[str, Fold], init=False)

    def skip_ended(self) -> None:
        """Leave out what has ended by now, if nobody has sent this journal there before: what ends
        while nobody sends is not left out."""
        if not self.cursor.fresh:
            return
        self.cursor.save()
        for row in self._rows():
            if self._ended(row.run_id):
                self.cursor.keep(row.run_id, row.created, newest(self.journal, row.run_id))

    def look(self) -> bool:
        """Send what has come since the last look. True: all runs that were named have ended, or
        cannot be read."""
        rows = [row for row in self._rows() if row.run_id not in self.damaged]
        over = bool(self.runs)
        for row in rows:
            try:
                over = self._ended(row.run_id) and over
                self._send(row)
            except JournalUnreadable as error:
                self.damaged[row.run_id] = error
                self.on_damage(error)
        return over

    def follow(self) -> None:
        """Until the named runs have ended; of all runs, for ever."""
        while not self.look():
            self.patience.sleep(LOOK)

    def _rows(self) -> list[_Row]:
        found = self.journal.read("SELECT run_id,created_at FROM runs ORDER BY created_at,run_id")
        rows = [_Row(*row) for row in found]
        known = {row.run_id for row in rows}
        for name in self.runs:
            if name not in known:
                raise RunNotFound(
                    f"run {name!r} is not in {self.journal.path}",
                    next="manyhands runs lists what is there",
                )
        return [row for row in rows if not self.runs or row.run_id in self.runs]

    def _ended(self, run_id: str) -> bool:
        last = self.journal.last(run_id)
        return last is not None and last.type == Type.RUN_ENDED

    def _send(self, row: _Row) -> None:
        run_id = row.run_id
        last = newest(self.journal, run_id)
        sent = self.cursor.sent(run_id, row.created, last)
        if sent >= last:
            return
        fold = self._folds.pop(run_id, None)
        if fold is None or fold.seq > last:
            fold = fold_of(self.journal, run_id, self.limit)
        batch = _Batch(self, row, sent)
        try:
            for page in pages(self.journal, run_id, fold.seq):
                for event in page:
                    batch.add(event, fold.take(event))
        except JournalUnreadable:
            batch.end(fold.seq)
            raise
        batch.end(fold.seq)
        if not self._ended(run_id):
            self._folds[run_id] = fold
            if len(self._folds) > MOST_FOLDS:
                self._folds.popitem(last=False)

    def deliver(self, row: _Row, spans: Sequence[Span], upto: int) -> None:
        """Send a batch, and keep that all up to event ``upto`` was sent."""
        if spans:
            found = deliver(self.collector, spans, self.patience)
            self.total.add(found)
            self.on_sent(row.run_id, found)
        self.cursor.keep(row.run_id, row.created, upto)


class _Batch:
    """Spans of one run on their way; those that were sent before (up to ``sent``) are left out."""

    def __init__(self, following: Following, row: _Row, sent: int) -> None:
        self._following, self._row, self._sent = following, row, sent
        self._spans: list[Span] = []
        self._text = 0

    def add(self, event: Event, spans: Iterable[Span]) -> None:
        if event.seq <= self._sent:
            return
        for span in spans:
            text = text_of(span)
            full = len(self._spans) >= BATCH_SPANS or self._text + text > BATCH_TEXT
            if self._spans and full:
                self._send(event.seq - 1)
            self._spans.append(span)
            self._text += text

    def _send(self, upto: int) -> None:
        self._following.deliver(self._row, self._spans, upto)
        self._spans, self._text = [], 0

    def end(self, seq: int) -> None:
        if seq > self._sent:
            self._send(seq)
