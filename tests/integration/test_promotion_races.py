"""Two workers that win at once: nothing is overwritten, the second is measured on the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyhands.runtime import Runtime
from manyhands.teams.lab.records import Phase, Verdict
from manyhands.teams.lab.view import read_lab
from tests.studies import git, lay_out
from tests.studies.casts import proposing, run_study, workflow_of

pytestmark = pytest.mark.needs("bubblewrap")


@pytest.mark.slow
async def test_two_that_win_at_once_both_keep_their_wins(tmp_path: Path) -> None:
    study = lay_out("regression", tmp_path / "study")
    cast = proposing([("RATE", 0.009), ("STEP_LIMIT", 800)])
    view = await run_study(tmp_path, study, cast, runs=90, slots=8)
    first, second = (e for e in view.experiments if e.verdict is Verdict.PROMOTED)
    assert second.parent == first.candidate
    assert second.rebased_from
    against = {
        r.candidate
        for r in view.rows
        if r.experiment == second.id and r.phase is Phase.CONFIRM and r.delta == 0
    }
    assert first.candidate in against, "the second was not measured against the first"
    text = git(study, "show", f"{second.candidate}:train.py")
    assert "RATE = 0.009" in text
    assert "STEP_LIMIT = 800" in text


@pytest.mark.slow
async def test_a_change_that_the_new_master_has_already_is_stale(tmp_path: Path) -> None:
    study = lay_out("regression", tmp_path / "study")
    cast = proposing([("RATE", 0.009), ("RATE", 0.0090000001)])
    view = await run_study(tmp_path, study, cast, runs=60, slots=8)
    verdicts = [e.verdict for e in view.experiments]
    assert verdicts.count(Verdict.PROMOTED) <= 1
    assert len(view.masters) == 1 + verdicts.count(Verdict.PROMOTED)


@pytest.mark.slow
async def test_a_forked_study_promotes_on_refs_of_its_own(tmp_path: Path) -> None:
    study = lay_out("regression", tmp_path / "study")
    cast = proposing([("RATE", 0.009)])
    await run_study(tmp_path, study, cast, runs=18, slots=4)
    async with Runtime.open(tmp_path / "journal.db", workflows=[workflow_of(cast)]) as runtime:
        gate = next(k for k in runtime.view("study").steps if "/gate/" in k)
        await runtime.fork("study", gate, new_run_id="other")
        await (await runtime.resume("other")).result()
        view = read_lab(runtime, "other")
    promoted = [e for e in view.experiments if e.verdict is Verdict.PROMOTED]
    assert [e.candidate for e in promoted] == [
        git(study, "rev-parse", "refs/manyhands/other/master")
    ]
    trees = [f"{c}^{{tree}}" for c in ("manyhands/regression/other", promoted[0].candidate)]
    assert len(set(git(study, "rev-parse", *trees).split())) == 1
