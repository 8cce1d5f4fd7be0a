"""Rounds overlap: who is slow holds nobody up. Simulated jobs; nothing here looks at a clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from manyhands.ports import Isolation, JobResult, JobSpec
from manyhands.runtime import Run, Runtime
from manyhands.teams.lab.algorithms import cast_of_algorithms
from manyhands.teams.lab.cast import Filled
from manyhands.teams.lab.records import Phase
from manyhands.teams.lab.state import Order
from manyhands.teams.lab.view import read_lab
from tests.studies import HERE, lay_out
from tests.studies.casts import run_study, workflow_of
from tests.studies.landscape import SimulatedJobs

RUNS = 80


def wide(folder: Path) -> Path:
    """More to try than a test can."""
    told = (HERE / "landscape" / "study.toml").read_text()
    told = told.replace("[0, 1]", str([*range(40)])).replace("[slots]", "[slots]\noverlap = true")
    return lay_out("landscape", folder / "study", {"study.toml": told})


@dataclass
class Held:
    """Jobs of which the first screening does not end before ``released``. ``begun``: their keys."""

    jobs: SimulatedJobs
    released: asyncio.Event = field(default_factory=asyncio.Event)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[str] = field(default_factory=list[str])

    @property
    def isolation(self) -> Isolation:
        return self.jobs.isolation

    async def run(self, spec: JobSpec, on_output: Any = None) -> JobResult:
        if spec.labels.get("phase") == Phase.SCREEN:
            self.begun.append(spec.key)
            if len(self.begun) == 1:
                self.held.set()
                await self.released.wait()
        return await self.jobs.run(spec, on_output)

    async def reap(self, key_prefix: str) -> int:
        return 0


@dataclass
class UntilTheNextRound(Held):
    async def run(self, spec: JobSpec, on_output: Any = None) -> JobResult:
        if "/round-2/" in spec.key:
            self.released.set()
        return await super().run(spec, on_output)


@pytest.mark.timeout(60)
async def test_a_slow_experiment_ends_after_others_of_the_next_round_have_begun(
    tmp_path: Path,
) -> None:
    jobs = UntilTheNextRound(SimulatedJobs(lambda values, phase: 0.0))
    cast = cast_of_algorithms(1)
    view = await run_study(tmp_path, wide(tmp_path), cast, runs=RUNS, slots=2, jobs=jobs)
    assert {"/round-1/" in key for key in jobs.begun} == {True, False}
    assert len(view.measurements) <= RUNS


@pytest.mark.timeout(60)
async def test_a_planner_thinks_while_trainings_run(tmp_path: Path) -> None:
    jobs = Held(SimulatedJobs(lambda values, phase: 0.0))
    cast, asked = cast_of_algorithms(1), 0
    plan = cast.planner.fill

    async def think(run: Run, *about: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 2:  # a screening of the first round is under way, and will be until now
            await jobs.held.wait()
            jobs.released.set()
        return await plan(run, *about)

    cast = replace(cast, planner=Filled("thinking", think))
    await run_study(tmp_path, wide(tmp_path), cast, runs=RUNS, slots=2, jobs=jobs)
    assert asked >= 2
    assert jobs.released.is_set()


@dataclass
class Scrambled:
    """Jobs that end in another order each time."""

    jobs: SimulatedJobs
    turn: int

    @property
    def isolation(self) -> Isolation:
        return self.jobs.isolation

    async def run(self, spec: JobSpec, on_output: Any = None) -> JobResult:
        seed = f"{self.turn}{spec.labels.get('candidate')}{spec.env.get('MANYHANDS_SEED')}"
        for _ in range(sum(map(ord, seed)) * 7919 % 40):
            await asyncio.sleep(0)
        return await self.jobs.run(spec, on_output)

    async def reap(self, key_prefix: str) -> int:
        return 0


@pytest.mark.slow
async def test_who_ends_first_changes_nothing(tmp_path: Path) -> None:
    told: list[Any] = []
    for turn in (1, 2):
        folder = tmp_path / str(turn)
        folder.mkdir()
        jobs = Scrambled(SimulatedJobs(lambda values, phase: -0.1 * values["A"]), turn)
        study, cast = wide(folder), cast_of_algorithms(1)
        view = await run_study(folder, study, cast, runs=RUNS, slots=3, jobs=jobs)
        verdicts = [(e.id, e.hypothesis.title, e.verdict, e.screen_gain) for e in view.experiments]
        told.append((verdicts, [(r.experiment, r.seed, r.metric) for r in view.rows], view.reason))
        assert len(view.measurements) <= RUNS
    assert told[0] == told[1]


async def test_asked_to_stop_it_lands_what_is_under_way(tmp_path: Path) -> None:
    jobs = Held(SimulatedJobs(lambda values, phase: 0.0))
    workflow = workflow_of(cast_of_algorithms(1), jobs)
    async with Runtime.open(tmp_path / "journal.db") as runtime:
        order = Order(study=str(wide(tmp_path)), runs=RUNS, slots=2)
        handle = await runtime.start(workflow, order, run_id="study")
        await jobs.held.wait()
        await runtime.command("study", "stop")
        jobs.released.set()
        await handle.result()
        view = read_lab(runtime, "study")
    assert view.reason.startswith("stopped")
    settled = {e.hypothesis.id for e in view.experiments}
    assert settled == {h.id for h in view.proposed}
    assert not view.running
