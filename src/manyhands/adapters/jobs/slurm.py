"""Jobs on a Slurm cluster whose file system this machine shares, submitted through ``submitit``.

Invariants: those of `away`. A job is submitted once, whatever breaks off when: it bears a name by
which the cluster knows it. It has copies of its own folders; what it may read, it reads where it
lies. Of this machine's environment a job is handed what programs need to run, and no more.
"""

from __future__ import annotations

import asyncio
import getpass
import importlib
import io
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manyhands import published
from manyhands.adapters.jobs import slurm_far
from manyhands.adapters.jobs.away import MOST_RETURNED, Away, Patience, Stage, Standing
from manyhands.adapters.jobs.bundle import Bundle, pack, places_of
from manyhands.adapters.jobs.levels import LEVELS
from manyhands.adapters.jobs.local import check
from manyhands.errors import ConfigError, JobError, JobsHalted
from manyhands.isolation.endings import to_its_end
from manyhands.ports import Isolation, JobResult, JobRunner, JobSpec

#: The cluster's states -> what they are for us; those of a job that may still run are `RUNNING`.
STAGES = {
    **dict.fromkeys(("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"), Stage.RUNNING),
    **dict.fromkeys(("SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"), Stage.RUNNING),
    **dict.fromkeys(("STAGE_OUT", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"), Stage.RUNNING),
    **dict.fromkeys(("RESV_DEL_HOLD", "SPECIAL_EXIT"), Stage.RUNNING),
    **dict.fromkeys(("COMPLETED", "FAILED"), Stage.ENDED),
    **dict.fromkeys(("TIMEOUT", "DEADLINE"), Stage.TIMED_OUT),
    **dict.fromkeys(("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"), Stage.LOST),
    "CANCELLED": Stage.CANCELLED,
    "OUT_OF_MEMORY": Stage.OUT_OF_MEMORY,
}
#: Beside a job's own limit: to begin, and to bring back its files.
_SETUP_SECONDS = 300.0
_COMMAND_SECONDS = 60.0
#: Further looks at what a job told, after its end: a shared file system may be late.
_LATE = 5


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """``folder``: for jobs, on the shared file system. ``minutes``: 0, the job's own limit and
    five. ``options``: of ``sbatch``, by their long names. ``isolation``: "auto", or a level that
    each node must offer."""

    folder: Path
    partition: str = ""
    account: str = ""
    qos: str = ""
    gres: str = ""
    constraint: str = ""
    cpus: int = 0
    minutes: int = 0
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    isolation: str = "auto"
    patience: Patience = field(default_factory=Patience)


class SlurmJobRunner:
    """Implements ``ports.JobRunner``. ``home`` runs what is trusted, where the sealed data are."""

    def __init__(self, home: JobRunner, settings: SlurmSettings) -> None:
        if settings.isolation not in LEVELS:
            raise ConfigError(
                f"isolation {settings.isolation!r}", next=f"use one of {', '.join(LEVELS)}"
            )
        self._home = home
        self._settings = settings
        self._post = _Post(settings)

    @property
    def isolation(self) -> Isolation:
        """Of a level that was asked for, what it enforces; else nothing is promised."""
        level = self._settings.isolation
        confined = level in ("bubblewrap", "landlock")
        note = (
            f"a node that does not offer {level!r} refuses the job"
            if level != "auto"
            else "each job runs in the strongest isolation that its node offers, which is not "
            "known before: ask for one (--job isolation=bubblewrap)"
        )
        return Isolation(
            level=f"slurm, {level}",
            writes_confined=confined,
            reads_confined=confined,
            hides_paths=confined,
            network_blocked=confined,
            tree_killed=level == "bubblewrap",
            notes=(
                f"training runs on the cluster; the evaluator runs here, in isolation "
                f"{self._home.isolation.level!r}",
                note,
            ),
            shares_files=False,
        )

    async def check(self) -> str:
        """What the cluster says that it is. Raises `JobError` where there is none."""
        return await self._post.version()

    async def run(
        self, spec: JobSpec, on_output: Callable[[bytes], None] | None = None
    ) -> JobResult:
        """See ``ports.JobRunner``. Cancelled: the job on the cluster is cancelled, too."""
        if spec.trusted:
            return await self._home.run(spec, on_output)
        check(spec)
        read = [path for path in places_of(spec).values() if path not in (spec.cwd, spec.out)]
        packed = await asyncio.to_thread(
            pack,
            spec,
            most_returned=MOST_RETURNED,
            there={path: str(path) for path in read},
            isolation=self._settings.isolation,
        )
        work = Away(self._post, self._settings.patience, spec, packed, on_output)
        task = asyncio.create_task(work.drive(), name=f"slurm job {spec.key}")
        return await to_its_end(task, work.stop)

    async def reap(self, key_prefix: str) -> int:
        """What a killed process left on the cluster is not ended: `run` takes it up."""
        return await self._home.reap(key_prefix)


class _Post:
    """Implements ``away.Post``. ``folder/NAME`` holds a job: what was sent, ``frames``, and
    ``submitted``, with the cluster's number for it."""

    def __init__(self, settings: SlurmSettings) -> None:
        self._settings = settings
        self._submitting = asyncio.Lock()

    async def version(self) -> str:
        _submitit()
        return (await self._ask("sinfo", "--version")).strip()

    async def attempts(self, stem: str) -> list[tuple[str, Standing]]:
        folders = sorted(
            self._settings.folder.glob(f"{stem}-*"), key=lambda p: int(p.name.rpartition("-")[2])
        )
        return [(folder.name, await self.standing(folder.name)) for folder in folders]

    async def begin(self, name: str, bundle: Bundle, spec: JobSpec) -> None:
        folder = self._settings.folder / name
        async with self._submitting:
            await asyncio.to_thread(_lay_out, folder, bundle.tar)
            lock = published.try_lock(str(folder / "lock"))
            if lock is None:
                raise JobError(f"another process submits job {name}", next="resume its run once")
            try:
                if not (folder / "submitted").exists():
                    number = await self._known(name)
                    number = number or await asyncio.to_thread(self._submit, name, folder, spec)
                    (folder / "submitted").write_text(number)
            finally:
                os.close(lock)

    async def _known(self, name: str) -> str:
        """Its number, where a process was killed between submitting it and noting that."""
        me = getpass.getuser()
        named = ("-t", "all", "-u", me, "-n", f"mh-{name}")
        told = await self._ask("squeue", "-h", "-o", "%i", *named)
        return (told.split() or [""])[0]

    def _submit(self, name: str, folder: Path, spec: JobSpec) -> str:
        submitit, settings = _submitit(), self._settings
        seconds = spec.limits.seconds + _SETUP_SECONDS
        named = {
            "partition": settings.partition,
            "account": settings.account,
            "qos": settings.qos,
            "gres": settings.gres,
            "constraint": settings.constraint,
            "cpus_per_task": settings.cpus,
        }
        export = ",".join([*slurm_far.KEPT, f"PYTHONPATH={folder / 'code'}"])
        more = {"export": export, "no-requeue": True, **settings.options}
        try:
            executor = submitit.SlurmExecutor(
                folder=folder / "submitit", python=shlex.quote(sys.executable)
            )
            executor.update_parameters(
                job_name=f"mh-{name}",
                time=settings.minutes or math.ceil(seconds / 60),
                use_srun=False,
                additional_parameters=more,
                **{option: value for option, value in named.items() if value},
            )
            return str(executor.submit(slurm_far.run, str(folder)).job_id)
        except Exception as error:
            said = " ".join(str(error).split())[-600:]
            raise JobsHalted(
                f"job {name} cannot be submitted: {type(error).__name__}: {said}",
                next="are partition, account, gres and limits what the cluster allows?",
            ) from error

    async def follow(self, name: str, offset: int) -> AsyncGenerator[bytes]:
        frames, late, alive = self._settings.folder / name / "frames", 0, True
        pause = min(1.0, self._settings.patience.poll)
        since = 0.0
        while late < _LATE:
            data = await asyncio.to_thread(_read_from, frames, offset)
            if data:
                offset += len(data)
                yield data
                continue
            late += not alive
            await asyncio.sleep(pause)
            since += pause
            if alive and since >= self._settings.patience.poll:
                since = 0.0
                alive = (await self.standing(name)).stage is Stage.RUNNING

    async def standing(self, name: str) -> Standing:
        try:
            number = (self._settings.folder / name / "submitted").read_text()
        except OSError:
            return Standing(Stage.NEW)
        told = await self._ask("scontrol", "show", "job", "-o", number, fails=True)
        if found := re.search(r"\bJobState=(\S+)(?:\s+Reason=(\S+))?", told):
            return self._said(name, _standing(found[1], found[2] or ""))
        told = await self._ask("sacct", "-X", "-n", "-P", "-o", "State", "-j", number, fails=True)
        if lines := told.split():
            return self._said(name, _standing(lines[0], ""))
        return Standing(Stage.ENDED, "the cluster does not know it any more")

    def _said(self, name: str, standing: Standing) -> Standing:
        """With the last words of what did not even begin."""
        if standing.stage is not Stage.ENDED:
            return standing
        logs = (self._settings.folder / name / "submitit").glob("*.err")
        told = " ".join(path.read_text("utf-8", "replace")[-600:] for path in logs)
        return Standing(standing.stage, " ".join(f"{standing.detail} {told}".split()))

    async def cancel(self, name: str) -> None:
        folder = self._settings.folder / name
        number = (folder / "submitted").read_text()
        job = _submitit().SlurmJob(folder=folder / "submitit", job_id=number)
        await asyncio.to_thread(job.cancel, check=False)
        while True:
            if (await self.standing(name)).stage is not Stage.RUNNING:
                return
            await asyncio.sleep(min(1.0, self._settings.patience.poll))

    async def _ask(self, *command: str, fails: bool = False) -> str:
        """What a command of the cluster prints. ``fails``: it may; then ''."""
        wait, last = 1.0, ""
        for _ in range(4):
            try:
                done = await asyncio.to_thread(
                    subprocess.run,
                    command,
                    capture_output=True,
                    text=True,
                    timeout=_COMMAND_SECONDS,
                    stdin=subprocess.DEVNULL,
                    check=False,
                )
            except FileNotFoundError:
                if fails:
                    return ""
                raise JobError(
                    f"there is no {command[0]} on the PATH",
                    next="run this where the cluster's commands are: on a login node",
                ) from None
            except subprocess.TimeoutExpired:
                last = f"no answer within {_COMMAND_SECONDS:g} s"
            else:
                if done.returncode == 0:
                    return done.stdout
                last = done.stderr.strip()[-400:]
                if fails and not _PASSING.search(last):
                    return ""
            await asyncio.sleep(wait)
            wait *= 2
        raise JobsHalted(
            f"{command[0]} fails: {last or 'it said nothing'}",
            next="see that the cluster is up; a run that is resumed finds its jobs",
        )


#: The controller is away: no word about the job.
_PASSING = re.compile(r"unable to contact|connect failure|timed out|communication|try again", re.I)


def _submitit() -> Any:
    try:
        return importlib.import_module("submitit")
    except ImportError as error:
        raise ConfigError(
            f"submitit, which submits jobs to Slurm, is not installed ({error})",
            next="pip install 'manyhands[slurm]'",
        ) from error


def _standing(state: str, reason: str) -> Standing:
    stage = STAGES.get(state.rstrip("+").split()[0], Stage.RUNNING)
    return Standing(stage, state if reason in ("", "None") else f"{state} ({reason})")


def _lay_out(folder: Path, tar: bytes) -> None:
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    with tarfile.open(fileobj=io.BytesIO(tar)) as packed:
        packed.extractall(fresh, filter="tar")
    try:
        fresh.rename(folder)
    except OSError:
        shutil.rmtree(fresh)


def _read_from(path: Path, offset: int) -> bytes:
    """Opened each time: so a shared file system gives what is new."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(1 << 20)
    except FileNotFoundError:
        return b""
