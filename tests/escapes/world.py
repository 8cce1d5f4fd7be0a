"""The world outside of a sandbox in which attempts are tried, and what must be left of it.

Runs in the tests' process, or as a program for another user (``python -m tests.escapes.world``
FOLDER): a line with an attempt's name comes in, a line of JSON with the findings goes out.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import secrets
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from manyhands.adapters.sandboxes.linux import LinuxSandboxes
from manyhands.errors import SandboxError
from manyhands.ports import ExecResult, Sandbox, Sandboxes
from tests.escapes.attempts import BY_NAME, Attempt

IPC_PRIVATE, IPC_CREAT, IPC_RMID = 0, 0o1000, 0


@dataclass
class World:
    """What lies outside; ``marker`` is in everything secret."""

    folder: Path
    marker: str
    victim: subprocess.Popen[bytes]
    listeners: list[socket.socket]
    segment: int
    env: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def base(self) -> Path:
        return self.folder / "base"

    def state(self) -> dict[str, tuple[int, int, bytes]]:
        found: dict[str, tuple[int, int, bytes]] = {}
        for path in [self.folder, *sorted(self.folder.rglob("*"))]:
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[str(path)] = (status.st_mode, status.st_nlink, content)
        return found

    def reached(self) -> bool:
        """Whether anybody came to a listener."""
        for listener in self.listeners:
            listener.settimeout(0)
            try:
                if listener.type == socket.SOCK_DGRAM:
                    listener.recv(1)
                else:
                    listener.accept()
            except OSError:
                continue
            return True
        return False


@contextmanager
def world() -> Iterator[World]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="world-")))
        marker = f"s3cr3t-{secrets.token_hex(8)}"
        _fill(folder, marker)
        victim = subprocess.Popen(
            ["sleep", "3600"],
            env={"TOKEN": marker},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        listeners = [stack.enter_context(each) for each in _listeners(folder, marker)]
        library = ctypes.CDLL(None)
        segment = int(library.shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0o600))
        stack.callback(library.shmctl, segment, IPC_RMID, None)
        made = World(folder, marker, victim, listeners, segment)
        made.env = {
            "OUT": str(folder),
            "VICTIM": str(victim.pid),
            "HARNESS": str(os.getpid()),
            "PORT": str(listeners[0].getsockname()[1]),
            "UDP": str(listeners[1].getsockname()[1]),
            "SOCK": str(folder / "sock"),
            "ABSTRACT": f"manyhands-{os.getpid()}",
            "SHM": str(segment),
        }
        yield made


def _fill(folder: Path, marker: str) -> None:
    home = folder / "home"
    for name in (".ssh/id_ed25519", ".cache/huggingface/token", ".netrc"):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(marker)
    (folder / "journal.db").write_text(marker)
    (folder / "outside.txt").write_text("outside\n")
    base = folder / "base"
    (base / "deep").mkdir(parents=True)
    (base / "a.txt").write_text("alpha\n")
    (base / "deep" / "b.txt").write_text("beta\n")
    (base / ".hidden").write_text("dot\n")
    (base / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (base / "run.sh").chmod(0o755)


def _listeners(folder: Path, marker: str) -> list[socket.socket]:
    tcp = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    by_path = socket.socket(socket.AF_UNIX)
    by_path.bind(str(folder / "sock"))
    by_path.listen()
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0manyhands-{os.getpid()}")
    abstract.listen()
    return [tcp, udp, by_path, abstract]


# ---------------------------------------------------------------- trying


async def attempt_in(place: World, sandboxes: Sandboxes, attempt: Attempt) -> list[str]:
    """All that is wrong afterwards; empty: it was blocked or contained."""
    before = place.state()
    wrong: list[str] = []
    tag = secrets.token_hex(8)
    env = {**place.env, "TAG": tag}
    async with sandboxes.open(
        place.base, writable=attempt.writable, limits=attempt.limits, env=env
    ) as sandbox:
        argv = ["python3", "-c", attempt.script] if attempt.python else attempt.script
        began = time.monotonic()
        result = await sandbox.exec(argv, background=attempt.background)
        if time.monotonic() - began > attempt.limits.seconds + 12:
            wrong.append(f"took {time.monotonic() - began:.0f} s")
        wrong += _told(attempt, result, place.marker)
        wrong += await _sandbox_lives(sandbox, attempt)
    wrong += _outside(place, before)
    wrong += _left(tag)
    if wrong:
        wrong.append(f"it said: {result.output[-600:].decode(errors='replace')}; {result.killed}")
    return wrong


def _told(attempt: Attempt, result: ExecResult, marker: str) -> list[str]:
    wrong: list[str] = []
    if b"ESCAPED" in result.output:
        wrong.append("it got through")
    if marker.encode() in result.output:
        wrong.append("it read a secret")
    if attempt.tried and b"tried" not in result.output:
        wrong.append(f"it was not tried to its end: {result.code} {result.detail}")
    if attempt.killed and result.killed not in attempt.killed:
        wrong.append(f"no limit ended it: {result.killed} {result.code}")
    return wrong


async def _sandbox_lives(sandbox: Sandbox, attempt: Attempt) -> list[str]:
    """The sandbox still answers in every way; a tree too deep or a full disk may be said."""
    wrong: list[str] = []
    alive = await sandbox.exec("echo alive")
    if alive.output != b"alive\n":
        wrong.append(f"the sandbox is dead: {alive}")
    for call in (sandbox.glob(), sandbox.diff()):
        try:
            found = await call
        except SandboxError:
            continue
        if call.__name__ == "diff" and not attempt.writable and found:
            wrong.append(f"an explorer's writes came through: {found[:3]}")
    return wrong


def _outside(place: World, before: dict[str, tuple[int, int, bytes]]) -> list[str]:
    wrong: list[str] = []
    after = place.state()
    if after != before:
        changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
        wrong.append(f"outside changed: {changed[:5]}")
    if place.victim.poll() is not None:
        wrong.append("a process outside was killed")
    if place.reached():
        wrong.append("a listener outside was reached")
    return wrong


def _left(tag: str) -> list[str]:
    """Processes of the sandbox that are still there; all carry the tag in their environment."""
    left: list[str] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TAG") == tag and process.status() != psutil.STATUS_ZOMBIE:
                left.append(f"{process.pid} {process.name()}")
        except psutil.Error:
            continue
    return [f"it outlived its sandbox: {left}"] if left else []


def main(folder: str) -> None:
    """For another user: attempts by name, one a line."""
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    with world() as place:
        sandboxes = LinuxSandboxes()
        print(
            json.dumps({"uid": os.getuid(), "backend": sandboxes.capabilities.backend}), flush=True
        )
        for line in sys.stdin:
            name = line.strip()
            try:
                wrong = asyncio.run(attempt_in(place, sandboxes, BY_NAME[name]))
            except Exception as error:
                wrong = [f"the harness failed: {type(error).__name__}: {error}"]
            print(json.dumps({"name": name, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
