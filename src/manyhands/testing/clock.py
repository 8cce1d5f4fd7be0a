"""Time that a test turns by hand.

Invariant: it moves only by `ManualClock.advance` (or, with ``jump=True``, by sleeping), and wakes
whoever is due in the order of their moments.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from manyhands.runtime import Clock


@dataclass(order=True)
class _Due:
    at: float
    order: int
    wake: asyncio.Future[None] | asyncio.Timeout = field(compare=False)


class ManualClock(Clock):
    """A clock at ``now`` (unix seconds). Hand it to `Runtime.open`.

    ``jump``: a sleep returns at once and moves the time to its end, so a program with waits in it
    runs as fast as it can.
    """

    def __init__(self, now: float = 1_000_000_000.0, *, jump: bool = False) -> None:
        self._now = now
        self._jump = jump
        self._due: list[_Due] = []
        self._count = 0
        self._joined = asyncio.Event()

    def time(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0 or self._jump:
            self._now += max(0.0, seconds)
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due = self._add(seconds, wake)
        try:
            await wake
        finally:
            if due in self._due:
                self._due.remove(due)

    def timeout(self, seconds: float) -> asyncio.Timeout:
        limit = asyncio.timeout(None)
        self._add(seconds, limit)
        return limit

    def _add(self, seconds: float, wake: asyncio.Future[None] | asyncio.Timeout) -> _Due:
        self._count += 1
        due = _Due(self._now + seconds, self._count, wake)
        self._due.append(due)
        self._joined.set()
        self._joined = asyncio.Event()
        return due

    @property
    def sleeping(self) -> int:
        """How many sleep now, or wait for an end within a limit."""
        return sum(_waits(due) for due in self._due)

    async def sleepers(self, count: int = 1) -> None:
        """Wait (in real time) until at least ``count`` sleep on this clock."""
        while self.sleeping < count:
            with contextlib.suppress(TimeoutError):  # a limit may be entered long after it is made
                await asyncio.wait_for(self._joined.wait(), 0.01)

    async def advance(self, seconds: float) -> None:
        """Move on by ``seconds``; those whose moment comes wake one after the other."""
        end = self._now + seconds
        while (due := min(self._due, default=None)) is not None and due.at <= end:
            self._due.remove(due)
            self._now = due.at
            self._wake(due)
            await asyncio.sleep(0)
        self._now = end
        await asyncio.sleep(0)

    @staticmethod
    def _wake(due: _Due) -> None:
        if isinstance(due.wake, asyncio.Timeout):
            with contextlib.suppress(RuntimeError, AssertionError):  # over, or not yet entered
                due.wake.reschedule(asyncio.get_running_loop().time())
        elif not due.wake.done():
            due.wake.set_result(None)


def _waits(due: _Due) -> bool:
    if not isinstance(due.wake, asyncio.Timeout):
        return not due.wake.done()
    try:
        due.wake.reschedule(None)
    except (RuntimeError, AssertionError):  # over, or not yet entered
        return False
    return True
