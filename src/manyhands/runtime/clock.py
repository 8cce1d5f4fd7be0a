"""Time as the runtime sees it. `manyhands.testing.ManualClock` is the one that tests turn."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Unix time in seconds, sleep, and a limit on what runs inside of it."""

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """``async with``: `TimeoutError` after ``seconds``; ``expired()`` says whether it came."""
        return asyncio.timeout(seconds)


class SkippingClock(Clock):
    """For a replay: a sleep is over at once, and from then on it is that much later."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def time(self) -> float:
        return super().time() + self._skipped

    async def sleep(self, seconds: float) -> None:
        self._skipped += max(0.0, seconds)
        await asyncio.sleep(0)
