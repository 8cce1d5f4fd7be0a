"""One program in a container, and what it prints, from a thread of its own to the event loop.

Invariant: output that nobody has taken yet is bounded; a program that prints faster waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence

from manyhands.errors import SandboxError

from .docker_daemon import ERR, Daemon, Hijacked, failed

#: Pieces of output on their way to the event loop.
ON_THE_WAY = 16
#: Of what a shell itself complains of.
COMPLAINTS = 2000


class Said:
    """Tells what a command printed from what the script around it says: the rest of the line after
    a zero byte and a word. ``words``: what it said, once it did."""

    def __init__(self, word: str) -> None:
        self._mark = b"\0" + word.encode() + b" "
        self._held = b""
        self._found = False
        self.words: list[str] | None = None

    def printed(self, data: bytes) -> bytes:
        """What of this (and of what was held back before) the command has printed."""
        if self.words is not None:
            return b""
        data = self._held + data
        self._held = b""
        if not self._found:
            before, mark, data = data.partition(self._mark)
            if not mark:
                keep = self._begun(before)
                self._held = before[len(before) - keep :]
                return before[: len(before) - keep]
            self._found = True
        else:
            before = b""
        line, end, _ = data.partition(b"\n")
        if end:
            self.words = line.decode(errors="replace").split(" ")
        else:
            self._held = data
        return before

    def _begun(self, data: bytes) -> int:
        """How many bytes at the end may be the beginning of the mark."""
        for size in range(min(len(self._mark) - 1, len(data)), 0, -1):
            if self._mark.startswith(data[-size:]):
                return size
        return 0

    def rest(self) -> bytes:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, b""
        return held


class Exchange:
    """``on_data`` is called in the event loop. After `run`, ``complaints`` is what the container's
    shell or Docker itself printed."""

    def __init__(
        self,
        daemon: Daemon,
        container: str,
        argv: Sequence[str],
        on_data: Callable[[bytes], None],
        user: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._daemon = daemon
        self._container = container
        self._argv = list(argv)
        self._env = dict(env or {})
        self._user = user
        self._on_data = on_data
        self._word = secrets.token_hex(16)
        self._said = Said(self._word)
        self._room = threading.Semaphore(ON_THE_WAY)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._connection: Hijacked | None = None
        self._over = False
        self.complaints = b""

    async def run(self) -> list[str] | None:
        """What the script said at its end; None: it ended, or was lost, without a word. Raises
        SandboxError where it could not be started."""
        threading.Thread(target=self._work, daemon=True, name="docker-exchange").start()
        try:
            await asyncio.shield(self._ended)
        finally:
            self.cut()
        return self._said.words

    def cut(self) -> None:
        """End the connection, whatever becomes of the program."""
        self._over = True
        self._room.release()
        if self._connection is not None:
            self._connection.shut()

    # ------------------------------------------------------------ in the thread

    def _work(self) -> None:
        error: SandboxError | None = None
        try:
            self._connection = self._begin()
        except Exception as raised:
            error = failed(raised)
        else:
            with contextlib.suppress(OSError):
                self._follow(self._connection)
            self._connection.close()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._end, error)

    def _begin(self) -> Hijacked:
        api = self._daemon.api
        made = api.exec_create(
            self._container,
            self._argv,
            stdin=True,
            stdout=True,
            stderr=True,
            environment=self._env,
            user=self._user,
            workdir="/",
        )
        connection = Hijacked(api.exec_start(made["Id"], socket=True))
        connection.send(self._word.encode() + b"\n")
        return connection

    def _follow(self, connection: Hijacked) -> None:
        for stream, data in connection.frames():
            self._room.acquire()
            if self._over:
                return
            self._loop.call_soon_threadsafe(self._receive, stream, data)

    # ------------------------------------------------------------ in the event loop

    def _receive(self, stream: int, data: bytes) -> None:
        self._room.release()
        if stream == ERR:
            self.complaints = (self.complaints + data)[-COMPLAINTS:]
            return
        if printed := self._said.printed(data):
            self._on_data(printed)
        if self._said.words is not None:
            self._end(None)

    def _end(self, error: SandboxError | None) -> None:
        if self._ended.done():
            return
        if rest := self._said.rest():
            self._on_data(rest)
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
