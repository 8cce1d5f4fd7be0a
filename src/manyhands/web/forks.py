"""A fork that is asked for over HTTP.

Invariants: one that is asked for again does nothing and has the same answer; the run that is forked
is not touched.
"""

from __future__ import annotations

import hashlib

from starlette.exceptions import HTTPException

from manyhands.errors import ConfigError
from manyhands.runtime import Runtime
from manyhands.runtime.events import Type


async def fork(
    runtime: Runtime, run_id: str, before: int, *, seen: int | None, key: str
) -> tuple[str, bool]:
    """The id of the fork, and whether it was made just now. ``seen``: the last event that was."""
    if seen is None:
        raise HTTPException(428, "If-Match is missing: the last event that was seen")
    last = runtime.journal.read("SELECT max(seq) FROM events WHERE run_id=?", run_id)[0][0] or 0
    if seen > last or before > seen + 1:
        raise HTTPException(412, f"decided on event {seen}, of {last}, to fork before {before}")
    mark = hashlib.sha256(f"{run_id}\n{key}".encode()).hexdigest()[:8]
    new = f"{run_id}-fork-{mark}"
    if _is_there(runtime, new, run_id, before):
        return new, False
    try:
        return await runtime.fork(run_id, before, new_run_id=new), True
    except ConfigError:
        if _is_there(runtime, new, run_id, before):  # the same command, at the same time
            return new, False
        raise


def _is_there(runtime: Runtime, new: str, run_id: str, before: int) -> bool:
    if not runtime.journal.read("SELECT 1 FROM runs WHERE run_id=?", new):
        return False
    for event in runtime.journal.events(new, before - 1, before + 1):
        wanted = {"run_id": run_id, "before": before}
        if event.type == Type.RUN_FORKED and event.data == wanted:
            return True
    raise HTTPException(409, "the idempotency key was used for another command")
