"""The whole team on terminal tasks, end to end: a scripted model that makes real tool calls in real
sandboxes, and the tasks' own tests, which it never sees, say what that was worth."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from manyhands.cli import app
from manyhands.config import Config
from manyhands.evals.preparing import prepare
from manyhands.evals.solving import order_for, reward_of
from manyhands.evals.tasks import load_task
from manyhands.evals.verifying import Verdict
from manyhands.ports import ModelRequest
from manyhands.runtime import Runtime
from manyhands.teams.code.records import Merge, Outcome
from manyhands.testing import ScriptedModel
from manyhands.testing.models import Conversation, Reply, Scripted, answer, call
from manyhands.wiring.code import code_workflow
from manyhands.wiring.sandboxes import make_sandboxes

TASKS = Path(__file__).parents[2] / "examples/tasks"
pytestmark = pytest.mark.needs("bubblewrap")


def coder(id: str, instructions: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "role": "coder", "title": f"Do {id}", "instructions": instructions, **more}


def cast(orders: list[Reply], work: dict[str, list[Reply]]) -> ScriptedModel:
    """``work``: by the id of a coder's task, what it does before it reports."""

    def script(request: ModelRequest) -> Scripted:
        conversation = Conversation.of(request)
        if conversation.role == "orchestrator":
            return orders[min(conversation.spoken, len(orders) - 1)]
        if conversation.role == "explorer":
            if conversation.spoken == 0:
                return call("bash", command="ls -R . && cat README.md")
            return answer({"summary": "It is as the instruction says."})
        found = re.search(r"Do ([\w-]+)", conversation.task)
        assert found
        turns = work[found[1]]
        if conversation.spoken < len(turns):
            return turns[conversation.spoken]
        return answer({"summary": f"{found[1]} is done."})

    return ScriptedModel(script)


async def solve(name: str, model: ScriptedModel, folder: Path) -> tuple[Outcome, Verdict]:
    task = load_task(TASKS / name)
    sandboxes = make_sandboxes()
    base = await prepare(task, sandboxes, cache=folder / "cache")
    order = order_for(task, base, project=folder)
    workflow = code_workflow(Config(), models={"": model})
    async with Runtime.open(str(folder / "journal.db"), workflows=[workflow]) as runtime:
        outcome: Outcome = await (await runtime.start(workflow, order, run_id="r")).result()
        return outcome, await reward_of(task, sandboxes, outcome, runtime.journal.blob)


def solution(name: str, path: str) -> str:
    return (TASKS / name / "solution" / path).read_text()


DONE = answer({"summary": "Done."})
LOOK = call("delegate", role="explorer", title="Look", instructions="What is there?")


async def test_one_coder_mends_a_small_package(tmp_path: Path) -> None:
    edits = [
        {"path": "pager/pages.py", "old": old, "new": new}
        for old, new in (
            ("return total // size", "return -(-total // size)"),
            ("start + size - 1", "start + size"),
            ("range(1, count(len(items), size))", "range(1, count(len(items), size) + 1)"),
        )
    ]
    work = {"all": [call("read", path="/app/pager/pages.py"), call("multi_edit", edits=edits)]}
    orders = [call("delegate_many", tasks=[coder("all", "Mend the package.")]), DONE]
    outcome, verdict = await solve("page-count", cast(orders, work), tmp_path)
    assert verdict.reward == 1, verdict
    assert [f.path for f in outcome.files] == ["pager/pages.py"]


async def test_three_coders_mend_three_modules_at_once(tmp_path: Path) -> None:
    names = ("units", "store", "orders")
    tasks = [coder(name, f"Mend stock/{name}.py as its docstrings say.") for name in names]
    work = {
        name: [
            call("read", path=f"stock/{name}.py"),
            call(
                "write",
                path=f"stock/{name}.py",
                content=solution("three-modules", f"stock/{name}.py"),
            ),
            call("bash", command="python3 -m unittest discover -s tests"),
        ]
        for name in names
    }
    orders = [call("delegate_many", tasks=tasks), DONE]
    outcome, verdict = await solve("three-modules", cast(orders, work), tmp_path)
    assert verdict.reward == 1, verdict
    assert [t.merge for t in outcome.tasks] == [Merge.MERGED] * 3


async def test_two_parts_at_once_and_a_third_that_needs_them(tmp_path: Path) -> None:
    def written(name: str) -> Reply:
        content = solution("split-checkout", f"app/{name}.py")
        return call("write", path=f"{name}.py", content=content)

    see = call("bash", command="python3 -c 'import pricing, delivery' && ls")
    work = {
        "pricing": [written("pricing")],
        "delivery": [written("delivery")],
        "checkout": [see, written("checkout")],
    }
    uses = ["python3 -c 'import checkout'"]
    tasks = [
        coder("checkout", "Use both.", depends_on=["pricing", "delivery"], checks=uses),
        coder("pricing", "Prices."),
        coder("delivery", "Delivery."),
    ]
    orders = [LOOK, call("delegate_many", tasks=tasks), DONE]
    outcome, verdict = await solve("split-checkout", cast(orders, work), tmp_path)
    assert verdict.reward == 1, verdict
    assert [f.kind for f in outcome.files] == ["changed", "added", "added"]


async def test_nothing_done_is_worth_nothing_whatever_is_said(tmp_path: Path) -> None:
    outcome, verdict = await solve("page-count", cast([DONE], {}), tmp_path)
    assert verdict.reward == 0
    assert outcome.complete  # there is no check that the team knows of: the tests are the word
    assert outcome.check is None


def test_the_command_takes_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    script = {
        "rules": [
            {
                "role": "orchestrator",
                "replies": [
                    _calls("delegate", role="coder", title="All", instructions="Mend it."),
                    {"answer": {"summary": "Done."}},
                ],
            },
            {
                "role": "coder",
                "replies": [
                    _calls("bash", command=solution("page-count", "solve.sh")),
                    {"answer": {"summary": "Done.", "changed": ["pager/pages.py"]}},
                ],
            },
        ]
    }
    (tmp_path / "script.json").write_text(json.dumps(script))
    words = ["code", "--task", str(TASKS / "page-count"), "--model", "script:script.json"]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*words, "--journal", "j.db", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["reward"] == 1
    assert told["files"] == [{"path": "pager/pages.py", "kind": "changed"}]


def _calls(name: str, **arguments: Any) -> dict[str, Any]:
    return {"calls": [{"name": name, "arguments": arguments}]}
