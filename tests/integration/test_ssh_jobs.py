"""Jobs on a host over SSH: a real server of this machine, whose connections break."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manyhands.adapters.jobs.away import Patience
from manyhands.adapters.jobs.local import LocalJobRunner
from manyhands.adapters.jobs.ssh import SshJobRunner, SshSettings
from manyhands.adapters.jobs.ssh_line import Target
from manyhands.errors import ConfigError, JobsHalted
from manyhands.ports import JobExit
from manyhands.testing.jobs import python_job
from manyhands.testing.sshd import SshServer
from tests.shell import Shell
from tests.studies import lay_out

pytestmark = pytest.mark.needs("sshd")

STUDIES = Path(__file__).parents[1] / "studies"


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with SshServer(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def settings(sshd: SshServer, folder: Path, **patience: Any) -> SshSettings:
    target = Target(sshd.target, config=str(sshd.config))
    named = Patience(**{"poll": 0.1, "outage": 60.0} | patience)
    return SshSettings(target, sys.executable, str(folder / "there"), named, share_from=10)


async def runner(sshd: SshServer, folder: Path, **patience: Any) -> SshJobRunner:
    return await SshJobRunner.open(LocalJobRunner(), settings(sshd, folder, **patience))


def jobs(folder: Path) -> list[Path]:
    return sorted((folder / "there" / "jobs").iterdir())


#: Counts until it is told to stop, so that a test can break what it wants in between.
COUNT = """
import os, time
n = 0
while not os.path.exists({stop!r}):
    print(n, flush=True); n += 1; time.sleep(0.02)
print("end", n)
"""


def numbered(text: str) -> None:
    *numbers, last = text.split("\n")[:-1]
    assert numbers == [str(n) for n in range(len(numbers))]
    assert last == f"end {len(numbers)}"


@pytest.mark.parametrize(
    "whole",
    [False, pytest.param(True, marks=pytest.mark.slow)],
    ids=["connections", "server"],
)
async def test_a_lost_connection_is_no_end(whole: bool, sshd: SshServer, tmp_path: Path) -> None:
    """It is heard on behind the last line, and what was heard once is not heard again."""
    stop = tmp_path / "data" / "stop"
    stop.parent.mkdir()
    (stop.parent / "file").write_text("x" * 100)
    spec = replace(python_job(tmp_path, COUNT.format(stop=str(stop))), read=(stop.parent,))
    heard = bytearray()
    broken = 0

    def listen(data: bytes) -> None:
        nonlocal broken
        heard.extend(data)
        if heard.count(b"\n") > 10 * (broken + 1) and broken < 3:
            broken += 1
            if whole:
                sshd.drop()
                sshd.start()
            else:
                sshd.cut()
        elif broken == 3 and heard.count(b"\n") > 60:
            for place in (tmp_path / "there" / "cache").glob("*/data"):
                (place / "stop").touch()

    result = await (await runner(sshd, tmp_path)).run(spec, listen)
    assert result.exit is JobExit.OK, result
    assert broken == 3
    assert spec.log.read_bytes() == bytes(heard)
    numbered(heard.decode())
    assert len(jobs(tmp_path)) == 1


async def test_a_killed_runners_job_is_taken_up(sshd: SshServer, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    code = "import time; print('begun', flush=True); time.sleep(3); print('done')"
    program = f"""
        import asyncio, sys
        from pathlib import Path
        from manyhands.adapters.jobs.away import Patience
        from manyhands.adapters.jobs.local import LocalJobRunner
        from manyhands.adapters.jobs.ssh import SshJobRunner, SshSettings
        from manyhands.adapters.jobs.ssh_line import Target
        from manyhands.testing.jobs import python_job
        target = Target({sshd.target!r}, config={str(sshd.config)!r})
        settings = SshSettings(target, sys.executable, {str(tmp_path / "there")!r})
        async def main():
            runner = await SshJobRunner.open(LocalJobRunner(), settings)
            spec = python_job(Path({str(tmp_path)!r}), {code!r}, key="run/1")
            await runner.run(spec, lambda _: print("begun", flush=True))
        asyncio.run(main())
    """
    words = [sys.executable, "-c", textwrap.dedent(program)]
    killed = await asyncio.to_thread(subprocess.Popen, words, stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert await asyncio.to_thread(killed.stdout.readline) == b"begun\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    spec = python_job(tmp_path, code, key="run/1")
    after = await runner(sshd, tmp_path)
    assert await after.reap("run/") == 0
    for _ in range(2):  # also one that has ended meanwhile
        result = await after.run(spec)
        assert result.exit is JobExit.OK
        assert spec.log.read_text() == "begun\ndone\n"
    assert len(jobs(tmp_path)) == 1
    assert (await after.run(replace(spec, env={"X": "1"}))).exit is JobExit.OK
    assert len(jobs(tmp_path)) == 2
    assert not gate.exists()


@pytest.mark.slow
async def test_a_stuck_job_is_ended(sshd: SshServer, tmp_path: Path) -> None:
    there = await runner(sshd, tmp_path, silence=0.5)
    result = await there.run(python_job(tmp_path, "import time; time.sleep(600)"))
    assert result.exit is JobExit.TIMED_OUT
    assert "no output for 0.5 s" in result.detail


@pytest.mark.slow
async def test_a_job_whose_host_was_lost_is_begun_anew(sshd: SshServer, tmp_path: Path) -> None:
    """As after a reboot, which no other attempt is made without."""
    spec = python_job(tmp_path, "import os, time; print(os.getppid(), flush=True); time.sleep(1.5)")
    lost: list[bytes] = []

    def reboot(data: bytes) -> None:
        lost.append(data)
        if len(lost) == 1:
            (folder,) = jobs(tmp_path)
            (folder / "started").write_text("another time")
            os.killpg(int((folder / "pid").read_text()), signal.SIGKILL)

    result = await (await runner(sshd, tmp_path)).run(spec, reboot)
    assert result.exit is JobExit.OK, result
    assert [folder.name[-2:] for folder in jobs(tmp_path)] == ["-1", "-2"]
    lost.clear()
    kill = "import os, time; print(1, flush=True); time.sleep(600)"

    def murder(data: bytes) -> None:
        folder = max(jobs(tmp_path), key=lambda each: each.stat().st_mtime)
        os.killpg(int((folder / "pid").read_text()), signal.SIGKILL)

    result = await (await runner(sshd, tmp_path)).run(python_job(tmp_path, kill), murder)
    assert result.exit is JobExit.FAILED
    assert "killed" in result.detail


async def test_a_host_is_never_taken_for_another(tmp_path: Path) -> None:
    """Whatever the user's configuration allows."""
    with SshServer(tmp_path / "sshd") as other:
        other.trust((other.folder / "user_key.pub").read_text())
        with other.config.open("a") as config:
            config.write("  StrictHostKeyChecking no\n")
        with pytest.raises(JobsHalted, match=r"(?i)host key|identification has changed") as caught:
            await runner(other, tmp_path)
        assert "ssh -F" in caught.value.next
        (other.folder / "known_hosts").write_text("")
        with pytest.raises(JobsHalted, match=r"(?i)host key"):
            await runner(other, tmp_path)
        assert (other.folder / "known_hosts").read_text() == ""


@pytest.mark.slow
async def test_who_is_not_let_in_is_told_so(tmp_path: Path) -> None:
    with SshServer(tmp_path / "sshd") as other:
        (other.folder / "authorized_keys").write_text("")
        with pytest.raises(JobsHalted, match="Permission denied") as caught:
            await runner(other, tmp_path)
        assert "ssh-copy-id" in caught.value.next
        other.drop()
        with pytest.raises(JobsHalted, match="not reached"):
            await runner(other, tmp_path, outage=0.0)


@pytest.mark.parametrize("text", ["", "-oProxyCommand=x", "a b", "host:0", "host:99999", "u@-x"])
def test_what_names_no_host_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Target.parse(text)


@pytest.mark.parametrize("text", ["host", "me@host.org", "me@host:2222", "[::1]:22"])
def test_a_host_is_named_as_usual(text: str) -> None:
    assert str(Target.parse(text)).replace("[", "").replace("]", "") == text.replace(
        "[", ""
    ).replace("]", "")


# ---------------------------------------------------------------- data that jobs share


@pytest.mark.slow
async def test_data_are_sent_once_and_checked(sshd: SshServer, tmp_path: Path) -> None:
    """What was damaged there is noticed by its checksum, and sent again."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "train").write_text("given " * 10)
    (data / "sealed").write_text("secret")
    code = "import os, sys; print(open(sys.argv[1] + '/train').read(), os.listdir(sys.argv[1]))"
    spec = python_job(tmp_path, code)
    spec = replace(
        spec, command=(*spec.command, str(data)), read=(data,), hidden=(data / "sealed",)
    )
    there = await runner(sshd, tmp_path)
    for _ in range(2):
        result = await there.run(spec)
        assert result.log_tail == "given " * 10 + " ['train']\n"
    (kept,) = (tmp_path / "there" / "cache").glob("*/data")
    assert not (kept / "sealed").exists()
    before = (kept / "train").stat().st_ino
    (kept / "train").write_text("other " * 10)
    again = await runner(sshd, tmp_path)
    result = await again.run(replace(spec, key="another"))
    assert result.log_tail.startswith("given ")
    assert (kept / "train").stat().st_ino != before
    (kept.parent / "checksums.json").unlink()  # as if its making had been broken off
    result = await (await runner(sshd, tmp_path)).run(replace(spec, key="third"))
    assert result.log_tail.startswith("given ")


@pytest.mark.slow
async def test_two_that_send_at_once_send_once(sshd: SshServer, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "train").write_text("given " * 10)
    both = [await runner(sshd, tmp_path) for _ in range(2)]
    specs = [
        replace(python_job(tmp_path / str(n), "print(1)", key=str(n)), read=(data,))
        for n in range(2)
    ]
    results = await asyncio.gather(*(r.run(s) for r, s in zip(both, specs, strict=True)))
    assert [r.exit for r in results] == [JobExit.OK, JobExit.OK]
    assert len(list((tmp_path / "there" / "cache").glob("*/data"))) == 1
    assert not list((tmp_path / "there" / "cache").glob(".new-*"))


# ---------------------------------------------------------------- a study


@pytest.mark.slow
@pytest.mark.needs("bubblewrap")
def test_a_study_trains_there_and_a_killed_one_goes_on(sshd: SshServer, tmp_path: Path) -> None:
    slow = {"train.py": "import time\ntime.sleep(2)\n" + train_of("regression")}
    study = str(lay_out("regression", tmp_path / "study", slow))
    shell = Shell(tmp_path)
    (tmp_path / "manyhands.toml").write_text(
        f"""
        [jobs]
        runner = "ssh:{sshd.target}"
        [jobs.ssh]
        config = "{sshd.config}"
        python = "{sys.executable}"
        folder = "{tmp_path / "there"}"
        """
    )
    words = ("lab", "run", study, "--runs", "16", "--slots", "2", "--run-id", "far")
    process = shell.start(*words)
    for _ in range(2000):
        if (tmp_path / "there" / "jobs").is_dir() and len(jobs(tmp_path)) >= 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    outcome = json.loads(shell("lab", "resume", "far", "--json"))
    assert outcome["runs"] >= 4
    rows = json.loads(shell("lab", "ledger", "far", "--json"))
    ran = [row for row in rows if row["seed"] >= 0]
    assert all(row["metric"] is not None for row in ran)
    assert "on played" in ran[0]["environment"]
    names = [folder.name for folder in jobs(tmp_path)]
    assert all(name.endswith("-1") for name in names)
    assert len(names) == outcome["runs"]


def train_of(name: str) -> str:
    return (STUDIES / name / "train.py").read_text()
