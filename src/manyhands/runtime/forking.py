"""A new run from the beginning of an old one.

Invariant: the old run is not touched; the new one's events up to the cut are the old one's.
"""

from __future__ import annotations

import secrets
import sqlite3

from manyhands.errors import ConfigError
from manyhands.runtime.database import INSERT_EVENT, row_of
from manyhands.runtime.events import Event, Type
from manyhands.runtime.fold import RunState
from manyhands.runtime.journal import Journal


async def fork_run(
    journal: Journal, state: RunState, now: float, before: int | str, new_run_id: str | None
) -> str:
    cut = _cut(state, before)
    new = new_run_id or f"{state.run_id}-fork-{secrets.token_hex(2)}"
    (last,) = journal.events(state.run_id, after=cut - 2, before=cut)
    about = {"run_id": state.run_id, "before": cut}
    mark, _ = row_of(new, Event(cut, last.epoch, now, Type.RUN_FORKED, "", about))

    def copy(db: sqlite3.Connection) -> None:
        if db.execute("SELECT 1 FROM runs WHERE run_id=?", (new,)).fetchone():
            raise ConfigError(f"run {new!r} is there already", next="give another run id")
        db.execute(
            "INSERT INTO runs SELECT ?,workflow,version,?,?,NULL FROM runs WHERE run_id=?",
            (new, now, last.epoch, state.run_id),
        )
        db.execute(
            "INSERT INTO events SELECT ?,seq,epoch,ts,type,key,data,value,ref,crc"
            " FROM events WHERE run_id=? AND seq<? ORDER BY seq",
            (new, state.run_id, cut),
        )
        db.execute(INSERT_EVENT, mark)

    await journal.call(copy)
    return new


def _cut(state: RunState, before: int | str) -> int:
    if isinstance(before, int):
        cut = before
    elif before in state.steps:
        cut = state.steps[before].seq
    else:
        raise ConfigError(
            f"run {state.run_id} has no step {before!r}",
            next=f"manyhands show {state.run_id} --steps lists them",
        )
    if not 2 < cut <= state.seq + 1:
        raise ConfigError(
            f"cannot fork run {state.run_id} before event {cut}",
            next=f"give a number from 3 to {state.seq + 1}",
        )
    return cut
