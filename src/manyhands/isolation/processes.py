"""Which processes there are, what they use, and which carry a job's mark.

On Linux /proc is read directly (about 0.1 ms for a small job), so that a machine that a job is sent
to needs nothing but Python; elsewhere psutil answers. A process that ends while it is read is left
out, never an error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from . import supervisor

T = TypeVar("T")

LINUX = sys.platform == "linux"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Use:
    """``memory``: bytes of anonymous and shared memory. Pages of files, which the kernel can drop
    when it needs room, are not counted: a large memory-mapped data set is not a hog.
    ``cpu``: seconds of this process and of the children that it has waited for."""

    pid: int
    memory: int
    cpu: float


def descendants(root: int) -> list[int]:
    """All processes below ``root``, without it."""
    if LINUX:
        return list(supervisor.descendants(root))
    found = _asked(root, lambda process: process.children(recursive=True))
    return [child.pid for child in found or ()]


def use(pid: int) -> Use | None:
    """None: it has ended."""
    if LINUX:
        return _linux_use(pid)
    return _asked(pid, lambda process: _use(pid, process))


def _use(pid: int, process: Any) -> Use:
    times = process.cpu_times()
    return Use(pid, process.memory_info().rss, times.user + times.system)


def _asked(pid: int, question: Callable[[Any], T]) -> T | None:
    """What a ``psutil.Process`` answers; None: it has ended, or is somebody else's."""
    import psutil  # noqa: PLC0415 - Linux does without it

    try:
        return question(psutil.Process(pid))
    except psutil.Error:
        return None


def _linux_use(pid: int) -> Use | None:
    stat = supervisor.stat(pid)
    try:
        status = _read(f"/proc/{pid}/status")
    except OSError:
        return None
    cpu = sum(int(value) for value in stat[11:15]) / TICKS
    if b"RssAnon:" not in status:  # a kernel that does not tell them apart
        return Use(pid, _kilobytes(status, b"VmRSS:"), cpu)
    return Use(pid, _kilobytes(status, b"RssAnon:") + _kilobytes(status, b"RssShmem:"), cpu)


def proportional(pids: Iterable[int]) -> int:
    """Bytes of memory with shared pages counted once. Slow: the kernel walks the page tables."""
    total = 0
    for pid in pids:
        try:
            rollup = _read(f"/proc/{pid}/smaps_rollup")
        except OSError:
            known = use(pid)
            total += known.memory if known else 0
            continue
        total += _kilobytes(rollup, b"Pss_Anon:") + _kilobytes(rollup, b"Pss_Shmem:")
    return total


def ended(pid: int) -> bool:
    """Gone, or a zombie."""
    if LINUX:
        return supervisor.ended(pid)
    return _asked(pid, lambda process: process.status()) in (None, "zombie")


def started(pid: int) -> int | None:
    """When a process began, in units of the system: with its pid it names it for ever."""
    if not LINUX:
        return _asked(pid, lambda process: int(process.create_time() * 100))
    try:
        return int(supervisor.stat(pid)[19])
    except IndexError:
        return None


def owner() -> str:
    """Names this process for as long as the machine runs: ``pid.start``."""
    return f"{os.getpid()}.{started(os.getpid()) or 0}"


def owner_lives(text: str) -> bool:
    """Whether the process that wrote a mark (or a folder's name) that begins so still runs."""
    pid, _, start = text.partition(".")
    start = start.partition(".")[0]
    return pid.isdigit() and start.isdigit() and started(int(pid)) == int(start)


def marked(test: Callable[[Mapping[str, str]], bool]) -> list[int]:
    """Processes (not this one) whose environment at their start passes ``test``."""
    me = os.getpid()
    return [pid for pid in _pids() if pid != me and test(environment(pid))]


def _pids() -> list[int]:
    if LINUX:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    import psutil  # noqa: PLC0415 - Linux does without it

    return psutil.pids()


def environment(pid: int) -> Mapping[str, str]:
    """Empty for a process of somebody else."""
    if not LINUX:
        return _asked(pid, lambda process: process.environ()) or {}
    try:
        pairs = _read(f"/proc/{pid}/environ").decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def prefer_as_oom_victim(pid: int) -> None:
    """If the machine runs out of memory, the kernel shall pick a job, not what runs beside it."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write("800")


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):  # it ended first, or is somebody else's
            os.kill(pid, signal.SIGKILL)


def _kilobytes(text: bytes, field: bytes) -> int:
    at = text.find(field)
    if at < 0:
        return 0
    return int(text[at + len(field) : text.index(b"kB", at)]) * 1024


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        data = chunk = os.read(fd, 65536)
        while len(chunk) == 65536:
            chunk = os.read(fd, 65536)
            data += chunk
        return data
    finally:
        os.close(fd)
