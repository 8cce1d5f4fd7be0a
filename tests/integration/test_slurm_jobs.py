"""Jobs on Slurm: a real cluster of one node, and a stand-in of its commands for what goes wrong."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands.adapters.jobs.away import Patience
from manyhands.adapters.jobs.local import LocalJobRunner
from manyhands.adapters.jobs.slurm import SlurmJobRunner, SlurmSettings
from manyhands.errors import JobsHalted
from manyhands.ports import JobExit
from manyhands.testing.jobs import python_job
from manyhands.testing.slurm import SlurmCluster
from manyhands.testing.slurm_played import PlayedSlurm
from tests.shell import Shell
from tests.studies import lay_out

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None, reason="pip install 'manyhands[slurm]'"
)
SLOW = "import time; print('begun', flush=True); time.sleep(2); print('done')"


@pytest.fixture
def played(tmp_path: Path) -> Iterator[PlayedSlurm]:
    with PlayedSlurm(tmp_path / "played") as cluster:
        yield cluster


def runner(folder: Path, **patience: Any) -> SlurmJobRunner:
    named = Patience(**{"poll": 0.2} | patience)
    return SlurmJobRunner(LocalJobRunner(), SlurmSettings(folder / "there", patience=named))


@pytest.mark.slow
async def test_what_a_machine_takes_is_begun_anew(played: PlayedSlurm, tmp_path: Path) -> None:
    played.plan("preempt", "node_fail")
    result = await runner(tmp_path).run(python_job(tmp_path, SLOW))
    assert result.exit is JobExit.OK, result
    assert (tmp_path / "log").read_text() == "begun\ndone\n"
    assert played.jobs() == ["1", "2", "3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "exit"), [("timeout", JobExit.TIMED_OUT), ("memory", JobExit.OUT_OF_MEMORY)]
)
async def test_its_own_fault_is_no_reason_to_try_again(
    plan: str, exit: JobExit, played: PlayedSlurm, tmp_path: Path
) -> None:
    played.plan(plan)
    result = await runner(tmp_path).run(python_job(tmp_path, SLOW))
    assert result.exit is exit
    assert played.jobs() == ["1"]


async def test_what_waits_for_ever_is_taken_back(played: PlayedSlurm, tmp_path: Path) -> None:
    played.plan("wait")
    with pytest.raises(JobsHalted, match=r"not begun within 0\.5 s"):
        await runner(tmp_path, queue=0.5).run(python_job(tmp_path, SLOW))
    assert json.loads((played.folder / "1.job").read_text())["state"] == "CANCELLED"


@pytest.mark.slow
async def test_machines_that_go_on_failing_halt_the_run(
    played: PlayedSlurm, tmp_path: Path
) -> None:
    played.plan("node_fail", "node_fail")
    with pytest.raises(JobsHalted, match=r"2 attempts were lost.*NODE_FAIL"):
        await runner(tmp_path, attempts=2).run(python_job(tmp_path, SLOW))


@pytest.mark.slow
async def test_a_submission_that_was_not_noted_is_found(
    played: PlayedSlurm, tmp_path: Path
) -> None:
    """As when a process is killed between the two: by its name the cluster knows it."""
    first = runner(tmp_path)
    spec = python_job(tmp_path, SLOW, key="run/1")
    await first.run(spec)
    (noted,) = (tmp_path / "there").glob("*/submitted")
    noted.unlink()
    assert (await runner(tmp_path).run(spec)).exit is JobExit.OK
    assert played.jobs() == ["1"]


# ---------------------------------------------------------------- a real cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.mark.needs("slurm")
async def test_a_killed_runners_job_is_taken_up(cluster: SlurmCluster, tmp_path: Path) -> None:
    program = f"""
        import asyncio
        from pathlib import Path
        from manyhands.adapters.jobs.local import LocalJobRunner
        from manyhands.adapters.jobs.slurm import SlurmJobRunner, SlurmSettings
        from manyhands.testing.jobs import python_job
        runner = SlurmJobRunner(LocalJobRunner(), SlurmSettings(Path({str(tmp_path / "there")!r})))
        spec = python_job(Path({str(tmp_path)!r}), {SLOW!r}, key="run/1")
        asyncio.run(runner.run(spec, lambda _: print("begun", flush=True)))
    """
    words = [sys.executable, "-c", textwrap.dedent(program)]
    killed = await asyncio.to_thread(subprocess.Popen, words, stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert await asyncio.to_thread(killed.stdout.readline) == b"begun\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    spec = python_job(tmp_path, SLOW, key="run/1")
    for _ in range(2):
        assert (await runner(tmp_path).run(spec)).exit is JobExit.OK
        assert spec.log.read_text() == "begun\ndone\n"
    assert len(cluster.ask("squeue", "-h", "-t", "all").splitlines()) == 1


@pytest.mark.slow
@pytest.mark.needs("slurm")
async def test_a_job_that_a_person_cancels_is_not_begun_anew(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    def cancel(data: bytes) -> None:
        (number,) = (tmp_path / "there").glob("*/submitted")
        cluster.ask("scancel", number.read_text())

    spec = python_job(tmp_path, "import time; print(1, flush=True); time.sleep(600)")
    result = await runner(tmp_path).run(spec, cancel)
    assert result.exit is JobExit.FAILED
    assert "cancelled" in result.detail


@pytest.mark.needs("slurm")
async def test_no_secret_is_handed_on(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also to none of the processes around the job, which run as the same user."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_this_test")
    code = """
        import glob
        for name in glob.glob("/proc/[0-9]*/environ"):
            try: text = open(name, "rb").read()
            except OSError: continue
            if b"SLURM_JOB_ID" in text: print("LEAKED" if b"hf_secret" in text else "clean")
    """
    settings = SlurmSettings(tmp_path / "there", isolation="process", patience=Patience(poll=0.2))
    result = await SlurmJobRunner(LocalJobRunner(), settings).run(python_job(tmp_path, code))
    assert "clean" in result.log_tail
    assert "LEAKED" not in result.log_tail


@pytest.mark.needs("slurm")
async def test_what_the_cluster_refuses_halts_the_run(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    settings = SlurmSettings(tmp_path / "there", partition="none-such")
    with pytest.raises(JobsHalted, match=r"(?i)partition"):
        await SlurmJobRunner(LocalJobRunner(), settings).run(python_job(tmp_path, ""))


@pytest.mark.slow
@pytest.mark.needs("slurm")
@pytest.mark.needs("bubblewrap")
def test_a_study_trains_on_the_cluster(cluster: SlurmCluster, tmp_path: Path) -> None:
    study = str(lay_out("regression", tmp_path / "study"))
    shell = Shell(tmp_path)
    shell.env["SLURM_CONF"] = os.environ["SLURM_CONF"]
    words = ("--jobs", "slurm", "--job", "partition=main", "--job", "isolation=bubblewrap")
    outcome = json.loads(shell("lab", "run", study, *words, "--runs", "16", "--json"))
    assert outcome["runs"] >= 4
    told = shell("lab", "ledger", study, "--json")
    assert "jobs slurm, bubblewrap" in json.loads(told)[0]["environment"]
