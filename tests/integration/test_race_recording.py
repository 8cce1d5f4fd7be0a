"""A race recorded with a model, replayed without it, and once more with a role's file changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from manyhands.teams.lab import agents as lab_agents
from tests.shell import Shell
from tests.studies import git, lay_out

pytestmark = [pytest.mark.needs("bubblewrap"), pytest.mark.slow]


def played(folder: Path) -> tuple[Shell, str]:
    folder.mkdir()
    return Shell(folder), str(lay_out("regression", folder / "study"))


def told_apart(told: dict[str, Any]) -> Any:
    """What a race came to, but for times and places."""
    lanes = [{**lane, "seconds": 0.0} for lane in told["lanes"]]
    return {"lanes": lanes, "verdict": told["verdict"], "comparisons": told["comparisons"]}


def test_a_race_is_recorded_and_replayed_arm_by_arm(tmp_path: Path) -> None:
    persona = {"settings": [{"setting": "RATE", "low": 0.005, "high": 0.05}]}
    rules = [{"role": "planner", "reply": {"answer": persona}}]
    model, tape = tmp_path / "persona.json", tmp_path / "race.jsonl"
    model.write_text(json.dumps({"name": "persona", "rules": rules}))
    words = ("--arms", f"random,hybrid:script:{model}", "--seeds", "2", "--judges", "2")
    words += ("--budget", "runs=16", "--slots", "2", "--json")

    shell, study = played(tmp_path / "a")
    live = json.loads(shell("lab", "race", study, *words, "--record", str(tape)))
    lines = [json.loads(line) for line in tape.read_text().splitlines()]
    asked = [line["agent"] for line in lines if line["line"] == "pair"]
    arms = [lane["run"] for lane in live["lanes"] if lane["arm"] != "random"]
    assert {agent.partition("/")[0] for agent in asked} == set(arms)
    assert len(arms) == 2
    assert live["race"] in str(lines)

    # Without the model, in another folder: the same race.
    model.unlink()
    other, again = played(tmp_path / "b")
    done = other.run("lab", "race", again, *words, "--replay", str(tape))
    assert "not asked for" not in done.stderr
    assert told_apart(json.loads(done.stdout)) == told_apart(live)

    # It writes over nothing that the recorded one left, be it of the race or of one arm.
    shutil.rmtree(Path(study) / ".manyhands" / live["race"])
    refused = shell("lab", "race", study, *words, "--replay", str(tape), code=2)
    assert "the replay would write over" in refused
    assert "cannot change" in shell(
        "lab", "race", study, "--resume", live["race"], "--replay", str(tape), code=2
    )

    # Where an arm goes another way, that arm is named.
    third, changed = played(tmp_path / "c")
    own = Path(changed) / lab_agents.OVERRIDES
    own.mkdir(parents=True)
    for role in lab_agents.ROLES.glob("planner*.md"):
        (own / role.name).write_text(role.read_text() + "\nBe brief.\n")
    git(Path(changed), "add", ".")
    who = ("-c", "user.name=t", "-c", "user.email=t@invalid")
    git(Path(changed), *who, "commit", "--quiet", "--no-gpg-sign", "-m", "another planner")
    diverged = third("lab", "race", changed, *words, "--replay", str(tape), code=11)
    assert f"agent '{arms[0]}/round-1/planner" in diverged, diverged
    assert "Be brief." in diverged
