"""Time as the runtime sees it. `manyhands.testing.ManualClock` is the one that tests turn."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Unix time in seconds, and sleep."""

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
