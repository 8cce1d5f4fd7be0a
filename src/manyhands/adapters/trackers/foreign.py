"""Trackers that others wrote, named by where Python finds them.

Invariant: whatever such a tracker raises, and however long it takes, is a `TrackerError`; it ends
no study. A call that blocks the thread cannot be cut: those belong into `asyncio.to_thread`.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from manyhands.errors import ConfigError, TrackerError
from manyhands.ports import AlertLevel, Tracker, Training

T = TypeVar("T")

FORM = "python:MODULE:NAME, or python:MODULE:NAME:OPTION"
CALLS = ("begin", "log", "alert", "training", "close")


class ForeignTracker:
    """``tracker`` within bounds. ``name`` is for errors; ``seconds`` bounds each call."""

    def __init__(self, tracker: Tracker, name: str, *, seconds: float = 60.0) -> None:
        self._tracker, self._name, self._seconds = tracker, name, seconds

    async def begin(self, project: str, run: str, config: Mapping[str, object]) -> int:
        return await self._ask("begin", self._tracker.begin(project, run, config))

    async def log(self, step: int, values: Mapping[str, float], report: str = "") -> None:
        await self._ask("log", self._tracker.log(step, values, report))

    async def alert(self, step: int, title: str, text: str, level: AlertLevel) -> bool:
        return await self._ask("alert", self._tracker.alert(step, title, text, level))

    async def training(self, told: Training) -> int:
        return await self._ask("training", self._tracker.training(told))

    async def close(self) -> None:
        await self._ask("close", self._tracker.close())

    async def _ask(self, what: str, answer: Awaitable[T]) -> T:
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                return await answer
        except Exception as error:
            said = f"{type(error).__name__}: {error}"[:400]
            if limit.expired():
                said = f"no answer within {self._seconds:g} s"
            raise TrackerError(
                f"{self._name}: {what}: {said}",
                next="`manyhands lab track STUDY --to TRACKER` shows the rest later",
            ) from error


def load(where: str) -> ForeignTracker:
    """``where``: ``MODULE:NAME``, called without arguments, or ``MODULE:NAME:OPTION``, called with
    that text. Raises `ConfigError` for what is not there or lacks a call of `ports.Tracker`."""
    module, _, rest = where.partition(":")
    name, _, option = rest.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ConfigError(f"python:{where!r} names no tracker", next=f"write {FORM}")
    try:
        make: Any = getattr(importlib.import_module(module), name)
        tracker: Any = make(option) if option else make()
    except Exception as error:
        raise ConfigError(
            f"the tracker python:{where} cannot be made: {type(error).__name__}: {error}",
            next="install its package, or put its folder on PYTHONPATH",
        ) from error
    missing = [c for c in CALLS if not inspect.iscoroutinefunction(getattr(tracker, c, None))]
    if missing:
        raise ConfigError(
            f"the tracker python:{where} has no `async def {missing[0]}`",
            next=f"write the calls of manyhands.ports.Tracker: {', '.join(CALLS)}",
        )
    return ForeignTracker(tracker, f"tracker {module}:{name}")
