"""What an embedded server and its clients know of each other: one folder for each server.

Invariants: the kernel holds every claim, so a process that is killed with -9 gives all of its own
up at once; whoever reads the state sees a whole one; the server's key is in the state file, which
only its user can read, and nowhere else.

``host.lock`` is held by the process that runs the server, for as long as it lives. ``clients.lock``
is shared by all who may want the server again, ``use.lock`` by those with a request in flight; the
host ends only while it holds one of the two alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

STATE, LOG = "state.json", "server.log"
HOST, CLIENTS, USE = "host.lock", "clients.lock", "use.lock"


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class ServerState:
    """``generation`` is new with every start. ``reason`` and ``lines`` (the log's last) say why it
    failed or ended, ``next`` what to do; ``passing``: the same start may succeed later."""

    phase: Phase
    generation: str
    model: str
    path: str
    host_pid: int
    pid: int = 0
    url: str = ""
    key: str = field(default="", repr=False)
    context_length: int = 0
    slots: int = 0
    threads: int = 0
    reason: str = ""
    next: str = ""
    lines: tuple[str, ...] = ()
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What a host is to run. Seconds as `ServerSettings` describes them; ``size`` and ``kv_bytes``
    as the model's header tells them."""

    folder: str
    model: str
    path: str
    context_length: int
    slots: int
    threads: int
    size: int
    kv_bytes: int
    idle_seconds: float
    linger_seconds: float
    start_seconds: float
    health_seconds: float
    log_bytes: int


class Folder:
    """A server's folder. It is made, for its user alone, when a lock or the state is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def log(self) -> Path:
        return self.path / LOG

    def make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self) -> ServerState | None:
        """None: no server was started here, or the last one ended in good order."""
        try:
            found: dict[str, Any] = json.loads((self.path / STATE).read_bytes())
            lines = tuple(found.pop("lines"))
            return ServerState(phase=Phase(found.pop("phase")), lines=lines, **found)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, state: ServerState) -> None:
        partial = self.path / f"{STATE}.{os.getpid()}"
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(asdict(state), file)
        partial.replace(self.path / STATE)

    def forget(self) -> None:
        (self.path / STATE).unlink(missing_ok=True)

    def lock(self, name: str) -> Lock:
        self.make()
        return Lock(self.path / name)

    @property
    def hosted(self) -> bool:
        """Whether a host process lives."""
        try:
            lock = Lock(self.path / HOST)
        except OSError:
            return False
        with contextlib.closing(lock):
            return not lock.try_shared()


class Lock:
    """A lock on an open file, which ends with the last process that has it open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Not inherited by what this process runs: a job must not keep a server alive.
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def in_place(self) -> bool:
        """False where the file is gone, or another one is in its place."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(self._fd)
        return (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino)

    def try_shared(self) -> bool:
        return self._try(fcntl.LOCK_SH)

    def try_alone(self) -> bool:
        return self._try(fcntl.LOCK_EX)

    def release(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Closing twice is closing once."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def running(folder: Path) -> Iterator[ServerState]:
    """The servers that are ready under ``folder``, which holds a folder for each."""
    for path in sorted(folder.glob(f"*/{STATE}")):
        found = Folder(path.parent)
        state = found.read()
        if state is not None and state.phase is Phase.READY and found.hosted:
            yield state
