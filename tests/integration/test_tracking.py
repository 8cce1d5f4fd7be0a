"""A study shown in Trackio: the real package, in a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from manyhands.adapters.trackers.trackio import TrackioTracker
from manyhands.config import Config
from manyhands.errors import TrackerError
from manyhands.ports import AlertLevel, Training
from manyhands.runtime import Event, Runtime
from manyhands.teams.lab.state import Order
from manyhands.teams.lab.tracking import track
from manyhands.wiring import lab_workflow
from manyhands.wiring.trackers import events_of
from tests.shell import Shell
from tests.studies import lay_out

needs_trackio = pytest.mark.skipif(
    importlib.util.find_spec("trackio") is None, reason="trackio is not installed"
)
READ = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage
runs = SQLiteStorage.get_run_records(sys.argv[1])
run = next(r for r in runs if r["name"] == sys.argv[2])
found = dict(project=sys.argv[1], run=run["name"], run_id=run["id"])
logs = SQLiteStorage.get_logs(found["project"], found["run"], run_id=found["run_id"])
alerts = SQLiteStorage.get_alerts(sys.argv[1])
print(json.dumps([len(SQLiteStorage.get_run_records(sys.argv[1])), logs, alerts], default=str))
"""


def shown(project: str, run: str) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]]]:
    """How many runs Trackio has of the project, the logs of one, and all alerts."""
    words = [sys.executable, "-c", READ, project, run]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    return tmp_path


class Recorder:
    """Implements `ports.Tracker`. ``fails``: at this step; its alerts of then it has kept."""

    def __init__(self, fails: int | None = None) -> None:
        self.steps: dict[int, Mapping[str, float]] = {}
        self.reports: list[str] = []
        self.alerts: list[tuple[int, str, str]] = []
        self.trainings: dict[str, Training] = {}
        self.fails = fails

    async def begin(self, project: str, run: str, config: Mapping[str, object]) -> int:
        json.dumps(config)
        return max(self.steps, default=-1)

    async def log(self, step: int, values: Mapping[str, float], report: str = "") -> None:
        assert step not in self.steps
        if len(self.steps) == self.fails:
            raise TrackerError("it is gone")
        self.steps[step] = values
        self.reports += [report] * bool(report)

    async def alert(self, step: int, title: str, text: str, level: AlertLevel) -> bool:
        new = (step, title, text) not in self.alerts
        self.alerts += [(step, title, text)] * new
        return new

    async def training(self, told: Training) -> int:
        self.trainings[told.name] = told
        return len(told.steps)

    async def close(self) -> None: ...


@pytest.mark.needs("bubblewrap")
async def test_what_it_has_seen_it_is_not_told_again(tmp_path: Path) -> None:
    broken = {"train.py": BROKEN + (STUDY / "train.py").read_text()}
    study = lay_out("regression", tmp_path / "study", broken)
    async with Runtime.open(tmp_path / "journal.db") as runtime:
        order = Order(study=str(study), runs=18)
        await runtime.run(lab_workflow(Config(), models={}), order, run_id="study")

        def events() -> AsyncIterator[tuple[Event, Any]]:
            return events_of(runtime, "study", follow=False)

        whole, parted = Recorder(), Recorder(fails=5)
        await track("study", events(), whole)
        with pytest.raises(TrackerError):
            await track("study", events(), parted)
        parted.fails = None
        await track("study", events(), parted)
        assert parted.steps == whole.steps
        assert parted.alerts == whole.alerts
        assert parted.trainings == whole.trainings
        assert await track("study", events(), parted) == (0, 0)
    names = {name for values in whole.steps.values() for name in values}
    assert names >= {"baseline/metric", "screen/delta", "run/seconds", "study/runs"}
    assert names >= {"study/failed_jobs", "study/anomaly_count", "study/active_jobs"}
    assert whole.reports
    active = [v["study/active_jobs"] for v in whole.steps.values() if "study/active_jobs" in v]
    assert min(active) == 0
    assert max(active) >= 1
    titles = {title for _, title, _ in whole.alerts}
    assert {"run failed", "study ended"} <= titles
    baseline = [t for name, t in whole.trainings.items() if name.startswith("baseline/")]
    assert len(baseline) >= 2
    for told in baseline:
        assert [step for step, _ in told.steps] == [1, 2]
        assert told.steps[1][1] == {"train/loss": 0.5, "train/lr_multiplier": 1.0}
        assert told.summary["seconds"] > 0
        assert "metric" in told.summary


STUDY = Path(__file__).parents[1] / "studies/regression"
#: It fails with what experiments try, not with the baseline's settings.
BROKEN = """import re, sys
if 'RATE = 0.002\\n' not in open(__file__).read(): sys.exit('off')
print('{"step": 1, "loss": 1.5}')
print('{"step": 2, "loss": 0.5, "lr_multiplier": 1}')
"""


@needs_trackio
async def test_trackio_keeps_what_it_is_told(folder: Path) -> None:
    tracker = TrackioTracker()
    assert await tracker.begin("p", "r", {"a": 1}) == -1
    await tracker.log(7, {"x": 1.5}, "# told")
    assert await tracker.alert(7, "look", "here", AlertLevel.WARN)
    assert not await tracker.alert(7, "look", "here", AlertLevel.WARN)
    course = Training("e1/screen/5", {"seed": 5}, [(1, {"l": 3.0}), (4, {"l": 2.0})], {"m": 1.0})
    assert await tracker.training(course) == 3
    await tracker.close()
    again = TrackioTracker()
    assert await again.begin("p", "r", {"a": 1}) == 7
    await again.log(9, {"x": 2.5})
    assert await again.training(course) == 0
    assert not await again.alert(7, "look", "here", AlertLevel.WARN)
    await again.close()
    await again.close()
    runs, logs, alerts = await asyncio.to_thread(shown, "p", "r")
    assert runs == 2
    of_training = (await asyncio.to_thread(shown, "p", "r/e1/screen/5"))[1]
    assert [(log["step"], log.get("l"), log.get("final/m")) for log in of_training] == [
        (1, 3.0, None),
        (4, 2.0, None),
        (5, None, 1.0),
    ]
    assert [(log["step"], log["x"]) for log in logs] == [(7, 1.5), (9, 2.5)]
    assert [alert["title"] for alert in alerts] == ["look"]


@needs_trackio
async def test_an_alert_comes_once_though_it_was_killed_between_alert_and_step(
    folder: Path,
) -> None:
    """Its process is killed once the alert is on the disk and before the step is told."""
    first = TrackioTracker()
    assert await first.begin("p", "r", {}) == -1
    assert await first.alert(3, "run failed", "off", AlertLevel.WARN)
    for _ in range(600):
        if (await asyncio.to_thread(kept_alerts, folder)) == ["run failed"]:
            break
        await asyncio.sleep(0.1)
    assert first._process is not None
    first._process.kill()
    await first._process.wait()
    again = TrackioTracker()
    assert await again.begin("p", "r", {}) == -1
    assert not await again.alert(3, "run failed", "off", AlertLevel.WARN)
    assert await again.alert(3, "run failed", "of another", AlertLevel.WARN)
    await again.log(3, {"x": 1.0})
    await again.close()
    assert kept_alerts(folder) == ["run failed", "run failed"]


def kept_alerts(folder: Path) -> list[str]:
    found: list[str] = []
    for database in (folder / "trackio").glob("p*.db"):
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
            try:
                found += [title for (title,) in db.execute("SELECT title FROM alerts ORDER BY id")]
            except sqlite3.OperationalError:
                continue  # it is just being made
    return found


@needs_trackio
async def test_two_never_tell_of_one_run_at_once(folder: Path) -> None:
    first, second = TrackioTracker(), TrackioTracker(patience=0.0)
    await first.begin("p", "r", {})
    with pytest.raises(TrackerError, match="another process tells of r"):
        await second.begin("p", "r", {})
    await second.close()
    patient = TrackioTracker()
    waiting = asyncio.create_task(patient.begin("p", "r", {}))
    await first.log(4, {"x": 1.0})
    assert not waiting.done()
    await first.close()
    assert await waiting == 4
    await patient.close()


@needs_trackio
async def test_one_that_dies_or_hangs_says_so(folder: Path) -> None:
    tracker = TrackioTracker()
    await tracker.begin("p", "r", {})
    assert tracker._process is not None
    tracker._process.kill()
    with pytest.raises(TrackerError, match="it ended"):
        await tracker.log(1, {"x": 1.0})
    slow = TrackioTracker(seconds=0.01)
    with pytest.raises(TrackerError, match="within"):
        await slow.begin("p", "r", {})
    await slow.close()


@needs_trackio
@pytest.mark.slow
@pytest.mark.needs("bubblewrap")
def test_a_study_is_shown_while_it_runs_and_after(folder: Path) -> None:
    study = str(lay_out("regression", folder / "study"))
    shell = Shell(folder)
    shell("lab", "run", study, "--runs", "16", "--track", "trackio", "--json")
    shell("lab", "track", study)  # what was left when the run ended
    run = json.loads(shell("lab", "status", study, "--json"))["run"]
    runs, logs, alerts = shown("regression", run)
    rows = json.loads(shell("lab", "ledger", study, "--json"))
    assert runs > 1  # and the trainings'
    assert sum("run/seconds" in log for log in logs) == len(rows)
    assert "0 new steps" in shell("lab", "track", study)
    assert shown("regression", run)[1:] == (logs, alerts)
    assert "trackio:OWNER/SPACE" in shell("lab", "track", study, "--to", "wandb", code=2)


@pytest.mark.needs("bubblewrap")
def test_a_study_is_shown_in_a_tracker_of_somebody_elses(tmp_path: Path) -> None:
    study = str(lay_out("regression", tmp_path / "study"))
    shell = Shell(tmp_path)
    told = tmp_path / "told.jsonl"
    to = f"python:file_tracker:FileTracker:{told}"
    assert "PYTHONPATH" in shell("lab", "run", study, "--track", to, code=2)
    foreign = str(Path(__file__).parents[1] / "foreign")
    shell.env["PYTHONPATH"] = f"{shell.env.get('PYTHONPATH', '')}:{foreign}"
    shell("lab", "run", study, "--runs", "16", "--track", to, "--json")
    shell("lab", "track", study, "--to", to)  # what was left when the run ended
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    rows = json.loads(shell("lab", "ledger", study, "--json"))
    logs = [line[3] for line in lines if line[1] == "log"]
    assert sum("run/seconds" in values for values in logs) == len(rows)
    assert any("study/completed_jobs" in values for values in logs)
    assert ["alert", "study ended"] in [[line[1], line[3]] for line in lines if len(line) > 3]
    assert any(line[1] == "training" for line in lines)
    assert "0 new steps, 0 alerts" in shell("lab", "track", study, "--to", to)
