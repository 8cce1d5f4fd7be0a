"""Watching a running job against its limits: memory, number of processes, disk.

The limits hold for the whole tree, so they are sampled from outside; what the kernel enforces
for one process alone (``rlimits``) stops what is faster than a sample. MB are 2**20 bytes.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from manyhands.ports import JobExit, JobLimits

from . import processes

MB = 2**20
#: Processes that a job may have at once.
PROCESSES = 256
#: Threads and processes of one user inside a job's own namespace: the kernel's backstop.
TASKS = 4096
SAMPLE_SECONDS = 0.1
#: Between samples of a job that is close to a limit or has just begun.
CLOSE_SECONDS = 0.02
#: Between exact measurements of the memory of several processes, and their share of one core.
EXACT_SECONDS = 0.2
EXACT_SHARE = 0.01
DISK_SECONDS = 0.5
#: Share of one core that walking a job's files may take.
DISK_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Cause:
    """Why the runner ends a job. ``grace``: it is first asked, with SIGTERM."""

    exit: JobExit
    detail: str
    grace: bool = False


NOT_UP = Cause(JobExit.FAILED, "it did not come up")


def out_of_time(seconds: float) -> Cause:
    detail = f"ended after {seconds:g} s, which is the limit"
    return Cause(JobExit.TIMED_OUT, detail, grace=True)


def out_of_output(megabytes: float) -> Cause:
    detail = f"ended at {megabytes:g} MB of output, which is the limit"
    return Cause(JobExit.OUTPUT_LIMIT, detail)


def rlimits(limits: JobLimits, largest_file: int, *, own_namespace: bool) -> list[tuple[int, int]]:
    """(resource, value) for the command and all that it starts; each counts per process.

    RLIMIT_DATA and not RLIMIT_AS: address space is cheap (CUDA reserves hundreds of GB), private
    writable memory is not. It leaves room for thread stacks and BLAS buffers, which are mapped
    and seldom touched: twice the limit, 1 GB, and 64 MB a core. ``largest_file``: bytes of the
    largest file that is there at the start and may be appended to.
    """
    data = 2 * limits.memory_mb * MB + 1024 * MB + 64 * MB * (os.cpu_count() or 1)
    values = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, max(1, limits.disk_mb) * MB + largest_file),
    ]
    if sys.platform == "linux":
        values.append((resource.RLIMIT_DATA, data))
        if own_namespace and counts_by_namespace():
            values.append((resource.RLIMIT_NPROC, TASKS))
    return values


def counts_by_namespace() -> bool:
    """Linux 5.14 and newer count a user's processes in each namespace by itself."""
    major, minor = platform.release().split(".")[:2]
    return (int(major), int("".join(filter(str.isdigit, minor)) or 0)) >= (5, 14)


class TreeMeter:
    """Memory, processor time and number of processes below ``root``, the job's supervisor."""

    def __init__(self, root: int, limits: JobLimits, processes: int = PROCESSES) -> None:
        self.root = root
        self.processes = processes
        self.limit = limits.memory_mb * MB
        self.peak = 0
        self.cpu = 0.0
        self.seen: dict[int, int] = {}
        self._close = True
        self._samples = 0
        self._exact_from = 0.0

    @property
    def pause(self) -> float:
        """Seconds until the next sample."""
        young = self._samples < 4
        return CLOSE_SECONDS if self._close or young else SAMPLE_SECONDS

    def seen_now(self) -> list[int]:
        """The processes that there are at this moment."""
        return [pid for pid in processes.descendants(self.root) if not processes.ended(pid)]

    def sample(self) -> Cause | None:
        pids = processes.descendants(self.root)
        self._samples += 1
        self._remember(pids)
        if len(pids) > self.processes:
            return Cause(
                JobExit.FAILED, f"ended at {len(pids)} processes, the limit is {self.processes}"
            )
        memory = self._measure(pids)
        self._close = memory > 0.6 * self.limit or len(pids) > self.processes // 8
        if memory > self.limit:
            return Cause(
                JobExit.OUT_OF_MEMORY,
                f"ended at {memory / MB:.0f} MB of memory, the limit is {self.limit / MB:.0f} MB",
            )
        return None

    def _measure(self, pids: list[int]) -> int:
        uses = [use for pid in pids if (use := processes.use(pid))]
        self.cpu = max(self.cpu, sum(use.cpu for use in uses))
        memory = sum(use.memory for use in uses)
        if memory > self.peak and len(uses) > 1 and sys.platform == "linux":
            # Pages that forks share were counted once for each of them: this is an upper bound.
            if memory <= self.limit and time.monotonic() < self._exact_from:
                return memory
            began = time.thread_time()
            memory = processes.proportional(use.pid for use in uses)
            pause = max(EXACT_SECONDS, (time.thread_time() - began) / EXACT_SHARE)
            self._exact_from = time.monotonic() + pause
        self.peak = max(self.peak, memory)
        return memory

    def _remember(self, pids: list[int]) -> None:
        """So that a process can be ended even after its supervisor is gone."""
        for pid in pids:
            if pid not in self.seen:
                processes.prefer_as_oom_victim(pid)
        began = {pid: self.seen.get(pid) or processes.started(pid) for pid in pids}
        self.seen = {pid: start for pid, start in began.items() if start is not None}


@dataclass(frozen=True, slots=True)
class DiskUse:
    """``size``: bytes allocated below some folders; ``largest``: bytes of the largest file."""

    size: int
    largest: int


#: What an empty file or a folder costs the disk, about.
ENTRY_BYTES = 512


def disk_use(folders: Iterable[Path]) -> DiskUse:
    """Walks; links are not followed. What cannot be read is left out."""
    size = largest = 0
    waiting = [str(folder) for folder in folders]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
            except OSError:
                continue
            size += status.st_blocks * 512 + ENTRY_BYTES
            largest = max(largest, status.st_size)
    return DiskUse(size, largest)


def unlinked_use(pids: Iterable[int]) -> int:
    """Bytes of files that are open and have no name any more: a walk does not find them."""
    files: dict[tuple[int, int], int] = {}
    for pid in pids:
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for name in descriptors:
            try:
                if not os.readlink(f"/proc/{pid}/fd/{name}").endswith(" (deleted)"):
                    continue
                status = os.stat(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            files[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(files.values())


class DiskMeter:
    """What a job's own folders have grown by since ``begin``. It walks: call it in a thread."""

    def __init__(self, folders: Iterable[Path], limits: JobLimits) -> None:
        kept: list[Path] = []
        for folder in sorted(folders):
            if not any(folder.is_relative_to(other) for other in kept):
                kept.append(folder)
        self.folders = kept
        self.limit = limits.disk_mb * MB
        self.initial = DiskUse(0, 0)
        self._grown = self._free = 0
        self._next = 0.0

    def begin(self) -> None:
        self._free = self._free_now()
        self.initial = disk_use(self.folders)

    def due(self, now: float) -> bool:
        """Time for a sample: by the clock (monotonic), or since the disk lost what was left."""
        return now >= self._next or self._free - self._free_now() > self.limit - self._grown

    def sample(self, pids: Iterable[int]) -> Cause | None:
        began = time.thread_time()
        self._free = self._free_now()
        self._grown = grown = disk_use(self.folders).size - self.initial.size + unlinked_use(pids)
        # A job with very many files is walked less often.
        cost = time.thread_time() - began
        self._next = time.monotonic() + min(max(DISK_SECONDS, cost / DISK_SHARE), 5.0)
        if grown < self.limit:
            return None
        return Cause(
            JobExit.DISK_LIMIT,
            f"its files grew by {grown / MB:.0f} MB, the limit is {self.limit / MB:.0f} MB",
        )

    def _free_now(self) -> int:
        """Bytes free on the disk of the first folder; 0 if it cannot be known."""
        try:
            disk = os.statvfs(self.folders[0])
        except OSError:
            return 0
        return disk.f_bfree * disk.f_frsize
