"""What this process really has: the cores and the memory that it may use, not the machine's.

A container sees all cores and all memory of its host. It is throttled to its quota, and killed at
its limit. More threads than cores make a language model slower by orders of magnitude, because
every step waits for the slowest of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path("/")


def usable_cores(root: Path = ROOT) -> int:
    """What affinity and the CPU quota of every control group above allow; at least 1.

    ``root``: below which ``proc`` and ``sys`` are looked for, for tests.
    """
    quotas = [q for group in _groups("cpu", root) if (q := _quota(group)) is not None]
    return max(1, int(min([float(_affinity()), *quotas])))


def free_memory(root: Path = ROOT) -> int:
    """Bytes that can still be had without anything being killed or swapped.

    What the kernel keeps of files counts as free: it is dropped when it is needed.
    """
    rooms = [r for group in _groups("memory", root) if (r := _room(group)) is not None]
    return max(0, min([psutil.virtual_memory().available, *rooms]))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's control group and of all above it; versions 1 and 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        mount = root / "sys/fs/cgroup"
        if controllers:
            if controller not in controllers.split(","):
                continue
            mount /= controller
        # Inside of a container the path may be the host's, which is not mounted here.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        yield from (mount.joinpath(*parts[:n]) for n in range(len(parts), -1, -1))


def _quota(group: Path) -> float | None:
    both = _text(group / "cpu.max").split()
    if not both:
        both = [_text(group / f"cpu.cfs_{what}_us").strip() for what in ("quota", "period")]
    quota, period = (_number(text) for text in both)
    return quota / period if quota and period and quota > 0 else None


def _room(group: Path) -> int | None:
    for limit, used, files in (
        ("memory.max", "memory.current", "file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
    ):
        most, now = _number(_text(group / limit)), _number(_text(group / used))
        if most is not None and now is not None:
            stat = dict(line.split() for line in _text(group / "memory.stat").splitlines())
            return int(most - now + (_number(stat.get(files, "0")) or 0))
    return None


def _number(text: str) -> float | None:
    """None for what is no number: 'max', or a file that is not there."""
    try:
        return float(text)
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
