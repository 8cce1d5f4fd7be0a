"""A tool server as a child process, below its keeper.

Invariants: of this program's environment it sees what `INHERITED` lists and what was named for it,
nothing else; its standard error is always read, and the end of it kept; once `stop` returns,
nothing of its process group lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

from manyhands.adapters.tool_servers import keeper
from manyhands.adapters.tool_servers.places import Program
from manyhands.errors import ToolServerError

#: What programs need to find other programs, their user's files and language. No keys.
INHERITED = (
    *("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER"),
    *("LANG", "LC_ALL", "LC_CTYPE", "TZ"),
)
#: The longest line (one message) that is taken, and how much of standard error is kept; in bytes.
MOST_LINE = 16_000_000
TAIL = 2_000
_PATIENCE = keeper.PATIENCE + keeper.LAST_PATIENCE + 2.0
_POLL = 0.01
_LAST_WORDS = 0.2


class Child:
    """One process of a server. ``lost`` is set when it can no longer be spoken to."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._pipes: list[asyncio.BaseTransport] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._life: socket.socket | None = None
        self._tail = bytearray()
        self._stdin: asyncio.StreamWriter | None = None
        self._told = b""
        self.lost = asyncio.Event()
        #: Why it is not spoken to any more, where that was decided here.
        self.fault = ""

    async def start(self) -> None:
        """Raises `ToolServerError` where there is no such program."""
        command = [_path(self._program), *self._program.args]
        self._life, theirs = socket.socketpair()
        self._life.setblocking(False)
        with theirs:
            self._process = _started(command, self._program, theirs)
        self._tasks.append(asyncio.create_task(self._live()))
        streams = self._process
        assert streams.stdin is not None
        assert streams.stdout is not None
        assert streams.stderr is not None
        self._stdout = await self._readable(streams.stdout)
        stderr = await self._readable(streams.stderr)
        self._tasks.append(asyncio.create_task(self._keep(stderr)))
        self._stdin = await self._writable(streams.stdin)

    async def _readable(self, pipe: IO[bytes]) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=MOST_LINE)
        loop = asyncio.get_running_loop()
        made, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        self._pipes.append(made)
        return reader

    async def _writable(self, pipe: IO[bytes]) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        # Of this protocol only the flow control is used.
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        made, _ = await loop.connect_write_pipe(lambda: protocol, pipe)
        self._pipes.append(made)
        return asyncio.StreamWriter(made, protocol, None, loop)

    async def line(self) -> bytes:
        """The next line of its standard output; nothing at its end, or where one is too long."""
        try:
            return await self._stdout.readline()
        except ValueError:
            self.fault = f"it said more than {MOST_LINE:,} bytes in one message"
            return b""

    async def send(self, line: bytes) -> None:
        """Raises OSError where it does not listen any more."""
        assert self._stdin is not None
        self._stdin.write(line + b"\n")
        await self._stdin.drain()

    def told(self) -> str:
        """What became of it, and the end of its standard error, for an error's text."""
        said = bytes(self._tail).decode("utf-8", "replace").strip()
        parts = [self.fault or self._ending(), f"it said last:\n{said}" if said else ""]
        return "; ".join(part for part in parts if part)

    def _ending(self) -> str:
        _, *code = self._numbers() or [0]
        if not code:
            return ""
        if code[0] >= 0:
            return f"it ended with code {code[0]}"
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(-code[0]).name}"
        return f"it was ended by signal {-code[0]}"

    def _numbers(self) -> list[int]:
        """What the keeper told: the process group, and once it is over, how it ended."""
        return [int(number) for number in self._told.split()]

    async def stop(self) -> None:
        """Ask it to end, and see to it: closing its standard input is how a server is asked.

        Nothing here waits for another task: when a loop shuts down, they are all cancelled.
        """
        process, life = self._process, self._life
        if life is None:
            return
        if process is None:
            life.close()
            return
        if self._stdin is not None:
            self._stdin.close()
        with contextlib.suppress(OSError):
            life.shutdown(socket.SHUT_WR)  # the keeper does the rest
        waited = 0.0
        while process.poll() is None and waited < _PATIENCE:
            await asyncio.sleep(_POLL)
            waited += _POLL
        process.kill()
        process.wait()
        await self._listen_out(life)
        self._end_orphans()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in (*self._pipes, process.stdin, process.stdout, process.stderr, life):
            if each is not None:
                each.close()

    async def _listen_out(self, life: socket.socket) -> None:
        """What was said last is in the pipes. They end, unless somebody left the group."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS)
        with contextlib.suppress(OSError):
            self._told += life.recv(64)

    def _end_orphans(self) -> None:
        """Where the keeper itself was killed, its work is done here."""
        numbers = self._numbers()
        if len(numbers) == 1:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(numbers[0], signal.SIGKILL)

    async def _live(self) -> None:
        """Until the keeper is gone."""
        assert self._life is not None
        with contextlib.suppress(OSError):
            while said := await asyncio.get_running_loop().sock_recv(self._life, 64):
                self._told += said
        self.lost.set()

    async def _keep(self, stderr: asyncio.StreamReader) -> None:
        while piece := await stderr.read(65_536):
            self._tail = (self._tail + piece)[-TAIL:]


def _path(program: Program) -> str:
    """The absolute path of its command. Raises `ToolServerError`."""
    name = program.command
    if os.sep in name:
        place = str(Path(program.cwd or ".", Path(name).expanduser()).absolute())
        found, searched = shutil.which(place), place
    else:
        searched = f"PATH {os.environ.get('PATH', os.defpath)}"
        found = shutil.which(name)
    if found is None:
        raise ToolServerError(
            f"its command {name!r} is not there, or cannot be executed (looked at {searched})",
            next="install it, or correct `command` in manyhands.toml",
        )
    return os.path.abspath(found)


def _started(command: list[str], program: Program, life: socket.socket) -> subprocess.Popen[bytes]:
    env = {name: value for name, value in os.environ.items() if name in INHERITED}
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(life.fileno()), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=env | dict(program.env),
            cwd=program.cwd,
            pass_fds=[life.fileno()],
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise ToolServerError(
            f"it cannot be started in {program.cwd or Path.cwd()}: {error}",
            next="correct `cwd`, `args` and `env` in manyhands.toml",
        ) from error
