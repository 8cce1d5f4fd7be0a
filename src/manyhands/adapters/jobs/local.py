"""Jobs as processes of this machine, each in the strongest isolation that the machine offers.

``auto`` takes bubblewrap, else Landlock, else bare process groups. Which one it is, and what it
does not enforce, stands in ``isolation``.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from manyhands.errors import JobError
from manyhands.isolation import limits, paths, processes
from manyhands.isolation.endings import finish, remove, to_its_end
from manyhands.ports import Isolation, JobExit, JobResult, JobSpec

from . import bubblewrap, environment, landlock
from .job import Launch, RunningJob, Unbegun
from .levels import choose, describe

SCRATCH_PREFIX = "manyhands-job-"
#: How often a job is launched of which nothing has begun.
LAUNCHES = 3
CANCELLED = limits.Cause(JobExit.FAILED, "cancelled")


class LocalJobRunner:
    """Implements ``ports.JobRunner``; any number of jobs at once, in one event loop.

    ``isolation``: "auto", or one level that must be there. Raises JobError where it is not.
    """

    def __init__(
        self, isolation: Literal["auto", "bubblewrap", "landlock", "process"] = "auto"
    ) -> None:
        self._level = choose(isolation)
        self._running: set[str] = set()

    @property
    def isolation(self) -> Isolation:
        return describe(self._level)

    async def run(
        self, spec: JobSpec, on_output: Callable[[bytes], None] | None = None
    ) -> JobResult:
        """See ``ports.JobRunner``. ``exit`` of a result, in the order of the questions:

        a limit that ended the job (TIMED_OUT, OUT_OF_MEMORY, OUTPUT_LIMIT, DISK_LIMIT, and FAILED
        for too many processes); files over the disk limit once it has ended; OK for code 0;
        OUT_OF_MEMORY for a failure whose last output says so; else FAILED. An exception of
        ``on_output`` ends the job and is raised. A launch that was killed before the program began
        is tried again, `LAUNCHES` times in all.
        """
        check(spec)
        for _ in range(LAUNCHES - 1):
            with suppress(Unbegun):
                return await self._launched(spec, on_output)
        return await self._launched(spec, on_output)

    async def _launched(
        self, spec: JobSpec, on_output: Callable[[bytes], None] | None
    ) -> JobResult:
        token = environment.mark(spec.key)
        scratch = make_scratch()
        self._running.add(token)
        try:
            return await self._run(spec, token, scratch, on_output)
        finally:
            self._running.discard(token)
            await finish(asyncio.create_task(asyncio.to_thread(remove, scratch)))

    async def _run(
        self,
        spec: JobSpec,
        token: str,
        scratch: Path,
        on_output: Callable[[bytes], None] | None,
    ) -> JobResult:
        disk = limits.DiskMeter([spec.cwd, spec.out, scratch], spec.limits)
        await asyncio.to_thread(disk.begin)
        launch = self._launch(spec, token, scratch, disk.initial.largest)
        job = RunningJob(spec, launch, disk, on_output)
        task = asyncio.create_task(job.drive(), name=f"job {spec.key}")
        try:
            return await to_its_end(task, lambda: job.stop(CANCELLED))
        finally:
            if launch.file is not None:
                launch.file.close()

    def _launch(self, spec: JobSpec, token: str, scratch: Path, largest_file: int) -> Launch:
        level = self._level
        wrapped = isinstance(level, bubblewrap.Bwrap)
        seen = Path(bubblewrap.SCRATCH) if wrapped else scratch
        (scratch / "home").mkdir()
        env = environment.build(spec, token, home=str(seen / "home"), scratch=str(seen))
        path = environment.program(spec, env)
        rlimits = limits.rlimits(spec.limits, largest_file, own_namespace=wrapped)
        cwd = str(paths.real(spec.cwd))
        common = (path, [path, *spec.command[1:]], cwd, env, rlimits)
        direct = [sys.executable, "-I", "-S", str(bubblewrap.SUPERVISOR)]
        if isinstance(level, bubblewrap.Bwrap):
            argv, file = bubblewrap.command(level, spec, scratch)
            return Launch(
                argv, env, (*common, None, None, False, 0, 0), token, wrapped=True, file=file
            )
        if isinstance(level, landlock.Landlock):
            attributes = landlock.attributes(level, network=spec.network)
            allowed = (attributes, landlock.rules(level, spec, scratch))
            calls = None if spec.network else landlock.network_filter()
            return Launch(direct, env, (*common, allowed, calls, False, 0, 0), token)
        return Launch(direct, env, (*common, None, None, False, 0, 0), token)

    async def reap(self, key_prefix: str) -> int:
        """See ``ports.JobRunner``. Only what a dead process started counts; the jobs of this one
        and of others that live are let be. Scratch folders of dead processes go, too."""
        killed: set[int] = set()
        for _ in range(500):  # what is killed may just have started another
            left = await asyncio.to_thread(self._left, key_prefix)
            if not left:
                break
            processes.kill(left)
            killed |= set(left)
            await asyncio.sleep(0.01)
        await asyncio.to_thread(remove_old)
        return len(killed)

    def _left(self, key_prefix: str) -> list[int]:
        def orphaned(env: Mapping[str, str]) -> bool:
            token = env.get(environment.MARK, "")
            ours = bool(token) and env.get(environment.KEY, "").startswith(key_prefix)
            return ours and token not in self._running and not processes.owner_lives(token)

        return [pid for pid in processes.marked(orphaned) if not processes.ended(pid)]


def check(spec: JobSpec) -> None:
    """Raises JobError for paths that are missing or contradict each other."""
    for name, path in (("cwd", spec.cwd), ("out", spec.out), ("log's folder", spec.log.parent)):
        if not path.is_dir():
            raise JobError(
                f"job {spec.key!r}: its {name} {path} is no folder", next="make it before the job"
            )
    for path in spec.hidden:
        if paths.real(path) in (paths.real(spec.cwd), paths.real(spec.out)):
            raise JobError(
                f"job {spec.key!r}: {path} is its own folder and hidden from it",
                next="give the job another folder, or do not hide this one",
            )
    for path in spec.read:
        if not path.exists():
            raise JobError(
                f"job {spec.key!r}: {path}, which it shall read, does not exist",
                next="make it, or take it out of what the job reads",
            )


def make_scratch() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=f"{SCRATCH_PREFIX}{processes.owner()}."))
    except OSError as error:
        raise JobError(
            f"no scratch folder can be made in {tempfile.gettempdir()}: {error.strerror}",
            next="make room there, or set TMPDIR to a disk with room",
        ) from error


def remove_old() -> None:
    """Scratch folders of processes that are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
        if not processes.owner_lives(folder.name.removeprefix(SCRATCH_PREFIX)):
            remove(folder)
