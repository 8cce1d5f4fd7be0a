"""The process that talks to Trackio: a line of JSON in, a line of JSON out.

Invariant: nothing but answers is written to its standard output, whatever the library prints.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Alert = tuple[int, str, str]
BUSY = -2


class Shown:
    """One run of Trackio's, and those of the trainings that belong to it."""

    def __init__(self) -> None:
        self._trackio: Any = importlib.import_module("trackio")
        self._run: Any = None
        self._begun: tuple[str, str, str] = ("", "", "")
        self._last = -1
        self._alerts: set[Alert] = set()

    def begin(self, project: str, run: str, config: Mapping[str, Any], space: str) -> int:
        """The run's last step, -1 for none. `BUSY` while another process of this machine has it:
        both would show what both were told."""
        if not self._taken(project, run, space):
            return BUSY
        self._begun = (project, run, space)
        self._run = self._open(run, config)
        self._last = int(self._run._next_step) - 1
        self._alerts = set() if space else self._kept(project, run)
        return self._last

    def _taken(self, project: str, run: str, space: str) -> bool:
        folder = Path(self._trackio.utils.TRACKIO_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        named = hashlib.sha256("\0".join((project, run, space)).encode()).hexdigest()[:24]
        # The kernel gives it back when this process ends, however that is.
        self._lock = (folder / f".manyhands-{named}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _open(self, name: str, config: Mapping[str, Any]) -> Any:
        project, run, space = self._begun
        return self._trackio.init(
            project=project,
            name=name,
            group=run,
            config=dict(config),
            space_id=space or None,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def _kept(self, project: str, run: str) -> set[Alert]:
        try:
            found = self._trackio.Api().alerts(project, run=run)
        except ValueError:  # there is no such project yet
            return set()
        return {(each["step"], each["title"], each["text"]) for each in found}

    def log(self, step: int, values: Mapping[str, float], report: str) -> int:
        shown: dict[str, Any] = dict(values)
        if report:
            shown["report"] = self._trackio.Markdown(report)
        self._run.log(shown, step=step)
        return step

    def alert(self, step: int, title: str, text: str, level: str) -> int:
        """1 if it is new. What a Space has cannot be asked for; there the last step counts."""
        told = (step, title, text)
        if told in self._alerts or (self._begun[2] and step <= self._last):
            return 0
        self._alerts.add(told)
        named = self._trackio.AlertLevel[level.upper()]
        self._run.alert(title=title, text=text, level=named, step=step)
        return 1

    def training(
        self,
        name: str,
        about: Mapping[str, Any],
        steps: Sequence[tuple[int, Mapping[str, float]]],
        summary: Mapping[str, float],
    ) -> int:
        """``summary`` is logged after the last step; `finish` waits until all is written."""
        run = self._open(f"{self._begun[1]}/{name}", about)
        end = max((step for step, _ in steps), default=0) + 1
        told = [*steps, (end, {f"final/{key}": value for key, value in summary.items()})]
        new = [(step, values) for step, values in told if step >= int(run._next_step)]
        for step, values in new:
            run.log(dict(values), step=step)
        run.finish()
        return len(new)

    def close(self) -> int:
        if self._run is not None:
            self._run.finish()
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
