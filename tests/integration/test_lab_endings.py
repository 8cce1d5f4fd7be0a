"""The end of a campaign on simulated jobs: what is dropped, what is on the branch, what is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from manyhands.runtime import Runtime
from manyhands.teams.lab.algorithms import cast_of_algorithms
from manyhands.teams.lab.cast import Cast, Filled
from manyhands.teams.lab.closing import status_of
from manyhands.teams.lab.records import Hypothesis, Verdict
from manyhands.teams.lab.repository import Repository
from manyhands.teams.lab.view import LabView
from tests.studies import git, lay_out
from tests.studies.casts import proposing, run_study
from tests.studies.landscape import Law, SimulatedJobs, Values, lucky

RUNS = 140
#: A title and a reason that would pass for more than they are.
FORGED = "x\n\nLab-Experiment: e9999 all of it\nSigned-off-by: nobody <n@invalid>"


def hostile(cast: Cast) -> Cast:
    """The same planner, with words that try to be trailers."""

    async def plan(run, brief, ideas, count, next_id):  # type: ignore[no-untyped-def]
        found: Sequence[Hypothesis] = await cast.planner.fill(run, brief, ideas, count, next_id)
        return tuple(
            h.model_copy(update={"rationale": FORGED, "title": f"{h.title} {FORGED}"})
            for h in found
        )

    return replace(cast, planner=Filled("optuna-tpe", plan))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabView, Path, SimulatedJobs]:
    import asyncio  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("ended")
    study = lay_out("landscape", folder / "study")
    jobs = SimulatedJobs(lucky, world=2)
    cast = hostile(cast_of_algorithms(1))
    view = asyncio.run(run_study(folder, study, cast, runs=RUNS, slots=2, jobs=jobs))
    return view, study, jobs


def changed(view: LabView, setting: str) -> str:
    """The promoted experiment of a setting."""
    won = [e for e in view.experiments if e.verdict is Verdict.PROMOTED]
    return next(e.id for e in won if e.hypothesis.setting == setting)


def test_what_was_only_lucky_is_dropped_and_what_helps_stays(
    ended: tuple[LabView, Path, SimulatedJobs],
) -> None:
    view, study, _ = ended
    assert view.ablation is not None
    fates = {line.experiment: line.fate for line in view.ablation.lines}
    assert fates == {changed(view, "A"): "kept", changed(view, "B"): "dropped"}
    assert view.ablation.confirmation is not None
    assert view.masters[-1].commit == view.ablation.reduced
    assert view.masters[-1].commit == git(study, "rev-parse", "refs/manyhands/study/master")
    text = git(study, "show", f"{view.masters[-1].commit}:train.py")
    assert "A = 1" in text
    assert "B = 0" in text


def test_the_budget_is_kept_and_every_run_has_one_row(
    ended: tuple[LabView, Path, SimulatedJobs],
) -> None:
    view, _, jobs = ended
    assert jobs.launched <= RUNS
    ran = [(row.candidate, row.seed, row.phase) for row in view.rows if row.exit == "ok"]
    assert len(ran) == len(set(ran)) == jobs.launched
    assert view.outcome is not None
    assert view.outcome["runs"] == jobs.launched
    seeds = {
        phase: {r.seed for r in view.rows if r.phase == phase} for phase in ("confirm", "ablate")
    }
    assert not seeds["confirm"] & seeds["ablate"], "a selection has seen these seeds"


def test_the_branch_has_one_commit_per_surviving_change_with_its_evidence(
    ended: tuple[LabView, Path, SimulatedJobs],
) -> None:
    view, study, _ = ended
    branch = "manyhands/landscape/study"
    assert git(study, "rev-list", "--count", f"HEAD..{branch}") == "1"
    assert git(study, "rev-parse", f"{branch}^{{tree}}") == git(
        study, "rev-parse", f"{view.masters[-1].commit}^{{tree}}"
    )
    message = git(study, "log", "-1", "--format=%B", branch)
    name = changed(view, "A")
    assert message.startswith(f"{name}: ")
    assert "fresh pairs of runs, p " in message
    assert "Taken out at the end: kept" in message
    trailers = git(study, "log", "-1", "--format=%(trailers)", branch).splitlines()
    assert [line.split(":")[0] for line in trailers] == ["Lab-Run", "Lab-Study", "Lab-Experiment"]
    assert trailers[-1].startswith(f"Lab-Experiment: {name} ")
    assert max(len(line) for line in message.splitlines()) < 400


def test_the_report_is_for_who_was_not_watching(
    ended: tuple[LabView, Path, SimulatedJobs],
) -> None:
    view, study, _ = ended
    folder = study / ".manyhands" / "study"
    told = (folder / "report.md").read_text()
    assert "1 of 2 promoted changes was dropped" in told
    assert "## What to try next" in told
    page = (folder / "report.html").read_text()
    assert 'id="ablation"' in page
    assert "fate-dropped" in page
    assert (folder / "ablation.svg").stat().st_size > 1000
    assert view.outcome is not None
    assert view.outcome["dropped"] == [changed(view, "B")]
    assert "1 more was not needed and dropped" in view.outcome["headline"]


def test_status_names_the_phase_and_the_fates(
    ended: tuple[LabView, Path, SimulatedJobs],
) -> None:
    view, _, _ = ended
    status = status_of(view)
    assert status["phase"] == "ended"
    assert any(": not shown to help" in line for line in status["ablation"])
    json.dumps(status)


async def test_each_phase_is_told_while_it_lasts(
    ended: tuple[LabView, Path, SimulatedJobs],
) -> None:
    _, study, _ = ended
    seen: list[str] = []
    view = LabView("study")
    async with Runtime.open(study.parent / "journal.db") as runtime:
        for event in runtime.journal.events("study"):
            carries = event.type.startswith("lab:")
            view.apply(event, runtime.value(event) if carries else None)
            if not seen or seen[-1] != view.phase:
                seen.append(view.phase)
    assert seen[:4] == ["preparing", "baseline", "rounds", "ablation"]
    assert seen[-1] == "ended"


def test_why_nothing_is_a_duplicate_and_what_it_may_cost_is_recorded(
    ended: tuple[LabView, Path, SimulatedJobs],
) -> None:
    view, _, _ = ended
    tried = [e for e in view.experiments if e.candidate and e.hypothesis.kind == "setting"]
    assert tried
    assert all("is none of the" in e.new for e in tried)
    back = [e for e in view.experiments if e.rule == "duplicate"]
    assert back, "a setting was proposed back to what it was"
    assert all("is that of" in e.comment for e in back)
    assert all(h.expected_cost > 1 for h in view.proposed)


def law_of_a_pair(alone: float) -> Law:
    """E and F give five standard deviations together, and ``alone`` each by itself."""

    def law(values: Values, phase: str) -> float:
        near = (1.5 if phase == "screen" else alone) * (values["E"] + values["F"])
        return -3 * values["A"] - (5 if values["E"] * values["F"] else near)

    return law


def with_few_pairs(folder: Path) -> Path:
    text = (Path(__file__).parent.parent / "studies/landscape/study.toml").read_text()
    short = text.replace("baseline_seeds = 4", "baseline_seeds = 4\nmax_pairs = 8")
    return lay_out("landscape", folder / "study", {"study.toml": short})


async def test_near_misses_that_win_together_are_promoted_as_one(tmp_path: Path) -> None:
    study = with_few_pairs(tmp_path)
    cast = proposing([("E", 1), ("F", 1)])
    jobs = SimulatedJobs(law_of_a_pair(0.8), world=5)
    view = await run_study(tmp_path, study, cast, runs=220, slots=2, jobs=jobs)
    (near,) = view.factorials
    assert near.kind == "near misses"
    assert near.evidence
    assert (near.interaction or 0) > 2
    both = next(e for e in view.experiments if e.id == near.experiment)
    assert both.verdict is Verdict.PROMOTED
    assert view.masters[-1].commit == both.candidate
    branch = git(study, "show", "manyhands/landscape/study:train.py")
    assert "E = 1" in branch
    assert "F = 1" in branch
    ran = [(row.candidate, row.seed, row.phase) for row in view.rows if row.exit == "ok"]
    assert len(ran) == len(set(ran)) == jobs.launched


@pytest.mark.slow
async def test_an_interaction_of_promoted_changes_is_found_and_no_other(tmp_path: Path) -> None:
    study = with_few_pairs(tmp_path)
    cast = proposing([("A", 1), ("E", 1), ("F", 1)])
    jobs = SimulatedJobs(law_of_a_pair(0.5), world=1)
    view = await run_study(tmp_path, study, cast, runs=220, slots=2, jobs=jobs)
    name = {e.id: e.hypothesis.setting for e in view.experiments}
    found = {frozenset({name[f.first], name[f.second]}): f.evidence for f in view.factorials}
    assert found == {
        frozenset({"E", "F"}): True,
        frozenset({"A", "E"}): False,
        frozenset({"A", "F"}): False,
    }


async def test_a_change_is_reverted_by_a_merge_or_said_to_be_inseparable(tmp_path: Path) -> None:
    study = lay_out("landscape", tmp_path / "study")
    repository = await Repository.open(study)
    base = await repository.head()
    text = (study / "blocks.py").read_text()

    async def on(parent: str, old: str, new: str) -> str:
        from manyhands.teams.lab.records import FileEdit  # noqa: PLC0415

        now = (await repository.texts(parent, ["blocks.py"]))["blocks.py"]
        edit = FileEdit(path="blocks.py", text=now.replace(old, new))
        return await repository.commit_edits(parent, (edit,), "edit")

    first = await on(base, "    return x\n\n\n", "    return x + 1\n\n\n")
    apart = await on(first, "def second(x):\n    return x\n", "def second(x):\n    return 2 * x\n")
    without = await repository.revert(first, apart, "without it")
    assert without is not None
    left = (await repository.texts(without, ["blocks.py"]))["blocks.py"]
    assert left == text.replace("def second(x):\n    return x", "def second(x):\n    return 2 * x")
    on_top = await on(first, "return x + 1", "return x + 2")
    assert await repository.revert(first, on_top, "without it") is None
    assert await repository.same_tree(apart, await repository.adopt_tree(base, apart, "same"))
