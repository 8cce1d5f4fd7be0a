"""The lab with its roles filled by models (scripted here): the same loop, the same rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyhands.config import Config
from manyhands.ports import ModelRequest
from manyhands.runtime import Runtime
from manyhands.teams.lab.records import Verdict
from manyhands.teams.lab.state import Order
from manyhands.teams.lab.view import LabView, read_lab
from manyhands.testing import ScriptedModel
from manyhands.testing.models import Conversation, Scripted, answer, calls, say
from manyhands.wiring import lab_workflow
from tests.studies import git, lay_out

pytestmark = pytest.mark.needs("bubblewrap")

ROLES = ("researcher", "planner", "reviewer", "worker", "memory", "reporter")
STEP = "        weights = [w - rate * 2 * error * v for w, v in zip(weights, x)]"
HEAVY_BALL = (
    "        velocity = [0.9 * m + 2 * error * v for m, v in zip(velocity, x)]\n"
    "        weights = [w - rate * m for w, m in zip(weights, velocity)]"
)
START = "    steps = int(STEP_LIMIT * STEPS_SHARE)"


def script(request: ModelRequest) -> Scripted:
    """A team that knows about momentum."""
    told = Conversation.of(request)
    match told.role:
        case "researcher":
            idea = {"title": "momentum", "rationale": "few steps, slow descent", "source": "model"}
            return answer({"ideas": [idea]})
        case "planner":
            if "e0001" in str(request.messages):
                return answer({"hypotheses": []})
            return answer({"hypotheses": [structural("add momentum"), structural("add noise")]})
        case "reviewer":
            reviews = [
                {"hypothesis": "h0001", "accepted": True, "reason": "one change"},
                {"hypothesis": "h0002", "accepted": False, "reason": "cannot help"},
            ]
            return answer({"reviews": reviews})
        case "worker":
            return worker(told.spoken)
        case "memory":
            return answer({"insights": ["Momentum pays where steps are few."]})
        case _:
            return say("Momentum was worth it.")


def structural(title: str) -> dict[str, object]:
    return {
        "title": title,
        "rationale": "the descent is slow",
        "kind": "structural",
        "instructions": f"{title}: keep a velocity beside the weights",
        "expected_gain": 1.0,
    }


def worker(spoken: int) -> Scripted:
    """Reads, trips over an edit that does not fit, edits twice, answers."""
    turns = [
        calls(("read_file", {"path": "train.py"})),
        calls(("edit_file", {"path": "train.py", "old": "no such line", "new": "x"})),
        calls(("edit_file", {"path": "evaluate.py", "old": "errors", "new": "zeros"})),
        calls(("edit_file", {"path": "train.py", "old": STEP, "new": HEAVY_BALL})),
        calls(
            (
                "edit_file",
                {"path": "train.py", "old": START, "new": f"    velocity = [0.0] * 4\n{START}"},
            )
        ),
        answer({"comment": "heavy-ball momentum of 0.9"}),
    ]
    return turns[spoken]


async def run_with(
    folder: Path, roles: tuple[str, ...], model: ScriptedModel, runs: int, manner: str = "single"
) -> tuple[Path, LabView]:
    study = lay_out("regression", folder / "study")
    workflow = lab_workflow(Config(), models=dict.fromkeys(roles, model))
    order = Order(study=str(study), runs=runs, models={"planner": f"{manner}:scripted"})
    async with Runtime.open(folder / "journal.db") as runtime:
        await runtime.run(workflow, order, run_id="study")
        return study, read_lab(runtime, "study")


def told(folder: Path, kind: str) -> list[dict[str, object]]:
    runtime = Runtime.open(folder / "journal.db")
    try:
        return [e.data for e in runtime.journal.events("study") if e.type == kind]
    finally:
        runtime.journal.close()


async def test_every_role_filled_by_a_model(tmp_path: Path) -> None:
    model = ScriptedModel(script)
    study, view = await run_with(tmp_path, ROLES, model, 40)
    by_title = {e.hypothesis.title: e for e in view.experiments}
    won, refused = by_title["add momentum"], by_title["add noise"]
    assert won.verdict is Verdict.PROMOTED
    assert (refused.verdict, refused.rule) == (Verdict.REJECTED, "reviewer")
    assert "velocity" in git(study, "show", f"{won.candidate}:train.py")
    assert "evaluate.py" not in won.diff
    assert all(r.fillers[role].startswith("model:scripted") for r in view.rows for role in ROLES)
    assert view.rows[0].fillers["planner"] == "model:scripted (single)"
    assert any(n.text.startswith("Momentum pays") for n in view.notes)
    assert view.outcome is not None
    assert view.outcome["text"].startswith("Momentum was worth it.")
    assert not list((study / ".manyhands" / "study" / "worktrees").glob("*"))


async def test_a_mixed_team_model_ideas_and_hands_algorithm_plans(tmp_path: Path) -> None:
    """Model as researcher and worker, Optuna as planner."""
    model = ScriptedModel(script)
    _, view = await run_with(tmp_path, ("researcher", "worker"), model, 30)
    assert view.rows[0].fillers["planner"] == "optuna-tpe"
    assert view.rows[0].fillers["researcher"] == "model:scripted"
    assert any(e.verdict is Verdict.PROMOTED for e in view.experiments)


@pytest.mark.slow
async def test_a_model_that_never_answers_is_stood_in_for(tmp_path: Path) -> None:
    model = ScriptedModel(lambda request: say(""))
    study = lay_out("regression", tmp_path / "study")
    workflow = lab_workflow(Config(), models={"planner": model, "researcher": model})
    async with Runtime.open(tmp_path / "journal.db") as runtime:
        await runtime.run(workflow, Order(study=str(study), runs=22), run_id="study")
        told = [e.data for e in runtime.journal.events("study") if e.type == "lab:fallback"]
        view = read_lab(runtime, "study")
    assert {t["role"] for t in told} == {"planner", "researcher"}
    assert view.experiments, "the algorithms carried on"


async def test_a_hybrid_gives_the_space_and_the_optimiser_the_numbers(tmp_path: Path) -> None:
    """The model names one setting and a range, and one change that is no setting."""

    def plan(request: ModelRequest) -> Scripted:
        if Conversation.of(request).role == "worker":
            return worker(Conversation.of(request).spoken)
        edit = structural("add momentum")
        del edit["kind"]
        space = {"setting": "RATE", "low": 0.01, "high": 9.0, "why": "too slow"}
        lost = {"setting": "STEP_LIMIT_", "low": 1, "high": 2}
        edits = [] if "e0001" in str(request.messages) else [edit]
        return answer({"settings": [space, lost], "structural": edits})

    _, view = await run_with(
        tmp_path, ("planner", "worker"), ScriptedModel(plan), 26, manner="hybrid"
    )
    first = [h for h in view.proposed[:4]]
    assert first[0].kind == "structural"
    mine = [h for h in first[1:] if h.setting == "RATE"]
    assert len(mine) >= 2
    assert 0.01 <= float(mine[0].value or 0) <= 0.2, "inside of both ranges"
    assert all(h.source.startswith("optuna-tpe") for h in first[1:])
    assert view.rows[0].fillers["planner"] == "model:scripted (hybrid)"
    said = told(tmp_path, "lab:space")[0]
    assert said["space"] == {"RATE": [0.01, 0.2]}
    assert said["left_out"] == ["'STEP_LIMIT_' is no setting that is searched"]
    assert {e.hypothesis.kind for e in view.experiments} == {"structural", "setting"}


@pytest.mark.slow
async def test_a_hybrid_whose_model_names_nothing_of_use_is_stood_in_for(tmp_path: Path) -> None:
    lost = {"settings": [{"setting": "NO_SUCH"}, {"setting": "RATE", "low": 5, "high": 9}]}
    model = ScriptedModel(lambda request: answer(lost))
    _, view = await run_with(tmp_path, ("planner",), model, 20, manner="hybrid")
    assert view.experiments, "no round is lost"
    fallback = told(tmp_path, "lab:fallback")[0]
    assert (fallback["role"], fallback["to"]) == ("planner", "optuna-tpe")
    assert fallback["why"] == (
        "'NO_SUCH' is no setting that is searched; "
        "RATE: nothing of its range lies in what was asked for"
    )


@pytest.mark.slow
async def test_a_planner_that_is_advised_takes_what_the_optimiser_proposes(tmp_path: Path) -> None:
    asked: list[str] = []

    def plan(request: ModelRequest) -> Scripted:
        turn = Conversation.of(request).spoken
        if turn == 0:
            return calls(("suggest_settings", {"names": ["NOTHING"]}))
        if turn == 1:
            ranges = {"RATE": [0.02, 0.1]}
            return calls(("suggest_settings", {"names": ["RATE"], "count": 1, "ranges": ranges}))
        asked.append(str(request.messages[-1]))
        value = 0.04
        return answer({"hypotheses": [setting("RATE", value)]})

    _, view = await run_with(tmp_path, ("planner",), ScriptedModel(plan), 20, manner="advised")
    assert view.experiments[0].hypothesis.value == 0.04
    assert view.rows[0].fillers["planner"] == "model:scripted (advised)"
    assert "proposals" in asked[0]
    assert "RATE" in asked[0]


def setting(name: str, value: float) -> dict[str, object]:
    return {
        "title": f"{name} to {value}",
        "rationale": "as advised",
        "kind": "setting",
        "setting": name,
        "value": value,
    }
