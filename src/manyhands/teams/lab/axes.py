"""A setting as a search dimension: where a value lies in its range, and what lies a step away.

Invariant: whatever is asked for, the value that comes back is one that the setting may take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from manyhands.teams.lab.memory import value_text
from manyhands.teams.lab.records import Literalish
from manyhands.teams.lab.settings import Setting

Number = int | float

#: Two values nearer than this part of the range are one value.
SAME = 0.02


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting as a search dimension.

    A number has ``low < high`` and, if only some values are allowed, those in ascending order as
    ``grid``. Anything else has ``options``, which have no order.
    """

    name: str
    current: Literalish
    kind: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    grid: tuple[Number, ...] = ()
    options: tuple[Literalish, ...] = ()

    @property
    def whole(self) -> bool:
        return self.kind == "int"

    def place(self, value: Literalish) -> float:
        """Where ``value`` lies, 0 at the low end and 1 at the high end of the range."""
        low, high, x = self.low, self.high, min(max(float(value), self.low), self.high)
        if self.log:
            low, high, x = math.log(low), math.log(high), math.log(x)
        return (x - low) / (high - low)

    def at(self, place: float) -> Literalish:
        """The value there, as `tidy` writes it; beyond the ends, the end."""
        part = min(max(place, 0.0), 1.0)
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        x = low + part * (high - low)
        return self.tidy(math.exp(x) if self.log else x)

    def stepped(self, step: float) -> Literalish:
        """The value ``step`` of the range away from the current one; at least the next value."""
        value = self.at(self.place(self.current) + step)
        if not self.same(value, self.current):
            return value
        up = step > 0
        if self.grid:
            further = [v for v in self.grid if (v > self.number if up else v < self.number)]
            return (further[0] if up else further[-1]) if further else self.current
        return self.inside(self.number + (1 if up else -1)) if self.whole else value

    @property
    def number(self) -> float:
        return float(self.current)

    def tidy(self, value: Literalish) -> Literalish:
        """A value that reads well: of the grid, or of three significant digits."""
        if self.options:
            return value
        if self.grid:
            here = self.place(value)
            return min(self.grid, key=lambda v: abs(self.place(v) - here))
        return self.inside(float(f"{float(value):.3g}"))

    def inside(self, value: Literalish) -> Literalish:
        """``value`` as the distribution takes it: within the range, an int for an int."""
        if self.options:
            return value
        x = min(max(float(value), self.low), self.high)
        return round(x) if self.whole else x

    def has(self, value: Literalish) -> bool:
        """Whether ``value`` lies in the range (of which the current one may have moved away)."""
        if self.options:
            return value in self.options
        return not isinstance(value, str) and self.low <= value <= self.high

    def same(self, one: Literalish, other: Literalish) -> bool:
        if self.options or self.whole or self.grid:
            return value_text(one) == value_text(other)
        return abs(self.place(one) - self.place(other)) < SAME


def axis_of(setting: Setting) -> Axis | None:
    """The search dimension of ``setting``; None where there is nothing to choose from."""
    name, value, kind = setting.name, setting.value, setting.kind
    if setting.choices:
        listed = tuple(dict.fromkeys((*setting.choices, value)))
        if kind not in ("int", "float"):
            return Axis(name, value, kind, options=listed) if len(listed) > 1 else None
        grid = tuple(sorted(v for v in listed if not isinstance(v, str)))
        log = grid[0] > 0 and grid[-1] / grid[0] > 4
        ends = float(grid[0]), float(grid[-1])
        return Axis(name, value, kind, *ends, log, grid) if len(grid) > 1 else None
    if setting.low is None or setting.high is None or isinstance(value, str):
        return None
    low, high = min(setting.low, float(value)), max(setting.high, float(value))
    if kind == "int":
        low, high = math.ceil(low), math.floor(high)
    return Axis(name, value, kind, low, high, setting.log and low > 0) if low < high else None


def read_value(axis: Axis, text: str) -> Literalish | None:
    if axis.options:
        return next((o for o in axis.options if str(o).lower() == text.lower()), None)
    try:
        number = float(text.strip("'`").replace("_", ""))
    except ValueError:
        return None
    return axis.tidy(number) if axis.low <= number <= axis.high else None
