"""How a step is called: reserve, journal the start, call, journal the end, settle.

Invariant: the effect of a finished step happens once; a started one without an end is run again
only when its effect class allows that, and is otherwise in doubt until a probe or a person says.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from manyhands.errors import BudgetExceeded, InDoubt, JournalError, RunEnded, StepFailed
from manyhands.runtime.budget import Amounts, Pool, clip
from manyhands.runtime.codec import decode, encode, hash_args
from manyhands.runtime.events import Effect, Type
from manyhands.runtime.execution import Execution, Running
from manyhands.runtime.fold import StepState


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

    def delay(self, attempt: int, error: BaseException) -> float | None:
        """Seconds until the next attempt; None: this was the last."""
        if attempt >= self.attempts or not getattr(error, "retryable", False):
            return None
        asked = getattr(error, "retry_after", None)
        return min(self.cap, self.first * self.factor ** (attempt - 1) if asked is None else asked)


@dataclass(frozen=True, slots=True)
class Settled:
    """A probe's answer about a step in doubt: it happened with this ``value``, or it did not."""

    happened: bool
    value: Any = None


Probe = Callable[[], Awaitable[Settled | None]]


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

    @property
    def hash(self) -> str:
        return hash_args(self.args)


async def perform(execution: Execution, pool: Pool, call: Call) -> Any:
    """The step's value: from the journal if it has finished before, otherwise by calling it."""
    execution.claim(call.key, "step")
    state = execution.state.steps.get(call.key)
    if state is not None:
        execution.check_args(call.key, state.args, call.hash)
        if state.outcome == "in_doubt":
            await _settle_doubt(execution, call)
        if state.finished:
            return _stored(execution, call, state)
    await execution.gate.wait()
    return await _attempts(execution, pool, call, state.attempts + 1 if state else 1)


def _stored(execution: Execution, call: Call, state: StepState) -> Any:
    event = state.event
    assert event is not None
    if state.outcome == "done":
        return decode(execution.journal.value(event) or "null", call.returns)
    data = event.data
    if data["kind"] == "BudgetExceeded":
        raise BudgetExceeded(*data["budget"])
    raise StepFailed(call.key, data["kind"], data["message"])


async def _attempts(execution: Execution, pool: Pool, call: Call, attempt: int) -> Any:
    tried = 1
    while True:
        timeout = await _reserve(execution, pool, call)
        await _start(execution, call, attempt)
        try:
            value = await _invoke(execution, call, timeout)
            text = encode(value)
        except (JournalError, RunEnded):
            pool.settle(call.cost, call.cost)
            raise
        except asyncio.CancelledError:
            pool.settle(call.cost, call.cost)
            running = execution.running.pop(call.key, None)
            if running is None or running.interrupted is None:
                raise
            await _fail(execution, call, attempt, "Interrupted", running.interrupted, final=True)
            raise StepFailed(call.key, "Interrupted", running.interrupted) from None
        except Exception as error:
            pool.settle(call.cost, call.cost)
            delay = call.retry.delay(tried, error)
            kind, message = type(error).__name__, str(error)
            await _fail(execution, call, attempt, kind, message, final=delay is None)
            if delay is None:
                raise StepFailed(call.key, kind, message) from error
            await execution.clock.sleep(delay)
            attempt, tried = attempt + 1, tried + 1
        else:
            return await _finish(execution, pool, call, attempt, value, text)


async def _reserve(execution: Execution, pool: Pool, call: Call) -> float | None:
    """Book the cost; returns the seconds that the call may take. A refusal is journaled."""
    try:
        timeout = call.timeout()
        if call.cost:
            await pool.reserve(call.cost)
        return timeout
    except BudgetExceeded as error:
        data: dict[str, Any] = {
            "kind": "BudgetExceeded",
            "message": error.what,
            "final": True,
            "used": {},
            "budget": [error.scope, error.unit, error.asked, error.used, error.limit],
            "effect": call.effect,
            "args": call.hash,
            "scope": call.scope,
        }
        await execution.append(Type.STEP_FAILED, call.key, data)
        raise


async def _start(execution: Execution, call: Call, attempt: int) -> None:
    """The intent. It must be on disk before the call only where its absence would mislead.

    That is so for a ``once`` effect (in doubt or never started?) and for a cost (spent or not?).
    Otherwise it is queued ahead of the step's end, and one commit carries both.
    """
    data: dict[str, Any] = {"effect": call.effect, "args": call.hash}
    if call.scope:
        data["scope"] = call.scope
    if attempt > 1:
        data["attempt"] = attempt
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
    task = asyncio.ensure_future(result)
    execution.running[call.key] = Running(task)  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(timeout):
            value = await task
    except asyncio.CancelledError:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        raise
    except TimeoutError as error:
        if timeout is None or str(error):
            raise
        raise TimeoutError(f"no end after {timeout:g} s") from None
    execution.running.pop(call.key, None)
    return value


async def _finish(
    execution: Execution, pool: Pool, call: Call, attempt: int, value: Any, text: str
) -> Any:
    data: dict[str, Any] = {}
    used: Amounts = call.cost
    if call.cost and call.usage is not None:
        claimed = call.usage(value)
        used, disputed = clip(call.cost, claimed)
        if disputed:
            data["disputed"] = {k: v for k, v in claimed.items() if v}
    if call.cost:
        data["used"] = dict(used)
    if attempt > 1:
        data["attempt"] = attempt
    await execution.append(Type.STEP_DONE, call.key, data, text)
    if call.cost:
        pool.settle(call.cost, used)
    return decode(text, call.returns)


async def _fail(
    execution: Execution, call: Call, attempt: int, kind: str, message: str, *, final: bool
) -> None:
    execution.running.pop(call.key, None)
    data = {
        "attempt": attempt,
        "kind": kind,
        "message": message[:4000],
        "final": final,
        "used": dict(call.cost),
    }
    await execution.append(Type.STEP_FAILED, call.key, data)


# -------------------------------------------------------------------- in doubt


async def _settle_doubt(execution: Execution, call: Call) -> None:
    """Ends with the step settled, or raises `InDoubt`."""
    decision = _decided(execution, call.key)
    if decision is None and call.probe is not None:
        found = await call.probe()
        if found is not None:
            action: Literal["result", "retry"] = "result" if found.happened else "retry"
            decision = (action, found.value, "probe")
    if decision is None:
        await execution.append(Type.STEP_IN_DOUBT, call.key, {})
        raise InDoubt(
            call.key,
            next=f"find out whether it happened, then: manyhands resolve {execution.run_id} "
            f"{call.key} --retry | --result JSON | --fail TEXT",
        )
    action_, value, by = decision
    data = {"action": action_, "by": by}
    if action_ == "fail":
        data |= {"kind": "ResolvedAsFailed", "message": str(value)}
    await execution.append(
        Type.STEP_SETTLED, call.key, data, encode(value) if action_ == "result" else None
    )


def _decided(execution: Execution, key: str) -> tuple[str, Any, str] | None:
    """The person's last word on this step, given after it came into doubt."""
    step = execution.state.steps[key]
    for command in reversed(execution.state.commands):
        fresh = command.seq > step.seq
        if command.verb == "resolve" and command.target == key and fresh:
            return command.message["action"], command.message.get("value"), "person"
    return None
