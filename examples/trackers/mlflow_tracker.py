"""Studies in MLflow: `manyhands lab run STUDY --track python:mlflow_tracker:Mlflow`.

Needs `pip install mlflow-skinny`, and this folder on PYTHONPATH. An option is the address of a
server, or of a database: `python:mlflow_tracker:Mlflow:http://127.0.0.1:5000`. A study is an
experiment, its run is a run, each training a run below it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from manyhands.ports import AlertLevel, Training

#: MLflow takes 1,000 metrics at once; a point has 20 at most.
BATCH = 50
PARENT, NAME, LAST = "mlflow.parentRunId", "mlflow.runName", "manyhands.last_step"


class Mlflow:
    """Implements `manyhands.ports.Tracker`. MLflow's calls block, so each is in a thread."""

    def __init__(self, uri: str = "") -> None:
        self._client = MlflowClient(uri or None)
        self._project = self._run = ""
        self._named = ""

    async def begin(self, project: str, run: str, config: Mapping[str, object]) -> int:
        return await asyncio.to_thread(self._begin, project, run, config)

    async def log(self, step: int, values: Mapping[str, float], report: str = "") -> None:
        await asyncio.to_thread(self._log, self._run, step, values, report)

    async def alert(self, step: int, title: str, text: str, level: AlertLevel) -> bool:
        return await asyncio.to_thread(self._alert, step, title, text, level)

    async def training(self, told: Training) -> int:
        return await asyncio.to_thread(self._training, told)

    async def close(self) -> None:
        if self._run:
            await asyncio.to_thread(self._client.set_terminated, self._run)
            self._run = ""

    def _begin(self, project: str, run: str, config: Mapping[str, object]) -> int:
        found = self._client.get_experiment_by_name(project)
        self._project = found.experiment_id if found else self._client.create_experiment(project)
        self._run, self._named = self._opened(run, config, {}), run
        return self._last(self._run)

    def _opened(self, name: str, about: Mapping[str, object], tags: Mapping[str, str]) -> str:
        """The run of this name, which is made if there is none."""
        named = name.replace("'", "")
        found: Any = self._client.search_runs([self._project], f"tags.`{NAME}` = '{named}'")
        if found:
            return found[0].info.run_id
        run = self._client.create_run(self._project, run_name=named, tags=dict(tags))
        params = [Param(key, str(value)[:500]) for key, value in about.items()]
        self._client.log_batch(run.info.run_id, params=params)
        return run.info.run_id

    def _last(self, run: str) -> int:
        return int(self._client.get_run(run).data.tags.get(LAST, -1))

    def _log(self, run: str, step: int, values: Mapping[str, float], report: str = "") -> None:
        if report:
            self._client.set_tag(run, "mlflow.note.content", report)
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(run, metrics, tags=[RunTag(LAST, str(step))])

    def _alert(self, step: int, title: str, text: str, level: AlertLevel) -> bool:
        words = hashlib.sha256(f"{step}\0{title}\0{text}".encode()).hexdigest()[:16]
        key = f"alert.{words}"
        if key in self._client.get_run(self._run).data.tags:
            return False
        self._client.set_tag(self._run, key, f"step {step}, {level}: {title}: {text}"[:5000])
        return True

    def _training(self, told: Training) -> int:
        run = self._opened(f"{self._named}/{told.name}", told.about, {PARENT: self._run})
        last = self._last(run)
        end = max((step for step, _ in told.steps), default=0) + 1
        summary = {f"final/{name}": value for name, value in told.summary.items()}
        now = int(time.time() * 1000)
        points = [point for point in (*told.steps, (end, summary)) if point[0] > last]
        for at in range(0, len(points), BATCH):
            part = points[at : at + BATCH]
            metrics = [Metric(name, v, now, step) for step, of in part for name, v in of.items()]
            self._client.log_batch(run, metrics, tags=[RunTag(LAST, str(part[-1][0]))])
        self._client.set_terminated(run)
        return len(points)
