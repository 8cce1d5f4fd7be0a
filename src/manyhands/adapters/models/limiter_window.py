"""What was begun within the last minute, against the limit of it.

Invariant: in no sixty seconds more is begun than the limit; only what is larger than the whole
limit is, and that alone. A window that slides, not a bucket that refills: a bucket that starts full
lets twice the limit into its first minute, which a server that counts by the minute refuses.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

_MINUTE = 60.0


@dataclass(slots=True)
class Entry:
    """What one request takes of a window from the moment ``at`` on."""

    at: float
    amount: float
    over: bool = False


class Window:
    """At most ``per_minute`` (None: any number). A limit below 1 is one in a longer time."""

    def __init__(self, per_minute: float | None) -> None:
        self.seconds = _MINUTE
        self.limit = math.inf if per_minute is None else per_minute
        if self.limit < 1:
            self.seconds, self.limit = _MINUTE / self.limit, 1.0
        self._entries: deque[Entry] = deque()
        self._sum = 0.0

    def ready_at(self, amount: float, now: float) -> float:
        """The moment from which on ``amount`` fits if nothing else is taken: ``now`` or later."""
        self._expire(now)
        left = self._sum
        if self.limit == math.inf or self._fits(left, amount):
            return now
        for entry in self._entries:
            left -= entry.amount
            if self._fits(left, amount):
                return entry.at + self.seconds
        return self._entries[-1].at + self.seconds

    def take(self, amount: float, now: float) -> Entry:
        entry = Entry(now, amount)
        if self.limit != math.inf:
            self._entries.append(entry)
            self._sum += amount
        return entry

    def correct(self, entry: Entry, amount: float) -> None:
        """It was ``amount`` in truth; of no matter where it has left the window."""
        if self.limit != math.inf and not entry.over:
            self._sum += amount - entry.amount
            entry.amount = amount

    def forget(self, entry: Entry) -> None:
        """It was not begun after all."""
        self.correct(entry, 0.0)

    def _fits(self, taken: float, amount: float) -> bool:
        return taken + amount <= self.limit or taken <= 0

    def _expire(self, now: float) -> None:
        while self._entries and self._entries[0].at + self.seconds <= now:
            entry = self._entries.popleft()
            entry.over = True
            self._sum -= entry.amount
        if not self._entries:
            self._sum = 0.0  # no rounding is carried on
