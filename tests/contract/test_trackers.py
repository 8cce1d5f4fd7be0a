"""One suite for every tracker: Trackio, one in a file, and MLflow where it is installed."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

from manyhands.adapters.trackers.trackio import TrackioTracker
from manyhands.errors import ConfigError, TrackerError
from manyhands.testing.check_trackers import TRACKER_CHECKS, Check, OpenTracker
from manyhands.wiring.trackers import tracker_of
from tests.shell import EXAMPLES

FOREIGN = Path(__file__).parents[1] / "foreign"


def _opener(kind: str, folder: Path, patch: pytest.MonkeyPatch) -> OpenTracker:
    if kind == "trackio":
        patch.setenv("TRACKIO_DIR", str(folder))
        return lambda: TrackioTracker(patience=5)
    if kind == "file":
        patch.syspath_prepend(str(FOREIGN))
        return lambda: tracker_of(f"python:file_tracker:FileTracker:{folder / 'told.jsonl'}")
    patch.syspath_prepend(str(EXAMPLES / "trackers"))
    return lambda: tracker_of(f"python:mlflow_tracker:Mlflow:sqlite:///{folder / 'm.db'}")


@pytest.mark.parametrize("check", TRACKER_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", ["trackio", "file", "mlflow"])
async def test_trackers(
    kind: str, check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind != "file" and importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")
    await check(_opener(kind, tmp_path, monkeypatch))


BAD = """
import asyncio
class Half:
    async def begin(self, project, run, config): ...
class Bad:
    async def begin(self, project, run, config): raise RuntimeError("no such server")
    async def log(self, step, values, report=""): await asyncio.sleep(1e6)
    async def alert(self, step, title, text, level): ...
    async def training(self, told): ...
    async def close(self): ...
"""


async def test_a_tracker_that_is_bad_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad_tracker.py").write_text(BAD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "bad_tracker", raising=False)
    tracker = tracker_of("python:bad_tracker:Bad")
    with pytest.raises(TrackerError, match="begin: RuntimeError: no such server"):
        await tracker.begin("study", "run", {})
    tracker._seconds = 0.01  # type: ignore[attr-defined]
    with pytest.raises(TrackerError, match=r"log: no answer within 0\.01 s"):
        await tracker.log(1, {})
    task = asyncio.create_task(tracker_of("python:bad_tracker:Bad").log(1, {}))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for spec, said in (
        ("python:bad_tracker:Half", "async def log"),
        ("python:bad_tracker:None_", "cannot be made"),
        ("python:there_is_none:X", "there_is_none"),
        ("python:bad_tracker", "names no tracker"),
        ("python:", "names no tracker"),
        ("mlflow", "is no tracker"),
    ):
        with pytest.raises(ConfigError, match=said):
            tracker_of(spec)
