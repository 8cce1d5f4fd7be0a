"""A race end to end: arms as runs of their own, killed in the middle, judged on common seeds."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.shell import Shell
from tests.studies import lay_out

pytestmark = [pytest.mark.needs("bubblewrap"), pytest.mark.slow]


def test_a_race_that_was_killed_goes_on_and_is_judged(tmp_path: Path) -> None:
    shell, study = Shell(tmp_path), lay_out("regression", tmp_path / "study")
    persona = {"settings": [{"setting": "RATE", "low": 0.005, "high": 0.05}]}
    rules = [{"role": "planner", "reply": {"answer": persona}}]
    (tmp_path / "persona.json").write_text(json.dumps({"name": "persona", "rules": rules}))
    named = ("--arms", "random,hybrid:script:persona.json", "--seeds", "1", "--judges", "2")
    begun = shell.start(
        "lab", "race", str(study), *named, "--budget", "runs=20", "--slots", "2", "--run-id", "r"
    )
    wait_for_runs(study, 12)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    assert json.loads(shell("show", "r", "--json"))["status"] == "interrupted"

    told = json.loads(shell("lab", "race", str(study), "--resume", "r", "--json"))
    lanes = {lane["arm"].partition(":")[0]: lane for lane in told["lanes"]}
    assert set(lanes) == {"random", "hybrid"}
    assert all(lane["state"] == "" and lane["runs"] <= 20 for lane in lanes.values())
    assert "With one seed no test is possible" in told["verdict"]
    programs = {step["program"] for lane in told["lanes"] for step in lane["steps"]}
    assert told["judged"] == 2 * len(programs), "each program once on each seed"
    assert lanes["hybrid"]["tokens"] > 0
    won = lanes["hybrid"]["steps"][-1]
    assert won["gain"] > 1.0
    assert won["holdout"] > 0
    assert Path(told["report"]).read_text().count("<svg") == 2

    ids = [lane["run"] for lane in told["lanes"]]
    for id in ids:
        status = json.loads(shell("lab", "status", id, "--json"))
        assert status["status"] == "completed"
    ledger = json.loads(shell("lab", "ledger", lanes["hybrid"]["run"], "--json"))
    assert {row["fillers"]["planner"] for row in ledger} == {"model:persona (hybrid)"}


def wait_for_runs(study: Path, count: int) -> None:
    """Until so many jobs have left a log."""
    deadline = time.monotonic() + 120
    while sum("train.log" in files for _, _, files in os.walk(study / ".manyhands")) < count:
        assert time.monotonic() < deadline, "the race did not begin"
        time.sleep(0.05)
