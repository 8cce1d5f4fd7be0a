"""How a step is called: reserve, journal the start, call, journal the end, settle.

Invariant: the effect of a finished step happens once; a started one without an end is run again
only when its effect class allows that, and is otherwise in doubt until a probe or a person says.
What was reserved is settled on every way out.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from manyhands.errors import (
    BudgetExceeded,
    DiskFull,
    Halted,
    InDoubt,
    JournalError,
    NotSerializable,
    ReplayMismatch,
    RunEnded,
    StepFailed,
)
from manyhands.runtime.budget import Amounts, Pool, clip
from manyhands.runtime.codec import decode, encode, hash_args
from manyhands.runtime.events import Effect, Type
from manyhands.runtime.execution import KILLED, Execution, Running
from manyhands.runtime.fold import StepState

#: How much of a failure's text is kept, in characters.
_MESSAGE_LIMIT = 4000


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a failure is tried again, and when.

    A failure is retryable when it says so (``error.retryable``); ``error.retry_after`` (seconds)
    overrides the backoff ``first · factor^n``, both bounded by ``cap``.
    """

    attempts: int = 1
    first: float = 0.5
    factor: float = 2.0
    cap: float = 30.0

    def delay(self, failures: int, error: BaseException) -> float | None:
        """Seconds until the next attempt; None: this was the last."""
        if failures >= self.attempts or not getattr(error, "retryable", False):
            return None
        asked = getattr(error, "retry_after", None)
        if asked is None:
            asked = self.first * self.factor ** min(failures - 1, 100)
        return max(0.0, min(self.cap, asked))


@dataclass(frozen=True, slots=True)
class Settled:
    """A probe's answer about a step in doubt: it happened with this ``value``, or it did not."""

    happened: bool
    value: Any = None


Probe = Callable[[], Awaitable[Settled | None]]


class Interrupted(Exception):
    """A person has ended the call before it began; its name is that failure's kind."""


@dataclass(frozen=True, slots=True)
class Call:
    """One step as the workflow asked for it; see `Run.step` for the fields."""

    key: str
    scope: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    effect: Effect
    returns: Any
    cost: Amounts
    usage: Callable[[Any], Amounts] | None
    probe: Probe | None
    retry: Retry
    timeout: Callable[[], float | None]
    actor: str = ""
    exempt: int = 0
    paced: bool = False


async def perform(execution: Execution, pool: Pool, call: Call) -> Any:
    """The step's value: from the journal if it has finished before, otherwise by calling it."""
    args = hash_args(call.args)
    state = execution.state.steps.get(call.key)
    if state is not None:
        execution.check_args(call.key, state.args, args)
        if state.outcome == "in_doubt":
            await _settle_doubt(execution, call)
        if state.finished:
            return _stored(execution, call, state)
    return await _attempts(execution, pool, call, args)


def _stored(execution: Execution, call: Call, state: StepState) -> Any:
    event = state.event
    assert event is not None
    if state.outcome == "done":
        try:
            return decode(execution.journal.value(event) or "null", call.returns)
        except ValueError as error:
            raise ReplayMismatch(
                f"the value of step {call.key!r} in the journal is no {call.returns}: {error}",
                next="run the version of the workflow that wrote it, or fork the run before it",
            ) from error
    data = event.data
    if "budget" in data:
        raise BudgetExceeded(*data["budget"])
    raise StepFailed(call.key, data["kind"], data["message"])


# -------------------------------------------------------------------- calling


async def _attempts(execution: Execution, pool: Pool, call: Call, args: str) -> Any:
    state = execution.state.steps.get(call.key)
    number, failures, delay = (state.attempts, state.failures, 0.0) if state else (0, 0, 0.0)
    while True:
        number += 1
        used: Amounts = {}
        booked = False
        running = execution.enter(call.key)
        try:
            try:
                if delay:
                    await execution.clock.sleep(delay)
                if execution.state.holds:
                    await execution.released(call.scope, call.exempt, paced=call.paced)
                if call.paced and call.effect is not Effect.PURE:
                    _check_alive(execution, call)
                if call.cost:
                    await pool.reserve(call.cost)
                    booked = True
                timeout = call.timeout()
                used = call.cost
                await _start(execution, call, args, number)
                value = await _invoke(execution, call, timeout)
                text = execution.journal.redactor.text(encode(value))
                value = decode(text, call.returns)
            except BaseException as error:
                execution.leave(running)
                failures += 1
                delay = await _failed(execution, call, args, number, failures, running, error)
            else:
                execution.leave(running)
                data, used = _account(call, value, number)
                await execution.append(Type.STEP_DONE, call.key, data, text)
                return value
        finally:
            execution.leave(running)
            if booked:
                pool.settle(call.cost, used)


def _check_alive(execution: Execution, call: Call) -> None:
    """Of an agent that was killed between two calls no other begins."""
    if execution.state.killed(call.scope):
        raise Interrupted(KILLED)


async def _start(execution: Execution, call: Call, args: str, number: int) -> None:
    """The intent. It must be on disk before the call only where its absence would mislead.

    That is so for a ``once`` effect (in doubt or never started?) and for a cost (spent or not?).
    Otherwise it is queued ahead of the step's end, and one commit carries both.
    """
    data: dict[str, Any] = {"effect": call.effect, "args": args}
    if call.scope:
        data["scope"] = call.scope
    if call.actor:
        data["actor"] = call.actor
    if number > 1:
        data["attempt"] = number
    if call.cost:
        data["cost"] = dict(call.cost)
    once = call.effect is Effect.ONCE
    if once or call.cost:
        await execution.append(Type.STEP_STARTED, call.key, data, durable=once)
    else:
        execution.post(Type.STEP_STARTED, call.key, data)


async def _invoke(execution: Execution, call: Call, timeout: float | None) -> Any:
    result = call.fn(*call.args)
    if not inspect.isawaitable(result):
        return result
    if timeout is None:
        return await result
    limit = execution.clock.timeout(timeout)
    try:
        async with limit:
            return await result
    except TimeoutError:
        if limit.expired():
            raise TimeoutError(f"no end after {timeout:g} s") from None
        raise


def _account(call: Call, value: Any, number: int) -> tuple[dict[str, Any], Amounts]:
    """What the journal says of a call that went well, and what it is charged."""
    data: dict[str, Any] = {"attempt": number} if number > 1 else {}
    if not call.cost:
        return data, {}
    used: Amounts = call.cost
    if call.usage is not None:
        claimed = _claimed(call.usage, value)
        used, disputed = clip(call.cost, claimed)
        if disputed:
            data["disputed"] = claimed
    data["used"] = dict(used)
    return data, used


def _claimed(usage: Callable[[Any], Amounts], value: Any) -> Any:
    """The callee's word on what it used. One that cannot be had is one that is disputed."""
    try:
        claimed = usage(value)
        encode(claimed)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:_MESSAGE_LIMIT]
    return claimed


# -------------------------------------------------------------------- failing


async def _failed(
    execution: Execution,
    call: Call,
    args: str,
    number: int,
    failures: int,
    running: Running,
    error: BaseException,
) -> float:
    """Journal the failure; the seconds until the next attempt. Raises what ends the step."""
    kind, message = _reason(running, error)
    message = execution.journal.redactor.text(message)
    state = execution.state.steps.get(call.key)
    started = state is not None and state.outcome == "started"
    ended = running.interrupted is not None or isinstance(error, Interrupted)
    delay = None if ended else call.retry.delay(failures, error)
    data: dict[str, Any] = {
        "attempt": number,
        "kind": kind,
        "message": message,
        "final": delay is None,
        "used": dict(call.cost) if started else {},
    }
    refused = isinstance(error, BudgetExceeded) and not started
    if isinstance(error, BudgetExceeded) and refused:
        data["budget"] = [error.scope, error.unit, error.asked, error.used, error.limit]
    if state is None:
        data |= {"effect": call.effect, "args": args, "scope": call.scope}
    await execution.append(Type.STEP_FAILED, call.key, data)
    if delay is not None:
        return delay
    if refused:
        raise error
    raise StepFailed(call.key, kind, message) from error


def _reason(running: Running, error: BaseException) -> tuple[str, str]:
    """Kind and message of a failure. Raises ``error`` itself where it is not the step's own."""
    if isinstance(error, (JournalError, RunEnded, InDoubt, Halted)):
        raise error
    if (full := DiskFull.behind(error)) is not None:
        raise full from error
    if isinstance(error, asyncio.CancelledError):
        if running.foreign:
            raise error
        if running.interrupted is not None:
            return "Interrupted", running.interrupted[:_MESSAGE_LIMIT]
    elif not isinstance(error, Exception):
        raise error
    try:
        message = str(error)
    except Exception:
        message = "(its text cannot be had)"
    return type(error).__name__, message[:_MESSAGE_LIMIT]


# -------------------------------------------------------------------- in doubt


async def _settle_doubt(execution: Execution, call: Call) -> None:
    """Ends with the step settled, or raises `InDoubt`."""
    found = _decided(execution, call.key) or await _probed(call)
    if isinstance(found, str):
        await _leave_in_doubt(execution, call, found)
    action, value, by = found
    data = {"action": action, "by": by}
    text = None
    if action == "fail":
        data |= {"kind": "ResolvedAsFailed", "message": str(value)[:_MESSAGE_LIMIT]}
    if action == "result":
        try:
            text = encode(value)
            decode(text, call.returns)
        except (ValueError, NotSerializable) as error:
            await _leave_in_doubt(execution, call, f"the {by}'s value does not fit: {error}")
    await execution.append(Type.STEP_SETTLED, call.key, data, text)


async def _leave_in_doubt(execution: Execution, call: Call, why: str) -> NoReturn:
    execution.doubt = call.key
    await execution.append(Type.STEP_IN_DOUBT, call.key, {"why": why[:_MESSAGE_LIMIT]})
    raise InDoubt(
        call.key,
        next=f"{why}; find out whether it happened, then: manyhands resolve {execution.run_id} "
        f"{call.key} --retry | --result JSON | --fail TEXT",
    )


async def _probed(call: Call) -> tuple[str, Any, str] | str:
    """What the probe says: an action, its value and who says so, or why there is none."""
    if call.probe is None:
        return "it has no probe"
    try:
        found = await call.probe()
    except Exception as error:
        return f"its probe failed: {type(error).__name__}: {error}"
    if found is None:
        return "its probe could not tell"
    return ("result" if found.happened else "retry", found.value, "probe")


def _decided(execution: Execution, key: str) -> tuple[str, Any, str] | None:
    """The person's last word on this step, given after its latest start."""
    step = execution.state.steps[key]
    for command in reversed(execution.state.commands):
        fresh = command.seq > step.started_seq
        if command.verb == "resolve" and command.target == key and fresh:
            return command.message["action"], command.message.get("value"), "person"
    return None
