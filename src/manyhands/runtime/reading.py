"""Looking at a journal: runs, their state, their events as they come. Writes nothing.

Invariant: everything shown is a fold of events, plus whether the owner's process still lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from manyhands.errors import JournalUnreadable, RunNotFound
from manyhands.runtime.codec import decode
from manyhands.runtime.database import damaged
from manyhands.runtime.events import Event, Status, Type
from manyhands.runtime.fold import RunState
from manyhands.runtime.journal import Journal
from manyhands.runtime.owner import Owner

POLL_SECONDS = 0.1

_HALTS = (Type.RUN_ENDED, Type.RUN_BLOCKED)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One line of the list of runs; ``owner`` names the live process that holds it, if one does."""

    run_id: str
    workflow: str
    status: Status
    created_at: float
    updated_at: float
    events: int
    owner: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """What the table of runs says; ``holder``: the owner, if its process lives."""

    run_id: str
    workflow: str
    version: int
    created_at: float
    holder: Owner | None


class Reader:
    """A journal and what can be read from it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def _notify(self) -> None:
        """Something was appended here: those who follow need not wait for the next poll."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _rows(self, where: str, *args: Any) -> list[Row]:
        return [self._row_of(*fields) for fields in self._fields(where, *args)]

    def _fields(self, where: str, *args: Any) -> list[tuple[Any, ...]]:
        return self.journal.read(
            f"SELECT run_id,workflow,version,created_at,owner FROM runs {where}", *args
        )

    def _row_of(
        self, run_id: str, workflow: str, version: int, created_at: float, owner: str | None
    ) -> Row:
        """Raises `JournalUnreadable`."""
        try:
            holder = Owner.from_json(owner) if owner else None
            alive = holder if holder is not None and holder.alive else None
            return Row(run_id, workflow, int(version), float(created_at), alive)
        except (ValueError, TypeError) as error:
            raise damaged(self.journal.path, f"the row of run {run_id!r}: {error}") from error

    def _row(self, run_id: str) -> Row:
        rows = self._rows("WHERE run_id=?", run_id)
        if not rows:
            raise RunNotFound(
                f"run {run_id!r} is not in {self.journal.path}",
                next="manyhands runs lists what is there",
            )
        return rows[0]

    def _fold(self, run_id: str) -> RunState:
        state = RunState(run_id)
        for event in self.journal.events(run_id):
            state.apply(event)
        return state

    def view(self, run_id: str) -> RunState:
        """The fold of a run's events as they are now. Raises `RunNotFound`.

        Where no process holds the run, its ``once`` steps without an end are in doubt already.
        """
        held = self._row(run_id).holder is not None
        state = self._fold(run_id)
        if held:
            return state
        if state.status is Status.RUNNING:
            state.status = Status.INTERRUPTED
        for step in state.steps.values():
            if step.outcome == "started" and step.effect == "once":
                step.outcome = "in_doubt"
        return state

    def holder(self, run_id: str) -> Owner | None:
        """The live process that drives a run, None: nobody does. Raises `RunNotFound`."""
        return self._row(run_id).holder

    def runs(self) -> list[RunInfo]:
        """All runs, newest first. One that cannot be read is `Status.DAMAGED`; the others are not
        the less there for it."""
        return [self._listed(fields) for fields in self._fields("ORDER BY created_at DESC, run_id")]

    def _listed(self, fields: tuple[Any, ...]) -> RunInfo:
        try:
            return self._info(self._row_of(*fields))
        except (JournalUnreadable, ValueError, TypeError, KeyError):
            run_id, workflow, _, created_at, _ = fields
            began = created_at if isinstance(created_at, float) else 0.0
            return RunInfo(str(run_id), str(workflow), Status.DAMAGED, began, began, 0, None)

    def _info(self, row: Row) -> RunInfo:
        tail = self.journal.read(
            "SELECT seq,ts FROM events WHERE run_id=? ORDER BY seq DESC LIMIT 1", row.run_id
        )
        seq, ts = tail[0] if tail else (0, row.created_at)
        if not isinstance(ts, float) or not math.isfinite(ts + row.created_at):
            raise damaged(self.journal.path, f"a time of run {row.run_id!r} is none")
        return RunInfo(
            row.run_id,
            row.workflow,
            self.status(row.run_id),
            row.created_at,
            ts,
            seq,
            str(row.holder) if row.holder else None,
        )

    def status(self, run_id: str) -> Status:
        """A run's status, without reading all of its events. Raises `RunNotFound`."""
        held = self._row(run_id).holder is not None
        last = self.journal.last(run_id)
        match last.type if last else "":
            case Type.RUN_ENDED:
                assert last is not None
                return Status(last.data["status"])
            case Type.RUN_BLOCKED:
                return Status.BLOCKED
            case _:
                return Status.RUNNING if held else Status.INTERRUPTED

    async def events(
        self, run_id: str, after: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[Event]:
        """Events with seq > ``after``; with ``follow`` also those to come, until the run ends.

        Each comes once, in order, without a hole. Works on a run of any process; while none holds
        the run it waits for one that resumes it. Large values stay references (`value` reads them).
        """
        self._row(run_id)
        while True:
            ended = False
            changed = self._changed
            for event in self.journal.events(run_id, after):
                after = event.seq
                ended = event.type in _HALTS
                yield event
            if not follow or ended or self._halted(run_id, after):
                return
            await self._wait(changed)

    def _halted(self, run_id: str, after: int) -> bool:
        last = self.journal.last(run_id)
        return last is not None and last.type in _HALTS and last.seq <= after

    async def _wait(self, changed: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if loop is not self._loop:  # an event cannot be awaited from two loops
            await asyncio.sleep(POLL_SECONDS)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), POLL_SECONDS)

    def value(self, event: Event, returns: Any = None) -> Any:
        """The decoded value of an event, None where it has none."""
        text = self.journal.value(event)
        return None if text is None else decode(text, returns)
