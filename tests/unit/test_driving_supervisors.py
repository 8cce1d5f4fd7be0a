"""A supervisor that does not do what it is told: a stand-in for it, and what drives it."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from manyhands.adapters.jobs.job import Launch, RunningJob
from manyhands.errors import JobError
from manyhands.isolation import driving
from manyhands.isolation.limits import Cause, DiskMeter
from manyhands.ports import JobExit, JobLimits, JobSpec

#: Says that it has started only after it was told to end, and then does nothing.
DEAF = """
import os, signal, sys, time
control = int(sys.argv[1])
while b"K" not in os.read(control, 4096): pass
os.write(control, b"start\\n")
time.sleep(60)
"""


def running(tmp_path: Path, program: str) -> RunningJob:
    spec = JobSpec("key", ("true",), tmp_path, tmp_path, tmp_path / "log", limits=JobLimits())
    order = ("true", ["true"], "/", {}, [], None, None, False, 0, 0)
    launch = Launch([sys.executable, "-I", "-S", "-c", program], {}, order, "token")
    return RunningJob(spec, launch, DiskMeter([tmp_path], spec.limits))


async def test_one_that_is_told_to_end_before_it_has_begun_is_ended_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "KILL_SECONDS", 0.3)
    job = running(tmp_path, DEAF)
    began = time.monotonic()
    task = asyncio.create_task(job.drive())
    job.stop(Cause(JobExit.FAILED, "cancelled"))
    result = await task
    assert (result.exit, result.detail, result.code) == (JobExit.FAILED, "cancelled", None)
    assert time.monotonic() - began < 20


async def test_one_that_ends_without_a_word_was_not_launched(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="could not be launched"):
        await running(tmp_path, "print('no')").drive()
