"""A study whose disk is full waits for room: nothing is held against the programs that failed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from manyhands.config import Config
from manyhands.errors import DiskFull
from manyhands.ports import JobExit, JobResult, JobSpec
from manyhands.runtime import Runtime, Status
from manyhands.teams.lab.records import Verdict
from manyhands.teams.lab.state import Order
from manyhands.teams.lab.view import read_lab
from manyhands.wiring import lab_workflow
from tests.studies import lay_out
from tests.studies.landscape import SimulatedJobs, lucky

SAID = "OSError: [Errno 28] No space left on device\n"


@dataclass
class FullJobs(SimulatedJobs):
    """From its tenth training on each says that there is no room, as long as ``full``."""

    full: bool = True

    async def run(
        self, spec: JobSpec, on_output: Callable[[bytes], None] | None = None
    ) -> JobResult:
        done = await super().run(spec, on_output)
        if self.full and self.launched >= 10 and not spec.trusted:
            return replace(done, exit=JobExit.FAILED, code=1, log_tail=SAID)
        return done


async def test_a_study_on_a_full_disk_halts_and_goes_on(
    fast_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, truly = type(shutil.disk_usage(tmp_path)), shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))  # type: ignore[arg-type]
    jobs = FullJobs(lucky, world=2)
    workflow = lab_workflow(Config(), models={}, jobs=jobs)
    order = Order(study=str(lay_out("landscape", tmp_path / "study")), runs=30)
    async with Runtime.open(fast_path, workflows=[workflow]) as runtime:
        with pytest.raises(DiskFull, match="No space left"):
            await runtime.run(workflow, order, run_id="r")
        assert runtime.view("r").status is Status.BLOCKED
        assert read_lab(runtime, "r").rows, "it had got somewhere"
        jobs.full = False
        outcome: Any = await (await runtime.resume("r")).result()
        view = read_lab(runtime, "r")
        assert {m.exit for m in view.measurements} == {"ok"}
        assert outcome["runs"] == len(view.measurements) <= 30

    # Where there is room, the same words are the program's own: it has crashed.
    monkeypatch.setattr(shutil, "disk_usage", truly)
    jobs.full, jobs.launched = True, 0
    async with Runtime.open(fast_path, workflows=[workflow]) as runtime:
        await runtime.run(workflow, order, run_id="other")
        assert Verdict.CRASHED in {e.verdict for e in read_lab(runtime, "other").experiments}
