"""Which process holds a run, and whether it still lives.

A process is known by its id *and* its start time, so a recycled id is not mistaken for the owner.
Where the owner cannot be looked at (another host or container) it counts as alive; epoch fencing
keeps the journal right even when that is overruled.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Owner:
    host: str
    pid: int
    started: float

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Owner:
        return cls(**json.loads(text))

    @property
    def local(self) -> bool:
        return self.host == _host()

    @property
    def alive(self) -> bool:
        if not self.local:
            return True
        try:
            process = psutil.Process(self.pid)
            gone = process.status() == psutil.STATUS_ZOMBIE
            return not gone and abs(process.create_time() - self.started) < 1.0
        except psutil.Error:
            return False

    def __str__(self) -> str:
        return f"process {self.pid}" + ("" if self.local else f" on {self.host}")


@lru_cache(maxsize=1)
def _host() -> str:
    """Host name, boot and process-id namespace: where a process id means something."""
    parts = [socket.gethostname()]
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        parts += [boot.read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def this_process() -> Owner:
    return Owner(_host(), os.getpid(), psutil.Process().create_time())
