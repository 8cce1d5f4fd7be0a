"""How a job ended, from its exit code, what it used and its last words.

Only a failed job's output is read, and only to tell one failure from another: nothing that a job
prints can make it a success.
"""

from __future__ import annotations

import re
import signal

from manyhands.isolation.limits import MB
from manyhands.ports import JobExit, JobLimits

OUT_OF_MEMORY = re.compile(r"MemoryError|std::bad_alloc|Cannot allocate memory")


def verdict(code: int | None, limits: JobLimits, tail: str, peak: int) -> tuple[JobExit, str]:
    """For a job that no limit of the runner ended; ``peak``: bytes."""
    if code == 0:
        return JobExit.OK, ""
    if code == -signal.SIGXFSZ:
        return JobExit.DISK_LIMIT, f"a file grew over the limit of {limits.disk_mb} MB"
    killed = code == -signal.SIGKILL and peak > 0.8 * limits.memory_mb * MB
    if killed or OUT_OF_MEMORY.search(tail[-2000:]):
        detail = (
            f"out of memory at {peak / MB:.0f} MB: more was refused; "
            f"the limit is {limits.memory_mb} MB"
        )
        return JobExit.OUT_OF_MEMORY, detail
    return JobExit.FAILED, describe(code)


def describe(code: int | None) -> str:
    """How a command ended, in words."""
    if code is None:
        return "its supervisor was killed"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}, which the runner did not send"
    except ValueError:
        return f"killed by signal {-code}, which the runner did not send"
