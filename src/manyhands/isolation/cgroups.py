"""A cgroup (version 2) per command, where one may be made: exact limits on memory and tasks.

Most containers and ordinary users have none to give; then `refused` says why, and the limits are
sampled instead. A group is made beside the one that this process is in, for the kernel allows no
limits below a group that holds processes itself.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .processes import descendants, owner

MB = 2**20
ROOT = Path("/sys/fs/cgroup")
#: Threads count as tasks here.
TASKS_PER_PROCESS = 16
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Group:
    path: Path

    def admit(self, root: int) -> None:
        """``root`` and all below it. They have not begun yet: they wait for their order."""
        for pid in (root, *descendants(root)):
            with contextlib.suppress(OSError):
                (self.path / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """All in it has ended; the kernel may need a moment to see that."""
        for _ in range(50):
            try:
                self.path.rmdir()
            except OSError:
                time.sleep(0.001)
            else:
                return


def refused() -> str:
    """Why there are no groups here; empty: there are."""
    found = _parent()
    return found if isinstance(found, str) else ""


def available() -> bool:
    return not refused()


def make(memory_mb: int, processes: int) -> Group | None:
    parent = _parent()
    if isinstance(parent, str):
        return None
    path = parent / f"manyhands-{owner()}-{next(_numbers)}"
    try:
        return _make(path, memory_mb, processes)
    except OSError:
        return None


def _make(path: Path, memory_mb: int, processes: int) -> Group:
    path.mkdir()
    try:
        (path / "memory.max").write_text(str(memory_mb * MB))
        (path / "pids.max").write_text(str(processes * TASKS_PER_PROCESS))
        with contextlib.suppress(OSError):
            (path / "memory.swap.max").write_text("0")
    except OSError:
        path.rmdir()
        raise
    return Group(path)


@functools.cache
def _parent() -> Path | str:
    if sys.platform != "linux":
        return "cgroups are a part of Linux"
    if not (ROOT / "cgroup.controllers").exists():
        return f"{ROOT} is not cgroup version 2"
    own = own_group(Path("/proc/self/cgroup").read_text(encoding="utf-8"))
    if own is None:
        return "this process is in no group of version 2"
    return usable([own.parent, own], ROOT)


def own_group(text: str) -> Path | None:
    for line in text.splitlines():
        if line.startswith("0::/"):
            return ROOT / line[4:]
    return None


def usable(candidates: list[Path], root: Path) -> Path | str:
    """The first in which a trial group gets its limits."""
    for parent in candidates:
        if not parent.is_relative_to(root):
            continue
        trial = parent / f"manyhands-trial-{os.getpid()}"
        try:
            group = _make(trial, 64, 16)
        except OSError:
            with contextlib.suppress(OSError):
                trial.rmdir()
            continue
        group.remove()
        return parent
    return "no group with limits can be made beside this process's own (not delegated)"
