"""The stopwatch that every contestant uses, and the work that every contestant does.

The work of a step is to note the time and to return 1 KB. So the time from one note to the next is
all that a library does around a step, whatever its threads; CPU seconds are the whole process's.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

#: 1 KB, as text, since all three keep text.
PAYLOAD = "x" * 1000


class Stopwatch:
    """Started by the first `tick`; `stop` is called when the library says that all is kept."""

    def __init__(self) -> None:
        self.ticks: list[float] = []
        self._cpu = 0.0

    def work(self, number: int) -> dict[str, Any]:
        if not self.ticks:
            self._cpu = time.process_time()
        self.ticks.append(time.perf_counter())
        return {"number": number, "payload": PAYLOAD}

    def stop(self, steps: int, edge: int = 0) -> dict[str, Any]:
        """Wall and CPU seconds; with ``edge`` also the median of the first and last that many."""
        end, cpu = time.perf_counter(), time.process_time()
        if len(self.ticks) != steps:
            raise AssertionError(f"{len(self.ticks)} steps ran, {steps} were asked for")
        found: dict[str, Any] = {
            "wall": end - self.ticks[0],
            "cpu": cpu - self._cpu,
            "count": steps,
        }
        if edge:
            gaps = [b - a for a, b in zip(self.ticks, self.ticks[1:])]
            found["first"] = statistics.median(gaps[:edge])
            found["last"] = statistics.median(gaps[-edge:])
        return found


class Span:
    """Wall and CPU seconds between `begin` and `end`, for work that is not made of steps."""

    def begin(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def end(self, count: int) -> dict[str, Any]:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {"wall": wall, "cpu": cpu, "count": count}
