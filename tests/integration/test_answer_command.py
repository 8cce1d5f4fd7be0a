"""`manyhands answer` and `manyhands memory` as people run them: real processes, a scripted
model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.shell import Shell, complaint

QUESTION = "Which of FastAPI, Flask and Django should I take for a small JSON API?"


class Project(Shell):
    """With the example's documents and script."""

    def ask(self, *words: str) -> dict[str, Any]:
        return json.loads(self("answer", QUESTION, *ORDER, "--json", *words))


ORDER = ("--docs", "docs", "--model", "script:script.json", "--route", "team")


@pytest.fixture
def shell(tmp_path: Path) -> Project:
    return Project(tmp_path, "answer")


def test_the_answer_its_sources_and_its_cost_are_printed(shell: Project) -> None:
    said = shell("answer", QUESTION, *ORDER, "--run-id", "asked")
    assert "- A new environment with Flask holds 7 packages. [5]" in said
    assert "**Decision.** FastAPI" in said
    assert "5 flask.md#2 “A new environment with Flask holds 7 packages”" in said
    assert "70 packages" not in said
    assert "work/flask/agent" in said
    assert "→ manyhands show asked" in said
    assert "completed" in shell("show", "asked")


def test_json_gives_the_whole_result(shell: Project) -> None:
    told = shell.ask()
    assert {"answer", "route", "plan", "reports", "drafts", "critiques", "revisions"} <= told.keys()
    assert {"sources", "dropped", "missing", "open_issues", "agents", "tokens"} <= told.keys()
    assert told["tokens"] == sum(agent["tokens"] for agent in told["agents"])
    assert [s["number"] for s in told["sources"]] == list(range(1, 8))
    assert all(len(s["hash"]) >= 64 for s in told["sources"])
    assert told["run"].startswith("answer-")


def test_killed_with_9_it_goes_on_where_it_was(shell: Project) -> None:
    whole = shell.ask("--run-id", "whole")
    order = ("answer", QUESTION, *ORDER, "--json")
    shell.kill_at("asked", "work/flask/agent/turn/0", *order)
    resumed = json.loads(shell("answer", "--resume", "asked", "--json"))
    varies = {"seconds", "tokens", "requests", "micro_usd", "agents", "run"}
    assert {k: v for k, v in resumed.items() if k not in varies} == {
        k: v for k, v in whole.items() if k not in varies
    }


@pytest.mark.slow
def test_a_recorded_answer_is_replayed_to_the_byte(shell: Project) -> None:
    recorded = shell.ask("--record", "tape.jsonl")
    (shell.folder / "script.json").unlink()
    replayed = shell.ask("--replay", "tape.jsonl")
    same = ("answer", "sources", "reports", "drafts", "critiques")
    assert {k: replayed[k] for k in same} == {k: recorded[k] for k in same}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "a question or --resume RUN is needed"),
        (("What?", "--resume", "asked"), "not both"),
        (("What?", "--docs", "nowhere"), "is not a folder"),
        (("What?", "--route", "both"), "give auto, single or team"),
        (("What?", "--role", "critic"), "write --role critic=MODEL"),
        (("What?", "--role", "jury=script:script.json"), "there is no role 'jury'"),
        (("What?", "--model", "script:script.json", "--mcp", "x"), "there is no tool server 'x'"),
        (("What?",), "a model is needed"),
    ],
)
def test_bad_input_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    error = complaint(tmp_path, "answer", monkeypatch, "answer", *words)
    assert says in str(error)


@pytest.mark.slow
def test_memory_is_listed_shown_marked_stale_and_forgotten(shell: Project) -> None:
    shell.ask("--memory")
    listed = json.loads(shell("memory", "list", "--json"))
    assert len(listed) == 7
    best = json.loads(shell("memory", "list", "--search", "Flask packages", "--json"))[0]
    assert "7 packages" in best["finding"]["text"]
    shown = shell("memory", "show", best["id"][:6])
    assert "[flask.md#2] “A new environment with Flask holds 7 packages”" in shown
    flask = shell.folder / "docs/flask.md"
    flask.write_text(flask.read_text().replace("7 packages", "9 packages"))
    listed = json.loads(shell("memory", "list", "--docs", "docs", "--json"))
    assert sum("has changed" in each["stale"] for each in listed) == 2
    assert "forgotten" in shell("memory", "forget", best["id"])
    assert len(json.loads(shell("memory", "list", "--json"))) == 6
