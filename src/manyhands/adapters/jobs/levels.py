"""Which isolation this machine offers, and an honest account of it."""

from __future__ import annotations

import os
import sys

from manyhands.errors import JobError
from manyhands.ports import Isolation

from . import bubblewrap, landlock
from .bubblewrap import Bwrap
from .landlock import Landlock

#: None: bare process groups.
Level = Bwrap | Landlock | None
LEVELS = ("auto", "bubblewrap", "landlock", "process")

SAMPLED = (
    "memory, disk and the number of processes of a whole job are sampled, up to every 0.1 s "
    "(disk: 0.5 s): what is faster is stopped by limits on each process, not on the whole"
)


def choose(isolation: str) -> Level:
    """The level asked for. Raises JobError where this machine does not offer it."""
    if isolation == "process":
        return None
    if isolation not in LEVELS:
        raise JobError(
            f"isolation {isolation!r} is not known", next=f"use one of {', '.join(LEVELS)}"
        )
    reasons: list[str] = []
    for name, probe in (("bubblewrap", bubblewrap.probe), ("landlock", landlock.probe)):
        if isolation in ("auto", name):
            found = probe()
            if not isinstance(found, str):
                return found
            reasons.append(found)
    if isolation == "auto":
        return None
    raise JobError(
        f"isolation {isolation!r} is not available: {'; '.join(reasons)}",
        next="install bubblewrap where namespaces are allowed, or use isolation 'auto'",
    )


def describe(level: Level) -> Isolation:
    if isinstance(level, Bwrap):
        return _bubblewrap(level)
    if isinstance(level, Landlock):
        return _landlock(level)
    return _process()


def _bubblewrap(bwrap: Bwrap) -> Isolation:
    notes = [SAMPLED, "/dev/shm holds up to the memory limit beside what processes use"]
    if os.geteuid() == 0:
        notes.append("as root the kernel does not limit the number of processes: it is sampled")
    if not bwrap.sizes:
        notes[1] = "this bwrap cannot limit a tmpfs: /dev/shm is a folder on disk"
    return Isolation(
        level="bubblewrap",
        writes_confined=True,
        reads_confined=True,
        hides_paths=True,
        network_blocked=True,
        tree_killed=True,
        notes=tuple(notes),
    )


def _landlock(landlock: Landlock) -> Isolation:
    notes = [
        SAMPLED,
        "of a hidden file the content is hidden, its name and size are not",
        "Unix sockets that this user may open are reachable (a container daemon's, say)",
        "there is no /dev/shm: locks and shared memory between processes fail",
    ]
    if not landlock.guards_signals:
        notes.append(BEST_EFFORT)
    if landlock.abi < 3:
        notes.append("this kernel lets a job empty files that it may not write (truncate)")
    if not landlock.blocks_network:
        tcp = "TCP is blocked, all else is not" if landlock.abi >= 4 else "nothing is blocked"
        notes.append(f"the network: {tcp}")
    return Isolation(
        level="landlock",
        writes_confined=landlock.abi >= 3,
        reads_confined=True,
        hides_paths=True,
        network_blocked=landlock.blocks_network,
        tree_killed=landlock.guards_signals,
        notes=tuple(notes),
    )


BEST_EFFORT = (
    "all that a job starts is found and ended, daemons too, but for a job that kills its "
    "supervisor and wipes its own environment on purpose"
)


def _process() -> Isolation:
    notes = [
        SAMPLED,
        "a job runs as you: it reads and writes what you can, and uses the network",
        "a job can read the environment of the process that runs it, keys included",
        BEST_EFFORT,
    ]
    if sys.platform != "linux":
        notes.append("memory of one process is limited by sampling alone")
    return Isolation(
        level="process",
        writes_confined=False,
        reads_confined=False,
        hides_paths=False,
        network_blocked=False,
        tree_killed=False,
        notes=tuple(notes),
    )
