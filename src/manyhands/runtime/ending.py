"""How a run ends: what is journaled about it, and what its handle raises.

Invariant: a run that ended says so once; one that was let go of by the runtime says nothing, and
one whose journal fails cannot: both can be resumed.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar, cast

from manyhands.errors import DiskFull, Halted, InDoubt, RunEnded, RunKilled, RunStopped, StepFailed
from manyhands.runtime.events import Status, Type
from manyhands.runtime.execution import Execution

E = TypeVar("E", bound=BaseException)


async def end(execution: Execution, status: Status, text: str | None = None, **error: Any) -> None:
    """Journal the run's end; ``text``: what it returned, as JSON. ``error``: its kind and message,
    and the ``keys`` of the steps whose failure it is."""
    execution.ended = True
    data: dict[str, Any] = {"status": status}
    if error:
        data["error"] = error
    await execution.append(Type.RUN_ENDED, "", data, text)


async def outcome(execution: Execution, error: BaseException) -> BaseException:
    """Journal that the run ended by ``error``; what to raise."""
    doubt = part(error, InDoubt)
    if doubt is not None:
        execution.ended = True
        about = {"key": doubt.key, "message": doubt.what}
        await execution.append(Type.RUN_BLOCKED, "", about)
        return doubt
    halted = part(error, Halted) or DiskFull.behind(error)
    if halted is not None:
        execution.ended = True
        about = {"kind": type(halted).__name__, "message": _text_of(halted)}
        await execution.append(Type.RUN_BLOCKED, "", about)
        return halted
    if isinstance(error, RunStopped):
        await end(execution, Status.STOPPED)
    elif isinstance(error, asyncio.CancelledError):
        why = "cancelled from inside of the workflow"
        await end(execution, Status.FAILED, kind="CancelledError", message=why)
        return RunEnded(f"run {execution.run_id} was cancelled from inside of its workflow")
    elif not isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
        about: dict[str, Any] = {"kind": type(error).__name__, "message": _text_of(error)}
        if (failed := part(error, StepFailed)) is not None:
            about["keys"] = list(failed.keys)
        await end(execution, Status.FAILED, None, **about)
    return error


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:4000]
    except Exception:
        return "(its text cannot be had)"


def part(error: BaseException, kind: type[E]) -> E | None:
    """``error``, or the first one of that kind in the groups that it is."""
    if isinstance(error, kind):
        return error
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        found = (part(inner, kind) for inner in group.exceptions)
        return next((each for each in found if each is not None), None)
    return None


def killed(run_id: str) -> RunKilled:
    return RunKilled(f"run {run_id} was killed", next=f"manyhands resume {run_id} goes on with it")


def stopped(run_id: str) -> RunStopped:
    return RunStopped(
        f"run {run_id} was stopped and has nothing to show", next="`fork` it to go on"
    )
