"""A race on a Hub that a server of this machine plays: one runner, and one limit, for all arms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyhands.testing.hub_jobs import HubProcess
from manyhands.testing.hub_server import TOKEN
from tests.integration.test_hub_jobs import SLOW, STUDIES, WORST, wait_for
from tests.shell import Shell
from tests.studies import lay_out

pytestmark = [pytest.mark.needs("bubblewrap"), pytest.mark.slow]

CAPPED = ("--jobs", "hf", "--campaign-usd", f"{2.5 * WORST:.6f}", "--slots", "4")
RACE = ("--arms", "random,tpe", "--seeds", "1", "--judges", "2", "--budget", "runs=16")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubProcess]:
    with HubProcess() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def screened(hub: HubProcess) -> set[str]:
    told = [job["labels"] for job in hub.jobs()]
    return {labels["mh-run"] for labels in told if labels["mh-phase"] == "screen"}


def test_a_race_at_its_cost_cap_goes_on_with_a_higher_one(hub: HubProcess, tmp_path: Path) -> None:
    shell, study = Shell(tmp_path), str(lay_out("regression", tmp_path / "study"))
    told = shell("lab", "race", study, *RACE, *CAPPED, "--run-id", "r", code=12)
    said = " ".join(told.split())
    assert "training on the Hub: cpu-basic" in said
    assert "the cost cap of" in said
    assert "race 'r' has spent" in said
    assert "go on: manyhands lab race . --resume r --campaign-usd" in said
    assert "or wrap up: manyhands stop r && manyhands lab race . --resume r" in said
    assert len(hub.jobs()) == 2, "the arms have no more together than one study has"
    assert {job["labels"]["mh-race"] for job in hub.jobs()} == {"r"}

    resume = ("lab", "race", study, "--resume", "r")
    assert "cannot change" in shell(*resume, "--job", "flavor=a10g-small", code=2)
    assert "cannot change" in shell(*resume, "--jobs", "local", code=2)
    outcome = json.loads(shell(*resume, "--campaign-usd", "5", "--json"))
    assert outcome["failed"] == []
    jobs = hub.jobs()
    keys = [job["labels"]["mh-key"] for job in jobs]
    assert len(keys) == len(set(keys))
    assert {j["labels"]["mh-run"] for j in jobs} == {"r", "r-random-1", "r-tpe-1"}
    campaigns = {j["labels"]["mh-run"]: j["labels"]["mh-campaign"] for j in jobs}
    assert campaigns == {"r": "race-r", "r-random-1": "race-r-random", "r-tpe-1": "race-r-tpe"}
    assert {job["labels"]["mh-race"] for job in jobs} == {"r"}
    assert len(jobs) == outcome["judged"] + sum(lane["runs"] for lane in outcome["lanes"])
    assert all(lane["usd"] > 0 for lane in outcome["lanes"])


def test_a_halted_race_wraps_up_when_it_is_told_to(hub: HubProcess, tmp_path: Path) -> None:
    slow = {"train.py": SLOW + (STUDIES / "regression/train.py").read_text()}
    shell, study = Shell(tmp_path), str(lay_out("regression", tmp_path / "study", slow))
    named = ("--jobs", "hf", "--slots", "4", "--run-id", "r")
    process = shell.start("lab", "race", study, *RACE, *named)
    try:
        wait_for(lambda: len(hub.jobs()) >= 4)
        wait_for(lambda: len(screened(hub)) == 2)  # both have their baseline
        hub.go_wrong("/api/jobs/tester/", "401", 10_000)
        assert process.wait(120) == 12
    finally:
        process.kill()
    shell("stop", "r")
    outcome = json.loads(shell("lab", "race", study, "--resume", "r", "--json"))
    assert outcome["failed"] == []
    assert Path(outcome["report"]).is_file()
    assert outcome["verdict"].startswith("Nothing is established: no master could be judged")
    for run in ("r", "r-random-1", "r-tpe-1"):
        assert json.loads(shell("show", run, "--json"))["status"] == "stopped"


def test_what_is_wrong_is_said_before_it_starts(hub: HubProcess, tmp_path: Path) -> None:
    study = str(lay_out("regression", tmp_path / "study"))
    shell = Shell(tmp_path)
    assert "--jobs hf" in shell("lab", "race", study, "--flavor", "h200", code=2)
    assert "--jobs local" in shell("lab", "race", study, "--jobs", "moon", code=2)
    assert "a10g-small" in shell("lab", "race", study, "--jobs", "hf", "--flavor", "h9", code=9)
    assert not hub.jobs()
