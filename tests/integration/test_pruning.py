"""Early stopping in a study on simulated jobs that print a curve. Simulated, not trained."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from manyhands.ports import Isolation, JobResult, JobSpec
from manyhands.teams.lab.algorithms import cast_of_algorithms
from manyhands.teams.lab.closing import odd
from manyhands.teams.lab.pruning import DIVERGED, PRUNED
from manyhands.teams.lab.records import Phase, Verdict
from manyhands.teams.lab.view import LabView
from tests.studies import lay_out
from tests.studies.casts import run_study
from tests.studies.landscape import SimulatedJobs, Values

STEPS = 40


def law(values: Values, phase: str) -> float:
    """A helps, B is very bad; C falls apart in its training, whatever it would give."""
    return -3.0 * values["A"] + 30.0 * values["B"]


@dataclass
class PrintingJobs:
    """``steps``: how many each phase trained."""

    jobs: SimulatedJobs
    steps: Counter[str] = field(default_factory=Counter[str])

    @property
    def isolation(self) -> Isolation:
        return self.jobs.isolation

    async def run(self, spec: JobSpec, on_output: Any = None) -> JobResult:
        result = await self.jobs.run(spec, on_output)
        if spec.trusted or on_output is None:
            return result
        final = json.loads((spec.out / "loss.json").read_text())
        broken = "\nC = 1" in (spec.cwd / "train.py").read_text()
        for step in range(1, STEPS + 1):
            self.steps[spec.labels["phase"]] += 1
            loss = float("nan") if broken and step > 4 else final + 20 * (1 - step / STEPS)
            told = {"step": step, "loss": loss, "remaining_steps": STEPS - step}
            on_output(json.dumps(told).encode() + b"\n")
        return result

    async def reap(self, key_prefix: str) -> int:
        return 0


async def study(folder: Path, *, enabled: bool) -> tuple[LabView, PrintingJobs]:
    folder.mkdir()
    text = (Path(__file__).parents[1] / "studies/landscape/study.toml").read_text()
    switch = f"\n[pruning]\nenabled = {json.dumps(enabled)}\n"
    at = lay_out("landscape", folder / "study", {"study.toml": text + switch})
    jobs = PrintingJobs(SimulatedJobs(law))
    view = await run_study(folder, at, cast_of_algorithms(1), runs=60, slots=2, jobs=jobs)
    return view, jobs


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabView, PrintingJobs]:
    import asyncio  # noqa: PLC0415

    return asyncio.run(study(tmp_path_factory.mktemp("pruned") / "a", enabled=True))


def test_what_falls_behind_is_ended_early_and_never_promoted(
    ended: tuple[LabView, PrintingJobs],
) -> None:
    view, jobs = ended
    behind = [e for e in view.experiments if e.hypothesis.setting == "B"]
    assert behind
    for bad in behind:  # a choice may be tried again on a later master
        assert (bad.verdict, bad.rule) == (Verdict.NOT_BETTER, PRUNED)
        assert "of its training its loss was" in bad.comment
        (row,) = [r for r in view.rows if r.experiment == bad.id]
        assert (row.exit, row.metric) == (PRUNED, None)
    promoted = [e.hypothesis.setting for e in view.experiments if e.verdict is Verdict.PROMOTED]
    assert promoted == ["A"]
    screens = sum(r.phase is Phase.SCREEN for r in view.rows)
    assert jobs.steps["screen"] < screens * STEPS
    confirmed = [r for r in view.rows if r.phase is Phase.CONFIRM]
    assert jobs.steps["confirm"] == len(confirmed) * STEPS
    assert all(r.exit == "ok" for r in confirmed)


def test_what_diverges_is_ended_and_said(ended: tuple[LabView, PrintingJobs]) -> None:
    view, _ = ended
    broken = [e for e in view.experiments if e.hypothesis.setting == "C"]
    assert {(e.verdict, e.rule) for e in broken} == {(Verdict.CRASHED, DIVERGED)}
    found = [a for a in odd(view) if a.kind == "diverging"]
    assert [a.experiment for a in found] == [e.id for e in broken]
    assert "its loss is nan at step 5" in found[0].text


async def test_it_can_be_switched_off(tmp_path: Path) -> None:
    view, _ = await study(tmp_path / "a", enabled=False)
    assert {r.exit for r in view.rows} <= {"ok", "not_run"}
