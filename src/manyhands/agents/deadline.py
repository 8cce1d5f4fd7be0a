"""The time of an agent: all of its scope's but for a reserve, in which it reports.

Invariant: an agent whose scope has a limit of time is asked for its report before that limit, so
that what it has is not lost; what it is at when its own time ends is cut off.
"""

from __future__ import annotations

from manyhands.errors import BudgetExceeded
from manyhands.runtime import Budget, Effect, Run

#: The part of the time that is kept at most.
_PART = 4


class Deadline:
    """``begin`` before all else. Nothing of it costs anything where there is no limit."""

    def __init__(self, scope: Run, report_seconds: float) -> None:
        self._scope = scope
        self._report_seconds = report_seconds
        self._reserve: float | None = None

    async def begin(self) -> None:
        if self._scope.timed:
            left: float = await self._scope.step("time", self._scope.time_left, effect=Effect.PURE)
            self._reserve = min(self._report_seconds, left / _PART)

    async def over(self, key: str) -> bool:
        """Whether it is time to report (journaled)."""
        if self._reserve is None:
            return False
        return await self._scope.step(key, lambda: self.left() == 0.0, effect=Effect.PURE)

    def left(self, *, final: bool = False) -> float | None:
        """Seconds as of now; ``final``: those of the report among them. None: no limit."""
        if self._reserve is None:
            return None
        try:
            found = self._scope.time_left() or 0.0
        except BudgetExceeded:
            return 0.0
        return found if final else max(0.0, found - self._reserve)

    def within(self, seconds: float | None) -> float | None:
        """The tighter one of ``seconds`` and what is left."""
        left = self.left()
        return seconds if left is None else left if seconds is None else min(seconds, left)

    def budget(self) -> Budget | None:
        """For a scope of something that the agent has run."""
        left = self.left()
        return None if left is None else Budget(seconds=max(left, 0.001))
