"""Connections to a host, through the system's own ``ssh``: the user's configuration, agent, keys
and jump hosts are those of every day.

Invariants: a host is never taken for another (its key is checked, whatever the configuration says),
no question is asked of a person who is not there, and nothing is forwarded to the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import shutil
import weakref
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhands import published
from manyhands.adapters.jobs import ssh_far
from manyhands.adapters.jobs.away import Dropped
from manyhands.adapters.jobs.local import make_scratch
from manyhands.errors import ConfigError, JobError, JobsHalted
from manyhands.isolation.endings import remove

_TARGET = re.compile(
    r"(?:(?P<user>[\w.][\w.-]*)@)?"
    r"(?P<host>[A-Za-z0-9][\w.-]*|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>\d{1,5}))?"
)
_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RequestTTY=no",
    "ConnectTimeout=15",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "LogLevel=ERROR",
)
#: Two files as one text: the host has no Manyhands.
_SCRIPT = """
import sys, types
if sys.version_info < (3, 11):
    print({mark!r} + '{{"error": "its Python is older than 3.11"}}')
    sys.exit()
for name in ("manyhands", "manyhands.published"):
    sys.modules[name] = types.ModuleType(name)
exec({published!r}, sys.modules["manyhands.published"].__dict__)
exec({far!r})
"""
#: Reads what it is to run before it reads what that is to read.
_BOOT = "import sys;i=sys.stdin.buffer;exec(i.read(int(i.readline())))"
#: Of the ways in which ``ssh`` itself fails, those that no other try mends.
_LASTING = (
    (r"host key verification failed|host key .* changed|no .* host key is known", "HOSTKEY"),
    (r"permission denied|too many authentication failures|no such identity", "KEY"),
    (r"bad configuration|bad port|can't open user config|bad owner", "CONFIG"),
)
_NEXT = {
    "HOSTKEY": "see that the host is the one that you mean: ssh {} once by hand checks and "
    "keeps its key",
    "KEY": "let your key in there without a question: ssh-copy-id {}, and ssh-add for one with "
    "a passphrase",
    "CONFIG": "mend the configuration of ssh",
}
#: Characters of a folder in which the kernel still lets ``ssh`` have a socket.
_LONGEST_FOLDER = 45
#: Seconds of one exchange, but for what it sends.
_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Target:
    """``[USER@]HOST[:PORT]``. ``config``: a file for ``ssh -F`` ('': the user's own)."""

    name: str
    user: str = ""
    port: int | None = None
    config: str = ""

    @classmethod
    def parse(cls, text: str, config: str = "") -> Target:
        """Raises `ConfigError`."""
        found = _TARGET.fullmatch(text)
        if found is None or int(found["port"] or 1) not in range(1, 65536):
            raise ConfigError(
                f"{text!r} names no host",
                next="write ssh:HOST, ssh:USER@HOST or ssh:USER@HOST:PORT",
            )
        port = int(found["port"]) if found["port"] else None
        return cls(found["host"].strip("[]"), found["user"] or "", port, config)

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.name}" + (f":{self.port}" if self.port else "")

    @property
    def by_hand(self) -> str:
        """As a person types it."""
        config = f"-F {shlex.quote(self.config)} " if self.config else ""
        port = f"-p {self.port} " if self.port else ""
        return f"{config}{port}" + (f"{self.user}@" if self.user else "") + self.name


class Line:
    """The way to run one of `ssh_far`'s verbs on a host. ``python``: 3.11 or newer, there."""

    def __init__(self, target: Target, python: str = "python3", place: str = "") -> None:
        self._target = target
        self._python = python
        self._place = place or "~/.cache/manyhands"
        self._sockets = ""
        # A server lets in only so many at once that have not shown their keys yet.
        self._knocking = asyncio.Semaphore(4)

    async def ask(self, verb: str, *words: str, data: bytes = b"", seconds: float = 0.0) -> Any:
        """The answer. Raises `Dropped`; `JobError` for what no other try mends."""
        seconds = _SECONDS + seconds + len(data) / 100_000
        async with self._knocking:
            process = await self._open(verb, words)
            try:
                async with asyncio.timeout(seconds):
                    out, told = await process.communicate(self._script() + data)
            except TimeoutError:
                raise Dropped(
                    f"no end of {verb!r} on {self._target} within {seconds:g} s"
                ) from None
            finally:
                await _end(process)
        return self._answer(process.returncode, out, told)

    def _answer(self, code: int | None, out: bytes, told: bytes) -> Any:
        for line in out.decode("utf-8", "replace").splitlines():
            if line.startswith(ssh_far.MARK):
                found = json.loads(line.removeprefix(ssh_far.MARK))
                if "error" in found:
                    raise JobError(
                        f"{self._target}: {found['error']}",
                        next="mend that there, or name another Python or folder: --job python=…, "
                        "--job folder=…",
                    )
                return found
        raise self._failed(code, told)

    async def follow(self, name: str, offset: int) -> AsyncGenerator[bytes]:
        """Raises `Dropped`."""
        async with self._knocking:
            process = await self._open("follow", (name, str(offset)))
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(self._script())
                await self._greeted(process, process.stdout)
            except BaseException:
                await _end(process)
                raise
        errors = asyncio.create_task(_all_of(process.stderr))
        try:
            while data := await process.stdout.read(1 << 16):
                yield data
            code = await process.wait()
            if code != 0:
                raise self._failed(code, await errors)
        finally:
            await _end(process)
            await asyncio.wait([errors])

    async def _greeted(
        self, process: asyncio.subprocess.Process, out: asyncio.StreamReader
    ) -> None:
        """Past whatever the login shell has to say."""
        try:
            async with asyncio.timeout(_SECONDS):
                while line := await out.readline():
                    if line.startswith(ssh_far.MARK.encode()):
                        if b'"error"' in line:
                            raise Dropped(line.decode("utf-8", "replace").strip())
                        return
                told = await _all_of(process.stderr)
        except TimeoutError:
            raise Dropped(f"{self._target} does not answer") from None
        except (ValueError, ConnectionError) as error:
            raise Dropped(f"{self._target}: {error}") from error
        raise self._failed(await process.wait(), told)

    # ---------------------------------------------------------------- ssh

    def _script(self) -> bytes:
        texts = {m.__name__: Path(str(m.__file__)).read_text("utf-8") for m in (published, ssh_far)}
        script = _SCRIPT.format(
            mark=ssh_far.MARK, published=texts[published.__name__], far=texts[ssh_far.__name__]
        ).encode()
        return f"{len(script)}\n".encode() + script

    async def _open(self, verb: str, words: tuple[str, ...]) -> asyncio.subprocess.Process:
        program = shutil.which("ssh")
        if program is None:
            raise ConfigError("there is no ssh on the PATH", next="install OpenSSH's client")
        try:
            return await asyncio.create_subprocess_exec(
                program,
                *self._arguments(),
                self._command(verb, words),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C is for us alone
            )
        except OSError as error:
            raise Dropped(f"ssh could not be started: {error}") from error

    def _arguments(self) -> list[str]:
        target = self._target
        found = ["-F", target.config] if target.config else []
        options = [*_OPTIONS, *self._one_connection()]
        found += [word for option in options for word in ("-o", option)]
        if target.port:
            found += ["-p", str(target.port)]
        if target.user:
            found += ["-l", target.user]
        return [*found, "--", target.name]

    def _one_connection(self) -> tuple[str, ...]:
        """What we ask one after the other goes through one connection, which ends by itself."""
        if not self._sockets:
            self._sockets = str(make_scratch())
            weakref.finalize(self, remove, Path(self._sockets))
        if len(self._sockets) > _LONGEST_FOLDER:
            return ()
        return ("ControlMaster=auto", "ControlPersist=30", f"ControlPath={self._sockets}/%C")

    def _command(self, verb: str, words: tuple[str, ...]) -> str:
        """For the login shell of the host, whichever it is: in all of them quotes mean the same."""
        python = shlex.quote(self._python)
        if self._python.startswith("~/"):
            python = '"$HOME"/' + shlex.quote(self._python[2:])
        quoted = " ".join(map(shlex.quote, (verb, self._place, *words)))
        return f"exec {python} -c '{_BOOT}' {quoted}"

    def _failed(self, code: int | None, told: bytes) -> Exception:
        said = " ".join(told.decode("utf-8", "replace").split())[-600:] or "it said nothing"
        what = f"{self._target}: {said}"
        if code == 255:
            for pattern, kind in _LASTING:
                if re.search(pattern, said, re.IGNORECASE):
                    return JobsHalted(what, next=_NEXT[kind].format(self._target.by_hand))
            return Dropped(what)
        if code in (126, 127):
            return JobError(what, next="name the host's Python: --job python=/path/to/python3")
        return Dropped(f"{what} (code {code})")


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    return await stream.read(64_000) if stream is not None else b""


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()
    transport: Any = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()
