"""Which process holds a run, and whether it still lives.

A process is known by its id *and* its start time, so a recycled id is not mistaken for the owner;
a runtime in it by a token, so one that was closed without a chance to say so (the disk was full) is
not mistaken for the next.
Where the owner cannot be looked at (another host or container) it counts as alive; epoch fencing
keeps the journal right even when that is overruled.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Owner:
    """``place``: where a process id means something; ``started``: in that place's own count."""

    host: str
    place: str
    pid: int
    started: float
    token: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Owner:
        return cls(**json.loads(text))

    @property
    def local(self) -> bool:
        return self.place == _place()

    @property
    def alive(self) -> bool:
        if not self.local:
            return True
        if self.pid == os.getpid() and self.token not in _OPEN:
            return False
        return _started(self.pid) == self.started

    def close(self) -> None:
        """This owner holds nothing from here on."""
        _OPEN.discard(self.token)

    def __str__(self) -> str:
        return f"process {self.pid}" + ("" if self.local else f" on {self.host}")


@lru_cache(maxsize=1)
def _place() -> str:
    """This boot and process-id namespace; elsewhere than on Linux the host's name."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return socket.gethostname()
    return f"{boot.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"


def _started(pid: int) -> float | None:
    """When the process began, None if it is gone or a zombie.

    On Linux in ticks since boot: unlike a time of day it does not move when the clock is set.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _started_elsewhere(pid)
    except (OSError, ValueError):
        return None
    return None if fields[0] in "ZX" else float(fields[19])


def _started_elsewhere(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time(), 2)
    except psutil.Error:
        return None


#: The owners in this process that are not closed.
_OPEN: set[str] = set()


def new_owner() -> Owner:
    """A part of this process that may hold runs."""
    started = _started(os.getpid())
    assert started is not None
    owner = Owner(socket.gethostname(), _place(), os.getpid(), started, secrets.token_hex(8))
    _OPEN.add(owner.token)
    return owner
