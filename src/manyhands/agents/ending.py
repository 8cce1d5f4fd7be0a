"""What still has to be done when the budget of a run is gone.

Invariant: a run whose budget ended gives what there is, not an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from manyhands.errors import BudgetExceeded, StepFailed
from manyhands.runtime import Effect, Run

R = TypeVar("R")


async def step_or_do(run: Run, key: str, make: Callable[[], Awaitable[R]], returns: type[R]) -> R:
    """A step, also when the run's time is over: then what it makes is not journaled as one."""
    try:
        return await run.step(key, make, effect=Effect.PURE, returns=returns)
    except (BudgetExceeded, StepFailed) as error:
        if not is_spent(error):
            raise
        return await make()


def is_spent(error: BudgetExceeded | StepFailed) -> bool:
    """Whether it says that a budget is gone: a step that its time cuts off fails."""
    return isinstance(error, BudgetExceeded) or error.kind == TimeoutError.__name__
