"""Whether an agent's turns get anywhere.

Invariant: turns that go round in a circle of one to five, with the same calls and the same results,
are noticed as soon as the circle has closed often enough; a result that changes is no circle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

from manyhands.agents.encoding import encode
from manyhands.ports import ToolCall

#: The longest circle that is looked for, in turns.
LONGEST = 5


def closed(marks: Sequence[Hashable], length: int, times: int) -> bool:
    """Whether the last turns were a circle of ``length``, ``times`` over."""
    last = marks[-length * times :]
    return len(last) == length * times and all(m == last[i % length] for i, m in enumerate(last))


class Repetition:
    """Remembers what the last turns did. ``repeats``: how often a circle must have closed."""

    def __init__(self, repeats: int) -> None:
        self._repeats = repeats
        self._marks: list[bytes] = []

    def seen(self, calls: Sequence[ToolCall], results: Sequence[str]) -> int:
        """Add a turn. The length of the circle that it closes; 0: there is none."""
        told = encode([[c.name, c.arguments, r] for c, r in zip(calls, results, strict=True)])
        self._marks.append(hashlib.sha256(told).digest())
        del self._marks[: -LONGEST * self._repeats]
        lengths = range(1, LONGEST + 1)
        return next((n for n in lengths if closed(self._marks, n, self._repeats)), 0)
