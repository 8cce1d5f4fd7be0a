"""What a page may have done: a fork of a run.

Invariants: a command says on what it was decided (``If-Match``: the last event that was seen) and
has a key of its own (``Idempotency-Key``); one that comes again does nothing and has the same
answer; the run that is forked is not touched.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request

from manyhands.errors import ConfigError
from manyhands.runtime import Runtime
from manyhands.runtime.events import Type

#: Characters of an idempotency key.
_KEY = 200


async def fork(runtime: Runtime, run_id: str, request: Request) -> tuple[str, bool]:
    """The id of the fork that a request asks for, and whether it was made just now."""
    seen, key = _decided_on(request), _key(request)
    before = await _before(request)
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


def _decided_on(request: Request) -> int:
    given = request.headers.get("if-match", "").strip('"')
    if not given:
        raise HTTPException(428, "If-Match is missing: the last event that was seen")
    if not given.isascii() or not given.isdigit() or len(given) > 15:
        raise HTTPException(400, "If-Match is no number of an event")
    return int(given)


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not 8 <= len(key) <= _KEY:
        raise HTTPException(400, f"an Idempotency-Key of 8 to {_KEY} characters is needed")
    return key


async def _before(request: Request) -> int:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "send JSON")
    try:
        body: Any = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is no JSON") from error
    before: Any = cast(dict[str, Any], body).get("before") if isinstance(body, dict) else None
    if not isinstance(before, int) or isinstance(before, bool):
        raise HTTPException(400, '{"before": NUMBER} is needed')
    return before
