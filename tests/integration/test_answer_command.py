"""`manyhands answer` and `manyhands memory` as people run them: real processes, a scripted
model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from manyhands.cli import app
from manyhands.errors import ManyhandsError

EXAMPLE = Path(__file__).parents[2] / "examples/answer"
QUESTION = "Which of FastAPI, Flask and Django should I take for a small JSON API?"


class Shell:
    """The command line in a project of its own, with the example's documents and script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
        self.env = os.environ | {
            "MANYHANDS_HOME": str(folder / "home"),
            "COLUMNS": "120",
            "PYTHONUNBUFFERED": "1",
        }

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "manyhands.cli", *words]

    def __call__(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            self.words(*words),
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    def ask(self, *words: str) -> dict[str, Any]:
        return json.loads(self("answer", QUESTION, *ORDER, "--json", *words))


ORDER = ("--docs", "docs", "--model", "script:script.json", "--route", "team")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_the_answer_its_sources_and_its_cost_are_printed(shell: Shell) -> None:
    said = shell("answer", QUESTION, *ORDER, "--run-id", "asked")
    assert "- A new environment with Flask holds 7 packages. [5]" in said
    assert "**Decision.** FastAPI" in said
    assert "5 flask.md#2 “A new environment with Flask holds 7 packages”" in said
    assert "70 packages" not in said
    assert "work/flask/agent" in said
    assert "→ manyhands show asked" in said
    assert "completed" in shell("show", "asked")


def test_json_gives_the_whole_result(shell: Shell) -> None:
    told = shell.ask()
    assert {"answer", "route", "plan", "reports", "drafts", "critiques", "revisions"} <= told.keys()
    assert {"sources", "dropped", "missing", "open_issues", "agents", "tokens"} <= told.keys()
    assert told["tokens"] == sum(agent["tokens"] for agent in told["agents"])
    assert [s["number"] for s in told["sources"]] == list(range(1, 8))
    assert all(len(s["hash"]) >= 64 for s in told["sources"])
    assert told["run"].startswith("answer-")


def test_killed_with_9_it_goes_on_where_it_was(shell: Shell) -> None:
    whole = shell.ask("--run-id", "whole")
    process = subprocess.Popen(
        shell.words("answer", QUESTION, *ORDER, "--run-id", "asked", "--json"),
        env=shell.env,
        cwd=shell.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while "work/flask/agent/turn/0" not in shell_steps(shell):
        assert time.monotonic() < deadline
        assert process.poll() is None, "it was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    resumed = json.loads(shell("answer", "--resume", "asked", "--json"))
    varies = {"seconds", "tokens", "requests", "micro_usd", "agents", "run"}
    assert {k: v for k, v in resumed.items() if k not in varies} == {
        k: v for k, v in whole.items() if k not in varies
    }


def shell_steps(shell: Shell) -> str:
    done = subprocess.run(
        shell.words("show", "asked", "--steps", "--json"),
        env=shell.env,
        cwd=shell.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_a_recorded_answer_is_replayed_to_the_byte(shell: Shell) -> None:
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
        (("What?", "--role", "judge=script:script.json"), "there is no role 'judge'"),
        (("What?", "--model", "script:script.json", "--mcp", "x"), "there is no tool server 'x'"),
        (("What?",), "a model is needed"),
    ],
)
def test_bad_input_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MANYHANDS_HOME", str(tmp_path / "home"))
    error = CliRunner().invoke(app, ["answer", *words]).exception
    assert isinstance(error, ManyhandsError)
    assert error.exit_code == 2
    assert says in str(error)
    assert error.next
    assert not (tmp_path / "home/journal.db").exists()


def test_memory_is_listed_shown_marked_stale_and_forgotten(shell: Shell) -> None:
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
