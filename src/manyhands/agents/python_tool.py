"""Python that a model wrote, run as a job.

Invariants: it is offered only where the job runner confines what it writes and reads and blocks the
network; every call has an empty folder of its own, which is gone when the call ends.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from manyhands.agents.tools import CallContext, Tool
from manyhands.errors import ConfigError
from manyhands.ports import Isolation, JobExit, JobLimits, JobResult, JobRunner, JobSpec
from manyhands.runtime import Effect

#: Enough for sums, texts and small tables.
PYTHON_LIMITS = JobLimits(seconds=20.0, memory_mb=512, output_mb=1 / 16, disk_mb=64)
#: To start and to end a job, beside its own time.
_MARGIN = 15.0


def python_allowed(isolation: Isolation) -> str:
    """Why a model's Python must not run here; '': it may."""
    missing = {
        "what it writes is not confined": not isolation.writes_confined,
        "what it reads is not confined": not isolation.reads_confined,
        "the network is open to it": not isolation.network_blocked,
    }
    reasons = [reason for reason, is_so in missing.items() if is_so]
    return f"isolation {isolation.level!r}: {', '.join(reasons)}" if reasons else ""


def python_tool(jobs: JobRunner, folder: Path, limits: JobLimits = PYTHON_LIMITS) -> Tool:
    """The tool ``python``. ``folder``: where the calls' folders are made.

    Raises `ConfigError` where `python_allowed` says no.
    """
    reason = python_allowed(jobs.isolation)
    if reason:
        raise ConfigError(
            f"the tool python cannot be offered: {reason}",
            next="install bubblewrap where user namespaces are allowed, or leave the tool out",
        )

    async def python(context: CallContext, code: str) -> str:
        """Run a Python 3 program and see what it prints. Print what you want to know.

        It has no network and no files but what it makes; nothing is kept for the next call.

        Args:
            code: The whole program.
        """
        folder.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(prefix="python-", dir=folder))
        try:
            spec = _spec(own, context.key, code, limits)
            return _told(await jobs.run(spec), spec, limits)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, own, ignore_errors=True))

    return Tool.from_function(python, Effect.IDEMPOTENT, seconds=limits.seconds + _MARGIN)


def _spec(own: Path, key: str, code: str, limits: JobLimits) -> JobSpec:
    work, out = own / "work", own / "out"
    work.mkdir()
    out.mkdir()
    (work / "main.py").write_text(code, encoding="utf-8")
    return JobSpec(
        key=key,
        command=(sys.executable, "-I", "main.py"),
        cwd=work,
        out=out,
        log=own / "log",
        limits=limits,
        network=False,
    )


def _told(result: JobResult, spec: JobSpec, limits: JobLimits) -> str:
    """How it ended, then all that it printed."""
    why = {
        JobExit.TIMED_OUT: f"stopped after {limits.seconds:g} s",
        JobExit.OUT_OF_MEMORY: f"out of memory: the limit is {limits.memory_mb} MB",
        JobExit.OUTPUT_LIMIT: f"stopped: it printed more than {limits.output_mb * 1024:g} KB",
        JobExit.DISK_LIMIT: f"stopped: it wrote more than {limits.disk_mb} MB",
    }
    ending = why.get(result.exit) or result.detail or f"exit code {result.code}"
    printed = spec.log.read_text(encoding="utf-8", errors="replace") if spec.log.exists() else ""
    return f"{ending}\n{printed or '(it printed nothing)'}"
