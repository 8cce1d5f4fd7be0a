"""A tracker as a user writes one: a line of JSON for all that it is told, in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manyhands.ports import AlertLevel, Training


class FileTracker:
    def __init__(self, file: str) -> None:
        self._file, self._run = Path(file), ""

    async def begin(self, project: str, run: str, config: Mapping[str, object]) -> int:
        self._run = run
        self._add("begin", project, dict(config))
        return max((of[1] for of in self._has("log")), default=-1)

    async def log(self, step: int, values: Mapping[str, float], report: str = "") -> None:
        self._add("log", step, dict(values), report)

    async def alert(self, step: int, title: str, text: str, level: AlertLevel) -> bool:
        told = ["alert", step, title, text, level.value]
        new = told not in self._has("alert")
        if new:
            self._add(*told)
        return new

    async def training(self, told: Training) -> int:
        if any(of[1] == told.name for of in self._has("training")):
            return 0
        self._add("training", told.name, [[at, dict(v)] for at, v in told.steps])
        return len(told.steps)

    async def close(self) -> None: ...

    def _add(self, *told: Any) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps([self._run, *told]) + "\n")

    def _has(self, what: str) -> list[list[Any]]:
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        told = (json.loads(line) for line in lines)
        return [line[1:] for line in told if line[0] == self._run and line[1] == what]
