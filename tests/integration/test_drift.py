"""Machines that differ: what a study on simulated jobs makes of them. Simulated, not trained."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from manyhands.ports import Isolation, JobResult, JobSpec
from manyhands.teams.lab.algorithms import cast_of_algorithms
from manyhands.teams.lab.closing import odd
from manyhands.teams.lab.records import LedgerRow, Phase, Verdict
from manyhands.teams.lab.view import LabView
from tests.studies import lay_out
from tests.studies.casts import run_study
from tests.studies.landscape import SimulatedJobs

#: Twice the noise of a run, and seven times.
TWICE, LARGE = 2.0, 7.0


@dataclass
class MixedHosts:
    """Odd slots are on another kind of machine, where every loss is ``offset`` higher (from the
    run number ``after`` on). ``told``: whether jobs say the kind of their machine."""

    jobs: SimulatedJobs
    offset: float
    told: bool
    after: int = 0

    @property
    def isolation(self) -> Isolation:
        return self.jobs.isolation

    async def run(self, spec: JobSpec, on_output: Any = None) -> JobResult:
        result = await self.jobs.run(spec, on_output)
        if spec.trusted:
            return result
        other = spec.slot % 2 == 1 and self.jobs.launched > self.after
        if other:
            file = spec.out / "loss.json"
            file.write_text(json.dumps(json.loads(file.read_text()) + self.offset))
        kind = "new, 8 cores" if other else "old, 4 cores"
        return replace(result, host=kind if self.told else "")

    async def reap(self, key_prefix: str) -> int:
        return 0


async def study_on(folder: Path, world: int, *, told: bool, offset: float, **more: Any) -> LabView:
    """No setting does anything."""
    folder.mkdir()
    jobs = MixedHosts(SimulatedJobs(lambda values, phase: 0.0, world=world), offset, told, **more)
    study = lay_out("landscape", folder / "study")
    return await run_study(folder, study, cast_of_algorithms(world), runs=90, slots=2, jobs=jobs)


def pairs_of(view: LabView) -> list[tuple[LedgerRow, LedgerRow]]:
    """Candidate and master of each pair, in the order of the ledger."""
    confirmed = [r for r in view.rows if r.phase is Phase.CONFIRM]
    masters = {(r.experiment, r.seed): r for r in confirmed if r.verdict is Verdict.BASELINE}
    mine = [r for r in confirmed if r.verdict is not Verdict.BASELINE]
    found = [(r, masters[r.experiment, r.seed]) for r in mine]
    assert found
    return found


def kinds(view: LabView) -> set[str]:
    return {a.kind for a in odd(view)}


async def test_kinds_of_machines_are_told_apart_and_never_compared(tmp_path: Path) -> None:
    view = await study_on(tmp_path / "a", 1, told=True, offset=LARGE)
    assert {"off-host-drift", "hardware-change"} <= kinds(view)
    assert {row.host for row in view.rows} == {"new, 8 cores", "old, 4 cores"}
    assert any(row.phase is Phase.CANARY for row in view.rows)
    screened = [e.screen_gain for e in view.experiments if e.screen_gain is not None]
    assert screened
    assert max(abs(gain) for gain in screened) < LARGE - 1.5
    for mine, other in pairs_of(view):
        assert mine.host == other.host


async def test_an_offset_that_no_job_tells_of_is_seen_and_avoided(tmp_path: Path) -> None:
    """From then on both runs of a pair are in one slot."""
    view = await study_on(tmp_path / "a", 1, told=False, offset=LARGE)
    assert "off-host-drift" in kinds(view)
    assert "hardware-change" not in kinds(view)
    assert any("slot " in a.text for a in odd(view) if a.kind == "off-host-drift")
    *_, last = pairs_of(view)
    assert last[0].slot == last[1].slot


@pytest.mark.slow
@pytest.mark.parametrize("told", [True, False])
async def test_an_offset_of_twice_the_noise_over_many_studies(tmp_path: Path, told: bool) -> None:
    """No more false promotions than the test allows, and the offset is seen wherever it can be."""
    flagged = promoted = decided = 0
    worlds = 12
    for world in range(worlds):
        view = await study_on(tmp_path / str(world), world, told=told, offset=TWICE)
        flagged += "off-host-drift" in kinds(view)
        promoted += sum(e.verdict is Verdict.PROMOTED for e in view.experiments)
        decided += sum(e.decision is not None for e in view.experiments)
    print(f"told={told}: flagged {flagged}/{worlds}, promoted {promoted} of {decided}")
    assert flagged >= 0.9 * worlds
    assert promoted <= 0.05 * decided + 3


async def test_on_machines_of_one_kind_nothing_is_said(tmp_path: Path) -> None:
    view = await study_on(tmp_path / "a", 1, told=True, offset=0.0, after=10_000)
    assert not kinds(view) & {"off-host-drift", "hardware-change"}


async def test_the_master_is_run_again_where_it_has_not_run_for_long(tmp_path: Path) -> None:
    study = lay_out("landscape", tmp_path / "study")
    text = (study / "study.toml").read_text() + "\n[drift]\nevery = 4\n"
    study = lay_out("landscape", tmp_path / "often", {"study.toml": text})
    jobs = SimulatedJobs(lambda values, phase: 5.0 * sum(values.values()))
    view = await run_study(tmp_path, study, cast_of_algorithms(1), runs=40, slots=2, jobs=jobs)
    again = [r for r in view.rows if r.phase is Phase.CANARY]
    assert again
    assert {r.candidate for r in again} == {view.masters[0].commit}
    assert {r.verdict for r in again} == {Verdict.BASELINE}
    assert len({r.seed for r in again}) == len(again)
