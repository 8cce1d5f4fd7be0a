"""A launch that something kills before the program has begun says nothing of the job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from manyhands.adapters.jobs import job
from manyhands.adapters.jobs.local import LAUNCHES, LocalJobRunner
from manyhands.errors import JobError
from manyhands.ports import JobExit, JobLimits, JobSpec


def hello(folder: Path) -> JobSpec:
    (folder / "out").mkdir()
    return JobSpec(
        key="r/hello",
        command=(sys.executable, "-c", "print('hello')"),
        cwd=folder,
        out=folder / "out",
        log=folder / "log",
        limits=JobLimits(seconds=30, memory_mb=512, output_mb=1, disk_mb=10),
    )


def killing(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Kill the first launches at once. The pids of all."""
    launched: list[int] = []
    spawn = job.spawn

    def spawned(*args: Any, **more: Any) -> Any:
        process = spawn(*args, **more)
        launched.append(process.pid)
        if len(launched) <= times:
            process.kill()
        return process

    monkeypatch.setattr(job, "spawn", spawned)
    return launched


async def test_it_is_launched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = killing(monkeypatch, LAUNCHES - 1)
    result = await LocalJobRunner("process").run(hello(tmp_path))
    assert result.exit is JobExit.OK
    assert "hello" in result.log_tail
    assert len(launched) == LAUNCHES


async def test_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = killing(monkeypatch, 10)
    with pytest.raises(JobError, match="could not be launched"):
        await LocalJobRunner("process").run(hello(tmp_path))
    assert len(launched) == LAUNCHES
