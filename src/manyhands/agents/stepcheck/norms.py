"""What is usual for a role: tokens and seconds of its steps.

Invariant: a step is measured against steps before it, never against itself; only the last ones are
kept.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field

from manyhands.agents.stepcheck.records import Step

#: Steps that are kept, and how many are needed before any is an outlier.
KEPT, NEEDED = 64, 8
#: An outlier is this many times the median, more than any step before it twice over, and above the
#: floor of its unit.
TIMES = 8.0
FLOORS = {"tokens": 400.0, "seconds": 5.0}


@dataclass(slots=True)
class _Last:
    order: deque[float] = field(default_factory=deque[float])
    ranked: list[float] = field(default_factory=list[float])

    def add(self, value: float) -> None:
        if len(self.order) == KEPT:
            del self.ranked[bisect_left(self.ranked, self.order.popleft())]
        self.order.append(value)
        insort(self.ranked, value)

    def median_if_above(self, value: float, floor: float) -> float | None:
        if len(self.ranked) < NEEDED or value < floor or value < 2 * self.ranked[-1]:
            return None
        median = statistics.median(self.ranked)
        return median if value > TIMES * max(median, 1e-9) else None


@dataclass(slots=True)
class Norms:
    """Of one role, over all of its agents that share this object."""

    _last: dict[str, _Last] = field(default_factory=lambda: {"tokens": _Last(), "seconds": _Last()})

    def add(self, step: Step) -> None:
        if step.tokens is not None:
            self._last["tokens"].add(float(step.tokens))
        if step.seconds is not None:
            self._last["seconds"].add(step.seconds)

    def above(self, unit: str, value: float | None) -> float | None:
        """The median, if ``value`` is far above it."""
        return None if value is None else self._last[unit].median_if_above(value, FLOORS[unit])
