"""A study shown in Trackio: the real package, in a folder of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from manyhands.adapters.trackers.trackio import TrackioTracker
from manyhands.config import Config
from manyhands.errors import TrackerError
from manyhands.ports import AlertLevel
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
run = SQLiteStorage.get_run_records(sys.argv[1])[0]
found = dict(project=sys.argv[1], run=run["name"], run_id=run["id"])
logs = SQLiteStorage.get_logs(found["project"], found["run"], run_id=found["run_id"])
alerts = SQLiteStorage.get_alerts(sys.argv[1])
print(json.dumps([len(SQLiteStorage.get_run_records(sys.argv[1])), logs, alerts], default=str))
"""


def shown(project: str) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]]]:
    """How many runs Trackio has, and the logs and alerts of the first."""
    words = [sys.executable, "-c", READ, project]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    return tmp_path


class Recorder:
    """Implements `ports.Tracker`. ``fails``: at this step."""

    def __init__(self, fails: int | None = None) -> None:
        self.steps: dict[int, Mapping[str, float]] = {}
        self.reports: list[str] = []
        self.alerts: list[tuple[int, str]] = []
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

    async def alert(self, step: int, title: str, text: str, level: AlertLevel) -> None:
        self.alerts.append((step, title))

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
        assert await track("study", events(), parted) == (0, 0)
    names = {name for values in whole.steps.values() for name in values}
    assert names >= {"baseline/metric", "screen/delta", "run/seconds", "study/runs"}
    assert names >= {"study/failed_jobs", "study/anomaly_count", "study/active_jobs"}
    assert whole.reports
    assert "run failed" in {title for _, title in whole.alerts}


STUDY = Path(__file__).parents[1] / "studies/regression"
#: It fails with what experiments try, not with the baseline's settings.
BROKEN = "import re, sys\nif 'RATE = 0.002\\n' not in open(__file__).read(): sys.exit('off')\n"


@needs_trackio
async def test_trackio_keeps_what_it_is_told(folder: Path) -> None:
    tracker = TrackioTracker()
    assert await tracker.begin("p", "r", {"a": 1}) == -1
    await tracker.log(7, {"x": 1.5}, "# told")
    await tracker.alert(7, "look", "here", AlertLevel.WARN)
    await tracker.close()
    again = TrackioTracker()
    assert await again.begin("p", "r", {"a": 1}) == 7
    await again.log(9, {"x": 2.5})
    await again.close()
    await again.close()
    runs, logs, alerts = await asyncio.to_thread(shown, "p")
    assert runs == 1
    assert [(log["step"], log["x"]) for log in logs] == [(7, 1.5), (9, 2.5)]
    assert [alert["title"] for alert in alerts] == ["look"]


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
    runs, logs, _ = shown("regression")
    rows = json.loads(shell("lab", "ledger", study, "--json"))
    assert runs == 1
    assert sum("run/seconds" in log for log in logs) == len(rows)
    assert "0 new steps" in shell("lab", "track", study)
    assert len(shown("regression")[1]) == len(logs)
    assert "trackio:OWNER/SPACE" in shell("lab", "track", study, "--to", "wandb", code=2)
