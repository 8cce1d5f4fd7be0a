"""One suite for every isolation level of the local job runner that this machine offers, for the
Hub's jobs, which a server of this machine runs, and for a host over SSH and a Slurm cluster of one
node, which are this machine."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyhands.adapters.jobs import landlock
from manyhands.adapters.jobs.away import Patience
from manyhands.adapters.jobs.hub import HubJobRunner, HubSettings
from manyhands.adapters.jobs.hub_costs import Caps
from manyhands.adapters.jobs.local import LocalJobRunner
from manyhands.adapters.jobs.slurm import SlurmJobRunner, SlurmSettings
from manyhands.adapters.jobs.ssh import SshJobRunner, SshSettings
from manyhands.adapters.jobs.ssh_line import Target
from manyhands.isolation import processes
from manyhands.ports import JobExit
from manyhands.testing.hub_jobs import HubProcess
from manyhands.testing.hub_server import TOKEN
from manyhands.testing.jobs import (
    DAEMON,
    HOLD,
    JOB_CHECKS,
    Check,
    check_cancellation,
    check_failing_callback,
    check_hidden_paths,
    check_output,
    lock_is_freed,
    python_job,
)
from manyhands.testing.slurm import SlurmCluster
from manyhands.testing.sshd import SshServer

NO_LANDLOCK = landlock.probe()
LEVELS = [
    pytest.param("bubblewrap", marks=pytest.mark.needs("bubblewrap")),
    pytest.param(
        "landlock",
        marks=pytest.mark.skipif(isinstance(NO_LANDLOCK, str), reason=str(NO_LANDLOCK)),
    ),
    "process",
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("check", JOB_CHECKS, ids=lambda check: check.__name__)
async def test_conformance(check: Check, level: str, tmp_path: Path) -> None:
    await check(lambda: LocalJobRunner(level), tmp_path)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess() as hub:
        yield hub


@pytest.mark.needs("bubblewrap")
@pytest.mark.parametrize("check", JOB_CHECKS, ids=lambda check: check.__name__)
async def test_conformance_of_the_hub(
    check: Check, hub: HubProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's machine isolates jobs by bubblewrap, so that what they could reach of this one
    is what they could reach of another."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    settings = HubSettings(caps=Caps(campaign=1000), poll_seconds=0.2)
    await check(lambda: HubJobRunner(LocalJobRunner(), settings), tmp_path)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with SshServer(tmp_path_factory.mktemp("sshd")) as server:
        yield server


#: What another machine can get wrong by itself; the rest is that of the runner there: the same.
QUICK = (check_output, check_failing_callback, check_cancellation, check_hidden_paths)


def quick_first(check: Check) -> object:
    return pytest.param(check, marks=() if check in QUICK else pytest.mark.slow)


@pytest.mark.needs("sshd")
@pytest.mark.needs("bubblewrap")
@pytest.mark.parametrize(
    "check",
    [quick_first(check) for check in JOB_CHECKS],
    ids=[check.__name__ for check in JOB_CHECKS],
)
async def test_conformance_over_ssh(check: Check, sshd: SshServer, tmp_path: Path) -> None:
    target = Target(sshd.target, config=str(sshd.config))
    place = str(tmp_path / "there")
    settings = SshSettings(target, sys.executable, place, Patience(poll=0.1), share_from=1)
    runner = await SshJobRunner.open(LocalJobRunner(), settings)
    await check(lambda: runner, tmp_path)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.mark.needs("slurm")
@pytest.mark.needs("bubblewrap")
@pytest.mark.parametrize(
    "check", [quick_first(check) for check in JOB_CHECKS], ids=[c.__name__ for c in JOB_CHECKS]
)
async def test_conformance_on_slurm(check: Check, slurm: SlurmCluster, tmp_path: Path) -> None:
    settings = SlurmSettings(
        tmp_path / "there", isolation="bubblewrap", patience=Patience(poll=0.2)
    )
    runner = SlurmJobRunner(LocalJobRunner(), settings)
    await check(lambda: runner, tmp_path)


@pytest.mark.parametrize("level", LEVELS)
async def test_a_killed_harness_takes_its_jobs_along(level: str, tmp_path: Path) -> None:
    lock = tmp_path / "out" / "lock"
    spec = python_job(tmp_path, "")
    job = HOLD.format(path=str(lock)) + textwrap.dedent(DAEMON) + "time.sleep(600)"
    harness = f"""
        import asyncio
        from dataclasses import replace
        from pathlib import Path
        from manyhands.adapters.jobs.local import LocalJobRunner
        from manyhands.testing.jobs import python_job
        spec = python_job(Path({str(tmp_path)!r}), {job!r}, key="killed/1")
        asyncio.run(LocalJobRunner({level!r}).run(spec, lambda _: print("begun", flush=True)))
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(harness), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begun\n"
    with pytest.raises(BlockingIOError):
        lock_now(spec.out / "lock")
    process.kill()
    await process.wait()
    await lock_is_freed(lock)
    runner = LocalJobRunner(level)
    await runner.reap("killed/")
    assert await runner.reap("killed/") == 0
    assert not list(Path(tempfile.gettempdir()).glob(f"manyhands-job-{process.pid}.*"))


def lock_now(path: Path) -> None:
    with path.open("r") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_a_job_that_kills_its_supervisor_gains_nothing(tmp_path: Path) -> None:
    """At the weakest level it can; what it left behind is found by its mark and ended."""
    lock = tmp_path / "out" / "lock"
    code = HOLD.format(path=str(lock)) + textwrap.dedent(DAEMON)
    code += "import signal; os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(600)"
    result = await LocalJobRunner("process").run(python_job(tmp_path, code))
    assert result.exit is JobExit.FAILED
    assert "supervisor" in result.detail
    assert result.survivors >= 1
    await lock_is_freed(lock)


@pytest.mark.parametrize("level", LEVELS)
async def test_a_loop_that_shuts_down_leaves_nothing(level: str, tmp_path: Path) -> None:
    """As when the program ends in an error while jobs run: all tasks are cancelled at once."""
    lock = tmp_path / "out" / "lock"
    code = HOLD.format(path=str(lock)) + textwrap.dedent(DAEMON) + "time.sleep(600)"
    runner = LocalJobRunner(level)

    async def leave() -> None:
        begun = asyncio.Event()
        job = asyncio.ensure_future(runner.run(python_job(tmp_path, code), lambda _: begun.set()))
        await begun.wait()
        assert not job.done()

    await asyncio.to_thread(asyncio.run, leave())
    await lock_is_freed(lock)


async def sleeper(token: str, key: str) -> asyncio.subprocess.Process:
    env = {"PATH": os.defpath, "MANYHANDS_JOB": token, "MANYHANDS_JOB_KEY": key}
    return await asyncio.create_subprocess_exec("sleep", "600", env=env)


async def test_reap_ends_what_a_dead_process_left() -> None:
    """Only under the prefix, and nothing that a living process runs."""
    dead = await asyncio.create_subprocess_exec("true")
    await dead.wait()
    gone, alive = f"{dead.pid}.1.0.1", f"{processes.owner()}.0.1"
    left = await sleeper(gone, "run7/a")
    kept = [await sleeper(gone, "run8/a"), await sleeper(alive, "run7/a")]
    try:
        assert await LocalJobRunner("process").reap("run7/") == 1
        assert await left.wait() == -signal.SIGKILL
        assert all(process.returncode is None for process in kept)
    finally:
        for process in kept:
            process.kill()
            await process.wait()
