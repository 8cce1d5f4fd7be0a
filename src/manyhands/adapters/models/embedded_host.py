"""The process that keeps one embedded server: starts it, watches it, keeps its log, ends it.

Invariants: there is one host for each server's folder; it lives no longer than the server is
wanted, whoever is killed in between; whatever ends the server, the folder's state says so. It loads
no model itself, so nothing that llama.cpp does can keep it from any of this.

It is started by `EmbeddedModel`, with an `Order` as JSON on standard input.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import psutil

from manyhands.adapters.models.embedded_state import (
    CLIENTS,
    HOST,
    USE,
    Folder,
    Order,
    Phase,
    ServerState,
)

_TICK = 0.1
#: How long a host that is ending may take until the next one gives up on it.
_HANDOVER = 60.0
#: Missed in a row, without any work done meanwhile: the server is frozen.
_MISSES = 3
#: How long a server that has given up may take to write its log out.
_LAST_WORDS = 10.0
_KEPT_LINES = 200
_LONGEST_LINE = 64 * 1024
_SHOWN_LINES = 6
_SIGNALS: dict[int, str] = {
    signal.SIGKILL: "it was killed (signal 9): by a person, or because memory ran out",
    signal.SIGABRT: "it aborted (signal 6): llama.cpp met something it cannot handle",
    signal.SIGSEGV: "it crashed (signal 11)",
    signal.SIGILL: "it met an instruction that this processor does not have (signal 4)",
    signal.SIGBUS: "it could not read the model's file any more (signal 7)",
}


def main() -> None:
    order = Order(**json.loads(sys.stdin.readline()))
    os.chdir("/")
    host = Host(order)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, host.stop)
    if host.begin():
        host.run()


class Host:
    """One server, from its start to its end."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._folder = Folder(Path(order.folder))
        self._host = self._folder.lock(HOST)
        self._clients = self._folder.lock(CLIENTS)
        self._use = self._folder.lock(USE)
        self._log = Log(self._folder.log, order.log_bytes)
        self._stopped = threading.Event()
        self._lonely_since: float | None = None
        self._unused_since: float | None = None
        self._state = ServerState(
            phase=Phase.STARTING,
            generation=secrets.token_hex(8),
            model=order.model,
            path=order.path,
            host_pid=os.getpid(),
            key=secrets.token_urlsafe(32),
            context_length=order.context_length,
            slots=order.slots,
            threads=order.threads,
        )

    def stop(self, *_: object) -> None:
        self._stopped.set()

    def begin(self) -> bool:
        """Become the folder's host. False: another one is, and lives."""
        deadline = time.monotonic() + _HANDOVER
        while not self._host.try_alone():
            # Held for a moment by one who looks, or by a host that is on its way out.
            known = self._folder.read()
            alive = known is not None and known.phase in (Phase.STARTING, Phase.READY)
            if (alive and self._folder.hosted) or time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        self._folder.write(self._state)
        return True

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            server = self._start()
            stack.callback(_kill, server)
            pump = threading.Thread(target=self._log.pump, args=(server.stderr,), daemon=True)
            pump.start()
            report = Report(server.stdout)
            end = self._load(server, report) or self._serve(server)
            _kill(server)
            pump.join(timeout=5.0)
            self._finish(server, report, end)

    def _start(self) -> subprocess.Popen[bytes]:
        """The order goes over a pipe: an argument could be read by everybody on the machine."""
        order = {**asdict(self._order), "key": self._state.key}
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "manyhands.adapters.models.embedded_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=server_environment(os.environ),
        )
        assert server.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            server.stdin.write(json.dumps(order).encode() + b"\n")
            server.stdin.flush()
        self._state = replace(self._state, pid=server.pid)
        self._folder.write(self._state)
        return server

    # ---------------------------------------------------------------- the server's life

    def _load(self, server: subprocess.Popen[bytes], report: Report) -> str:
        """Until it listens and answers. Returns why it does not, or ''."""
        deadline = time.monotonic() + self._order.start_seconds
        while not report.made:
            if server.poll() is not None:
                report.wait()
                break
            if time.monotonic() > deadline:
                return f"it was not ready after {self._order.start_seconds:g} s"
            if end := self._unwanted():
                return end
            time.sleep(_TICK / 5)
        url = report.told.get("url")
        if not url:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=_LAST_WORDS)
            return "it did not start"
        if not _healthy(url, timeout=10.0):
            return "it listens and does not answer"
        self._state = replace(self._state, phase=Phase.READY, url=f"{url}/v1")
        self._folder.write(self._state)
        return ""

    def _serve(self, server: subprocess.Popen[bytes]) -> str:
        """Until the server ends or is not wanted any more; returns why."""
        health = Health(server.pid, self._state.url, self._order.health_seconds)
        while True:
            if server.poll() is not None:
                return "it ended"
            if end := self._unwanted() or health.complaint():
                return end
            self._stopped.wait(_TICK)

    def _unwanted(self) -> str:
        """Why the server is to end, '' if it is not. A lock that says so stays taken."""
        if self._stopped.is_set():
            return "stopped"
        now = time.monotonic()
        if not self._clients.try_alone():
            self._lonely_since = None
        elif self._lonely_since is None or now - self._lonely_since < self._order.linger_seconds:
            self._lonely_since = self._lonely_since or now
            self._clients.release()
        else:
            return "unwanted"
        if self._state.phase is not Phase.READY or not self._use.try_alone():
            self._unused_since = None
        elif self._unused_since is None or now - self._unused_since < self._order.idle_seconds:
            self._unused_since = self._unused_since or now
            self._use.release()
        else:
            return "unwanted"
        return ""

    def _finish(self, server: subprocess.Popen[bytes], report: Report, end: str) -> None:
        self._log.note(f"ended: {end}")
        if end in ("unwanted", "stopped"):
            self._folder.forget()
            return
        code = server.returncode
        if end in ("it ended", "it did not start"):
            end = _SIGNALS.get(-code, f"{end} (exit code {code})")
        told = report.told
        if told.get("unexplained"):
            told = {**told, "reason": self._log.complaint() or told["reason"]}
        failed = self._state.phase is Phase.STARTING
        self._folder.write(
            replace(
                self._state,
                phase=Phase.FAILED if failed else Phase.ENDED,
                url="",
                key="",
                reason=told.get("reason") or end,
                next=told.get("next") or "",
                lines=self._log.last(),
                passing="reason" not in told,
            )
        )


# -------------------------------------------------------------------- what it watches by


class Report:
    """The one line that the server says on its standard output."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        self.told: dict[str, Any] = {}
        self.made = False
        self._reader = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._reader.start()

    def wait(self) -> None:
        self._reader.join(timeout=5.0)

    def _read(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(ValueError):
            self.told = json.loads(pipe.readline() or b"{}")
        self.made = bool(self.told)


class Health:
    """Asks a server every ``seconds`` whether it is there.

    One that does not answer may be busy: it counts as frozen when it has, besides, done nothing.
    """

    def __init__(self, pid: int, url: str, seconds: float) -> None:
        self._process = psutil.Process(pid)
        self._url = url
        self._seconds = seconds
        self._next = time.monotonic() + seconds
        self._misses = 0
        self._worked = 0.0

    def complaint(self) -> str:
        if time.monotonic() < self._next:
            return ""
        healthy = _healthy(self._url, timeout=self._seconds)
        self._next = time.monotonic() + self._seconds
        worked = self._work()
        idle, self._worked = worked - self._worked < 0.01 * self._seconds, worked
        self._misses = 0 if healthy or not idle else self._misses + 1
        return "it was frozen: it answered no health check" if self._misses >= _MISSES else ""

    def _work(self) -> float:
        try:
            times = self._process.cpu_times()
        except psutil.Error:
            return 0.0
        return times.user + times.system


def _healthy(url: str, timeout: float) -> bool:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Log:
    """The server's log: ``path`` and, when that has grown to ``most`` bytes, one older file."""

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._file: IO[bytes] | None = None

    def note(self, text: str) -> None:
        self._write(f"--- {time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n".encode())

    def pump(self, pipe: IO[bytes]) -> None:
        """Until the server's end: it must never wait for somebody to read what it says."""
        self.note("started")
        while line := pipe.readline(_LONGEST_LINE):
            self._write(line)
            self._lines.append(line.decode("utf-8", "replace").rstrip())

    def last(self) -> tuple[str, ...]:
        return tuple(self._lines)[-_SHOWN_LINES:]

    def complaint(self) -> str:
        """The first error in the log: the ones after it follow from it."""
        for line in self._lines:
            time_and_level = line.split(" E ", 1)
            if len(time_and_level) == 2:
                return time_and_level[1].strip()
        return ""

    def _write(self, line: bytes) -> None:
        # A full disk must not stop the pump: the server would wait for it for ever.
        with contextlib.suppress(OSError):
            if self._file is None or self._file.tell() >= self._most:
                self._turn()
            assert self._file is not None
            self._file.write(line)
            self._file.flush()

    def _turn(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._path.exists() and self._path.stat().st_size >= self._most:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = open(fd, "ab")  # noqa: SIM115 - kept until the next turn


def _kill(server: subprocess.Popen[bytes]) -> None:
    """It holds nothing that has to be saved."""
    with contextlib.suppress(OSError):
        server.kill()
    server.wait()


#: What a server may need of its first client's environment. Keys and tokens are not among it.
_NEEDED = ("PATH", "HOME", "USER", "LANG", "TMPDIR", "VIRTUAL_ENV")
_NEEDED_PREFIXES = (
    *("CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HSA_", "GGML_", "LLAMA_", "OMP_", "GOMP_"),
    *("VK_", "LD_", "DYLD_", "PYTHON", "LC_"),
)


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in environment.items()
        if name in _NEEDED or name.startswith(_NEEDED_PREFIXES)
    }
    # Threads that spin while they wait for each other need every core to themselves. On a busy
    # machine of two cores that was the difference between 20 and 1,500 tokens a second.
    return {"OMP_WAIT_POLICY": "passive", **kept}


if __name__ == "__main__":
    main()
