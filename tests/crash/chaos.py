"""A race on a small disk of its own, under a hand that kills, hangs and fills.

The driver is the command line itself, its jobs are real ones in real sandboxes; the disk that holds
the study, the journal and all scratch is a tmpfs in a mount namespace, which a holder keeps while
drivers come and go. What is told of a campaign is read from a copy of that disk.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pytest

from manyhands.adapters.jobs.environment import KEY, MARK
from manyhands.isolation import processes
from manyhands.runtime import Runtime
from tests.shell import EXAMPLES
from tests.studies import git

#: Of this process alone: jobs of another campaign on this machine are not touched.
RACE = f"r{os.getpid()}"
#: A driver that neither ends nor begins a job for so many seconds is stuck.
PATIENCE = 240
MB = 2**20


def short_tinylm(folder: Path, experiments: int) -> None:
    """A committed copy of examples/tinylm with a hundredth of its training and an eighth of its
    data, whose training hangs for ever with three layers."""
    folder.mkdir()
    for file in (EXAMPLES / "tinylm").iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    changes = {
        "study.toml": {
            '--out {out}"\n# One': '--out {out} --budget-scale 0.01"\n# One',
            "seconds = 120": "seconds = 12",
            "disk_mb = 256": "disk_mb = 16",
            "runs = 60": f"experiments = {experiments}",
            "max_pairs = 12 ": "max_pairs = 8 ",
            "[promotion]": "[ablation]\nshare = 0.2\ninteractions = 0\n\n[promotion]",
        },
        "data.py": {
            '"train": 1_500_000, "val": 64_000, "holdout": 64_000': '"train": 200_000, '
            '"val": 8_000, "holdout": 8_000'
        },
        "train.py": {
            "    config = model.Config(": "    while DEPTH == 3:\n        time.sleep(1)\n"
            "    config = model.Config("
        },
    }
    for name, pairs in changes.items():
        text = (folder / name).read_text()
        for old, new in pairs.items():
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        (folder / name).write_text(text)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    who = ("-c", "user.name=t", "-c", "user.email=t@invalid")
    git(folder, *who, "commit", "--quiet", "--no-gpg-sign", "-m", "the study")


@dataclass
class Disk:
    """A tmpfs at ``path`` that only those who `enter` see; ``outside`` is the way there from
    here."""

    path: Path
    size: str
    _holder: subprocess.Popen[str] | None = None

    def mount(self) -> None:
        """Skips the test where a user may mount nothing."""
        self.path.mkdir()
        line = f"mount -t tmpfs -o size={self.size} none {self.path} && echo there && exec cat"
        pipe = subprocess.PIPE
        words = ["unshare", "-rm", "sh", "-c", line]
        self._holder = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "there\n":
            pytest.skip(f"no mount in a user namespace: {self._holder.communicate()[1]}")

    def enter(self, *words: str) -> list[str]:
        assert self._holder is not None
        return [
            "nsenter",
            "--preserve-credentials",
            "-U",
            "-m",
            "-t",
            str(self._holder.pid),
            *words,
        ]

    @property
    def outside(self) -> Path:
        assert self._holder is not None
        return Path(f"/proc/{self._holder.pid}/root{self.path}")

    def fill(self) -> None:
        """To the last byte that is free now."""
        with suppress(OSError), (self.outside / "ballast").open("ab", buffering=0) as ballast:
            for size in (MB, 4096, 1):
                with suppress(OSError):
                    while ballast.write(b"x" * size):
                        pass

    def make_room(self) -> None:
        (self.outside / "ballast").unlink()

    def unmount(self) -> None:
        """What was on it is afterwards in the folder where it was seen."""
        if self._holder is None:
            return
        shutil.copytree(self.outside, self.path, dirs_exist_ok=True, symlinks=True)
        assert self._holder.stdin is not None
        self._holder.communicate()
        self._holder = None


@dataclass
class Watch:
    """Sees the training jobs as they run, in /proc, and ends some. ``begun``: mark -> key, of those
    that were seen: one per launch. ``killed``: the keys of those that it ended."""

    chance: random.Random
    kills: int
    begun: dict[str, str] = field(default_factory=dict[str, str])
    killed: list[str] = field(default_factory=list[str])
    _end: threading.Event = field(default_factory=threading.Event)

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._end.set()

    def _look(self) -> None:
        after = self.chance.randint(6, 14)
        while not self._end.wait(0.15):
            pids = processes.marked(self._training)
            running = {pid: processes.environment(pid).get(KEY, "") for pid in pids}
            # What the study rests on is not touched: without its baseline no arm can begin.
            tests = {p: k for p, k in running.items() if {"screen", "confirm"} & {*k.split("/")}}
            if tests and len(self.killed) < self.kills and len(self.begun) >= after:
                pid = self.chance.choice(sorted(tests))
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    self.killed.append(tests[pid])
                    after = len(self.begun) + self.chance.randint(6, 14)

    def _training(self, env: Mapping[str, str]) -> bool:
        key = env.get(KEY, "")
        run, _, step = key.partition("/")
        ours = run == RACE or run.startswith(f"{RACE}-")
        if not ours or step.endswith(("/evaluate", "/holdout", "prepare")):
            return False
        self.begun.setdefault(env.get(MARK, ""), key)
        return True


@dataclass
class Chaos:
    """``deaths``: how often the driver is killed. ``lives``: pid of each driver and the keys of
    the steps that were finished before it began."""

    folder: Path
    disk: Disk
    watch: Watch
    chance: random.Random
    pace: tuple[int, int]
    slots: int = 2
    lives: list[tuple[int, set[str]]] = field(default_factory=list[tuple[int, set[str]]])

    @property
    def study(self) -> Path:
        return self.disk.path / "study"

    @property
    def journal(self) -> Path:
        return self.disk.path / "home/journal.db"

    def words(self, arms: str, *more: str) -> tuple[str, ...]:
        named = ("--arms", arms, "--seeds", "1", "--slots", str(self.slots), "--run-id", RACE)
        return ("lab", "race", str(self.study), *named, *more, "--json")

    async def live(self, *words: str) -> subprocess.Popen[bytes]:
        """Begin a driver; its two streams are kept beside the disk."""
        done = await self._done()
        env = os.environ | {
            "MANYHANDS_HOME": str(self.journal.parent),
            "TMPDIR": str(self.disk.path / "tmp"),
        }
        with self.said("out").open("wb") as out, self.said("err").open("wb") as err:
            program = (sys.executable, "-m", "manyhands.cli", *words)
            process = self._start(program, env, out, err)
        self.lives.append((process.pid, done))
        return process

    def _start(
        self, program: Sequence[str], env: Mapping[str, str], out: BinaryIO, err: BinaryIO
    ) -> subprocess.Popen[bytes]:
        words = self.disk.enter(*program)
        return subprocess.Popen(
            words, env=env, cwd="/", stdout=out, stderr=err, start_new_session=True
        )

    def said(self, stream: str, life: int | None = None) -> Path:
        return self.folder / f"life-{len(self.lives) if life is None else life}.{stream}"

    def told(self, stream: str) -> str:
        """What the last driver has said."""
        return self.said(stream, len(self.lives) - 1).read_text()

    async def _done(self) -> set[str]:
        """Run and key of each finished step, from a copy of a journal that nobody writes."""
        home = self.disk.outside / "home"
        if not (home / "journal.db").exists():
            return set()
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(home, copy)
        async with Runtime.open(copy / "journal.db") as runtime:
            return {
                f"{info.run_id}/{key}"
                for info in runtime.runs()
                for key, step in runtime.view(info.run_id).steps.items()
                if step.finished
            }

    # ------------------------------------------------ faults

    def wait(self, process: subprocess.Popen[bytes], jobs: int) -> bool:
        """Until so many more jobs were seen to begin; False: the driver has ended before."""
        goal, last = len(self.watch.begun) + jobs, (0, time.monotonic())
        while len(self.watch.begun) < goal:
            if process.poll() is not None:
                return False
            if len(self.watch.begun) != last[0]:
                last = (len(self.watch.begun), time.monotonic())
            assert time.monotonic() - last[1] < PATIENCE, "no job begins and the driver goes on"
            time.sleep(0.05)
        return True

    def some(self) -> int:
        return self.chance.randint(*self.pace)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """The driver alone, or with all that it has started itself and is no job."""
        time.sleep(self.chance.uniform(0, 0.4))
        assert process.poll() is None, f"it ended by itself: {self.told('err')}"
        if self.chance.random() < 0.5:
            os.kill(process.pid, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    def fill(self, process: subprocess.Popen[bytes]) -> int:
        """Keep the disk full until the driver gives up; its exit code. Then there is room again."""
        began = time.monotonic()
        while process.poll() is None:
            self.disk.fill()
            assert time.monotonic() - began < PATIENCE, "a full disk does not end it"
            time.sleep(0.05)
        self.disk.make_room()
        return process.returncode
