"""Jobs on a plain host: one with ``sshd`` and Python, and nothing else of ours.

Invariants: those of `away`. A job is begun there once, under the same runner as at home, in a
session that no lost connection ends. Data that jobs read are there once, by their contents, and are
checked before they are used.
"""

from __future__ import annotations

import asyncio
import io
import math
import os
import tarfile
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manyhands import published
from manyhands.adapters.jobs import bundle
from manyhands.adapters.jobs.away import MOST_RETURNED, Away, Dropped, Patience, Stage, Standing
from manyhands.adapters.jobs.bundle import Bundle, pack, places_of
from manyhands.adapters.jobs.local import check
from manyhands.adapters.jobs.ssh_line import Line, Target
from manyhands.errors import JobError, JobsHalted
from manyhands.isolation.endings import to_its_end
from manyhands.ports import Isolation, JobResult, JobRunner, JobSpec

#: Seconds that a person who cancels waits for a host that is not reached.
_CANCEL_SECONDS = 20.0
#: Bytes of data that are sent along with each job; what is larger is sent once.
SHARE_FROM = 1_000_000


@dataclass(frozen=True, slots=True)
class SshSettings:
    """``python``: 3.11 or newer, which runs jobs there, too, so that it has what training needs.
    ``folder``: where jobs and shared data lie there ('': ``~/.cache/manyhands``). ``share_from``:
    bytes from which on data are sent once and not with each job."""

    target: Target
    python: str = "python3"
    folder: str = ""
    patience: Patience = field(default_factory=Patience)
    share_from: int = SHARE_FROM


@dataclass(frozen=True, slots=True)
class Host:
    """What was found there."""

    python: str
    cores: int
    isolation: Isolation


class SshJobRunner:
    """Implements ``ports.JobRunner``. ``home`` runs what is trusted, where the sealed data are."""

    def __init__(self, home: JobRunner, settings: SshSettings, host: Host) -> None:
        self._home = home
        self._settings = settings
        self._host = host
        self._post = _Post(settings)

    @classmethod
    async def open(cls, home: JobRunner, settings: SshSettings) -> SshJobRunner:
        """Look at the host first. Raises `JobError`, `JobsHalted` where it cannot be reached."""
        return cls(home, settings, await look(settings))

    @property
    def host(self) -> Host:
        return self._host

    @property
    def isolation(self) -> Isolation:
        there = self._host.isolation
        return Isolation(
            level=f"{there.level} on {self._settings.target}",
            writes_confined=there.writes_confined,
            reads_confined=there.reads_confined,
            # What is hidden from a job is not sent; of its own host it sees what the level allows.
            hides_paths=True,
            network_blocked=there.network_blocked,
            tree_killed=there.tree_killed,
            notes=(
                f"training runs on {self._settings.target}; the evaluator runs here, in isolation "
                f"{self._home.isolation.level!r}",
                *there.notes,
            ),
            shares_files=False,
        )

    async def run(
        self, spec: JobSpec, on_output: Callable[[bytes], None] | None = None
    ) -> JobResult:
        """See ``ports.JobRunner``. Cancelled: the job on the host is ended, too."""
        if spec.trusted:
            return await self._home.run(spec, on_output)
        check(spec)
        there = await self._post.shared(spec)
        packed = await asyncio.to_thread(pack, spec, most_returned=MOST_RETURNED, there=there)
        work = Away(self._post, self._settings.patience, spec, packed, on_output)
        task = asyncio.create_task(work.drive(), name=f"job {spec.key} on {self._settings.target}")
        return await to_its_end(task, work.stop)

    async def reap(self, key_prefix: str) -> int:
        """What a killed process left on the host is not ended: `run` finds it and takes it up."""
        return await self._home.reap(key_prefix)


async def look(settings: SshSettings) -> Host:
    """Raises `JobError`."""
    code = await asyncio.to_thread(bundle.code)
    found = await _Post(settings).ask("look", data=code)
    isolation = found["isolation"]
    isolation["notes"] = tuple(isolation["notes"])
    return Host(".".join(map(str, found["python"])), found["cores"], Isolation(**isolation))


class _Post:
    """Implements ``away.Post``."""

    def __init__(self, settings: SshSettings) -> None:
        self._settings = settings
        self._line = Line(settings.target, settings.python, settings.folder)
        self._priming = asyncio.Lock()
        self._primed: set[str] = set()

    async def ask(
        self,
        verb: str,
        *words: str,
        data: bytes = b"",
        seconds: float = 0.0,
        outage: float = math.inf,
    ) -> Any:
        """Asked again while the host cannot be reached, for as long as an outage may last (here at
        most ``outage`` seconds)."""
        patience = self._settings.patience
        outage = min(outage, patience.outage)
        since, wait = time.monotonic(), min(1.0, patience.poll)
        while True:
            try:
                return await self._line.ask(verb, *words, data=data, seconds=seconds)
            except Dropped as dropped:
                if time.monotonic() - since > outage:
                    raise JobsHalted(
                        f"{self._settings.target} is not reached for {outage:g} s: {dropped}",
                        next="see that it is up; a run that is resumed goes on, and finds the "
                        "jobs that went on",
                    ) from dropped
            await asyncio.sleep(wait)
            wait = min(30.0, wait * 2)

    async def shared(self, spec: JobSpec) -> dict[Path, str]:
        """Where the data lie on the host that ``spec`` may read, sent there where they are not.

        Only those that are worth it. Raises `JobError` where they do not arrive whole.
        """
        found: dict[Path, str] = {}
        for path in places_of(spec).values():
            if path in (spec.cwd, spec.out):
                continue
            kept_back = {*map(str, spec.hidden), str(spec.cwd), str(spec.out)}
            sums = await asyncio.to_thread(published.sums_of, str(path), kept_back)
            if sum(size for size, _ in sums.values()) >= self._settings.share_from:
                found[path] = await self._primed_at(path, sums)
        return found

    async def _primed_at(self, path: Path, sums: published.Sums) -> str:
        below = {os.path.join("data", name) if name else "data": s for name, s in sums.items()}
        manifest = published.manifest_of(below)
        digest = published.digest_of(manifest)
        async with self._priming:
            how = "quick" if digest in self._primed else "full"
            seconds = sum(size for size, _ in sums.values()) / 20_000_000
            told = await self.ask("cache", digest, how, seconds=seconds)
            if told["wrong"]:
                tar = await asyncio.to_thread(_packed, path, list(sums), manifest)
                told = await self.ask("publish", digest, data=tar, seconds=seconds)
            if told["wrong"]:
                raise JobError(
                    f"{path} does not arrive on {self._settings.target} as it is: {told['wrong']}",
                    next="is somebody changing it, or the host's disk full?",
                )
            self._primed.add(digest)
        return os.path.join(told["path"], "data")

    async def attempts(self, stem: str) -> list[tuple[str, Standing]]:
        found: dict[str, str] = (await self.ask("jobs", stem))["jobs"]
        ordered = sorted(found, key=lambda name: int(name.rpartition("-")[2]))
        return [(name, Standing(Stage(found[name]))) for name in ordered]

    async def begin(self, name: str, bundle: Bundle, spec: JobSpec) -> None:
        for _ in range(20):
            told = await self.ask("begin", name, str(spec.slot), data=bundle.tar)
            if told["state"] != Stage.NEW:
                return
            await asyncio.sleep(0.1)
        raise JobError(f"job {name} does not begin on {self._settings.target}")

    def follow(self, name: str, offset: int) -> AsyncGenerator[bytes]:
        return self._line.follow(name, offset)

    async def standing(self, name: str) -> Standing:
        found = (await self.ask("jobs", name.rpartition("-")[0]))["jobs"]
        if name not in found:
            return Standing(Stage.LOST, "it is gone from the host")
        stage = Stage(found[name])
        return Standing(stage, "the host was started anew" if stage is Stage.LOST else "")

    async def cancel(self, name: str) -> None:
        told = await self.ask("cancel", name, outage=_CANCEL_SECONDS)
        if told["state"] == Stage.RUNNING:
            raise JobError(f"job {name} on {self._settings.target} does not end")


def _packed(path: Path, names: list[str], manifest: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in names:
            tar.add(path / name, os.path.join("data", name) if name else "data", recursive=False)
        about = tarfile.TarInfo(published.MANIFEST)
        about.size = len(manifest)
        tar.addfile(about, io.BytesIO(manifest))
    return made.getvalue()
