"""How a training went, step by step, out of what it printed.

A training that prints one JSON object to a line, with a whole ``step`` and numbers beside it, has a
curve: ``{"step": 12, "loss": 3.1, "lr_multiplier": 0.5, …}``. The names that trackers know are in
`NAMES`; others are shown under their own.

Invariant: it is what code that an agent edited says of itself. It is shown; the one thing that it
decides is whether the training that printed it goes on (`pruning`). Only finite numbers are taken,
under plain names, and a bounded part of them; what grows back is left out, so steps grow.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

#: What a training may say of a step -> how a tracker shows it.
NAMES: Mapping[str, str] = {
    "loss": "train/loss",
    "lr_multiplier": "train/lr_multiplier",
    "step_seconds": "train/step_seconds",
    "tokens_per_second": "train/tokens_per_second",
    "mfu_percent": "train/mfu_percent",
    "epoch": "train/epoch",
    "remaining_steps": "train/remaining_steps",
    "remaining_seconds": "train/remaining_seconds",
}
#: Of one training, points; of one point, numbers; of a log, bytes at its start and at its end.
MOST_POINTS = 200
MOST_NUMBERS = 20
MOST_BYTES = 2_000_000
_PLAIN = re.compile(r"[a-z][a-z0-9_]{0,40}\Z")

Point = tuple[int, dict[str, float]]


def curve_of(lines: Iterable[str]) -> list[Point]:
    """The points in ``lines``, at most `MOST_POINTS` of them, evenly taken, the last always."""
    found = list(_growing(lines))
    if len(found) <= MOST_POINTS:
        return found
    picked = {round(n * (len(found) - 1) / (MOST_POINTS - 1)) for n in range(MOST_POINTS)}
    return [found[at] for at in sorted(picked)]


def read_curve(log: Path) -> list[Point]:
    """The curve in a log. Empty where there is no such file, or no curve in it."""
    try:
        with log.open("rb") as file:
            raw = file.read(MOST_BYTES)
            left = log.stat().st_size - len(raw)
            if left > 0:
                file.seek(max(MOST_BYTES, log.stat().st_size - MOST_BYTES))
                raw += b"\n" + file.read(MOST_BYTES)
    except OSError:
        return []
    return curve_of(raw.decode("utf-8", "replace").splitlines())


def _growing(lines: Iterable[str]) -> Iterator[Point]:
    last = -1
    for line in lines:
        point = _point(line) if line.startswith("{") else None
        if point is not None and point[0] > last:
            last = point[0]
            yield point


def _point(line: str) -> Point | None:
    try:
        said: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    told = cast(dict[str, Any], said)
    step = told.get("step")
    if type(step) is not int or not 0 <= step < 2**40:
        return None
    numbers = {
        NAMES.get(name, f"train/{name}"): float(value)
        for name, value in list(told.items())[: MOST_NUMBERS + 1]
        if name != "step" and _PLAIN.match(name) and _finite(value)
    }
    return (step, numbers) if numbers else None


def _finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
