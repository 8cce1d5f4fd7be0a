"""What a benchmark reports: rows of per-round values, their goals, the table and the JSON.

Invariant: a row's value is the median of its rounds, and its verdict follows from that alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Goal:
    """``at_least`` or ``at_most`` this much, in the row's unit."""

    limit: float
    at_least: bool

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def text(self, unit: str) -> str:
        return f"{'≥' if self.at_least else '≤'} {show(self.limit, unit)}"


def at_least(limit: float) -> Goal:
    return Goal(limit, True)


def at_most(limit: float) -> Goal:
    return Goal(limit, False)


@dataclass(frozen=True)
class Row:
    """One figure. ``values``: one per round; ``raw``: what they were computed from (JSON)."""

    bench: str
    name: str
    values: Sequence[float]
    unit: str = "×"
    goal: Goal | None = None
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        return None if self.goal is None else self.goal.met_by(self.median)

    @property
    def verdict(self) -> str:
        return {None: "", True: "met", False: "NOT MET"}[self.met]

    def cells(self) -> tuple[str, ...]:
        low, high = min(self.values), max(self.values)
        spread = f"{show(low, self.unit)} … {show(high, self.unit)}" if low != high else ""
        goal = self.goal.text(self.unit) if self.goal else ""
        return self.bench, self.name, show(self.median, self.unit), spread, goal, self.verdict

    def to_json(self) -> dict[str, Any]:
        goal = self.goal and {"limit": self.goal.limit, "at_least": self.goal.at_least}
        return {
            "bench": self.bench,
            "name": self.name,
            "median": self.median,
            "unit": self.unit,
            "rounds": list(self.values),
            "goal": goal,
            "met": self.met,
            "raw": self.raw,
        }


def show(value: float, unit: str) -> str:
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}{unit if unit in '×%' else f' {unit}'}"


_HEAD = ("benchmark", "ratio", "median", "rounds", "goal", "")


def table(rows: Iterable[Row]) -> str:
    """Plain text, columns aligned, one line per row."""
    lines = [_HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    )
