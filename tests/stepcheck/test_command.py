"""`manyhands check` as a user types it: files, a run of the journal, JSON, exit codes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manyhands.cli import app
from manyhands.errors import ConfigError, RunNotFound
from tests.answering.stage import Stage
from tests.stepcheck.test_reading import messages, turns


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(messages()))
    return path


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["check", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


def test_the_flags_of_every_step_as_json(trace: Path) -> None:
    (found,) = json.loads(run(trace, "--json"))
    assert (found["source"], found["form"], found["flagged"]) == (str(trace), "messages", 1)
    assert [(step["at"], step["kind"]) for step in found["steps"]] == [
        ("2", "model"),
        ("4", "report"),
    ]
    assert found["steps"][0]["flags"] == []
    flag = next(f for f in found["steps"][1]["flags"] if f["check"] == "claimed-test")
    assert flag["verdict"] == "plausibly broken"
    assert flag["evidence"] == {"step": 1, "where": "text", "quote": "All tests pass."}


def test_a_table_for_people(trace: Path) -> None:
    told = run(trace)
    assert "2 steps (messages), 1 flagged" in told.replace("\n", " ")
    assert "claimed-test" in told


def test_some_checks_several_files_and_an_exit_code(trace: Path, tmp_path: Path) -> None:
    other = tmp_path / "turns.json"
    other.write_text(json.dumps(turns()))
    found = json.loads(
        run(trace, other, "--only", "claimed-test", "--json", "--fail-on-flag", code=1)
    )
    assert [each["form"] for each in found] == ["messages", "turns"]
    checks = {flag["check"] for each in found for step in each["steps"] for flag in step["flags"]}
    assert checks == {"claimed-test"}
    assert json.loads(run(trace, "--only", "schema", "--json", "--fail-on-flag"))[0]["flagged"] == 0


def test_the_list_says_what_each_sees() -> None:
    listed = json.loads(run("--list", "--json"))
    assert listed["empty"] == "It says nothing and does nothing."
    assert all(listed.values())


async def test_a_run_of_the_journal(tmp_path: Path) -> None:

    stage = Stage(tmp_path)
    await stage.ask()
    told = await asyncio.to_thread(run, "--run", "asked", "--journal", stage.journal, "--json")
    (found,) = json.loads(told)
    assert (found["form"], found["flagged"]) == ("journal", 0)
    assert {step["agent"] for step in found["steps"]} >= {"supervisor", "critic"}
    with pytest.raises(RunNotFound, match="'none'"):
        await asyncio.to_thread(run, "--run", "none", "--journal", stage.journal)


def test_what_cannot_be_checked_says_what_to_do(trace: Path) -> None:
    for arguments in ((), (trace, "--run", "r")):
        with pytest.raises(ConfigError, match="give FILE…, or --run RUN, and not both"):
            run(*arguments)
    with pytest.raises(ConfigError, match="no check 'x'"):
        run(trace, "--only", "x")
