"""The process that talks to Trackio: a line of JSON in, a line of JSON out.

Invariant: nothing but answers is written to its standard output, whatever the library prints.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any


class Shown:
    """One run of Trackio's."""

    def __init__(self) -> None:
        self._trackio: Any = importlib.import_module("trackio")
        self._run: Any = None

    def begin(self, project: str, run: str, config: Mapping[str, Any], space: str) -> int:
        self._run = self._trackio.init(
            project=project,
            name=run,
            config=dict(config),
            space_id=space or None,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return int(self._run._next_step) - 1

    def log(self, step: int, values: Mapping[str, float], report: str) -> int:
        shown: dict[str, Any] = dict(values)
        if report:
            shown["report"] = self._trackio.Markdown(report)
        self._run.log(shown, step=step)
        return step

    def alert(self, step: int, title: str, text: str, level: str) -> int:
        named = self._trackio.AlertLevel[level.upper()]
        self._run.alert(title=title, text=text, level=named, step=step)
        return step

    def close(self) -> int:
        if self._run is not None:
            self._trackio.finish()
            self._run = None
        return 0


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    shown: Shown | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            shown = shown or Shown()
            call: Callable[..., int] = getattr(shown, asked.pop("do"))
            answer: dict[str, Any] = {"value": call(**asked)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
