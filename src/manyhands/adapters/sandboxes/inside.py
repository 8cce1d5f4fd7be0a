"""Files and states of a sandbox whose folders only commands can reach: copies, compared by scripts.

What runs the commands is an `Environment`: a container, or whatever somebody else has made. It is
what isolates. Nothing is installed in it; a shell and the tools of GNU must be there.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar

from manyhands.errors import SandboxError, SandboxMissing, SandboxRefused
from manyhands.ports import Change, FileSlice, SandboxLimits, Snapshot

from . import inside_scripts as scripts
from .manifest import Entry, changes, fits, read_manifest
from .rules import Turns, no_snapshot, only_reads, runnable

#: Programs that the scripts need, beside a shell.
TOOLS = "setsid find sha256sum realpath base64 xargs stat sed"
#: bash where there is one, as elsewhere.
SHELL = ("sh", "-c", 'command -v bash >/dev/null && exec bash -c "$1"; exec sh -c "$1"', "sh")


class Environment(Protocol):
    """Where the copies lie."""

    async def run(self, script: str, *arguments: str, seconds: float = 600) -> str:
        """A script's standard output. Raises SandboxError where it fails."""
        ...

    async def upload(self, data: bytes, target: str) -> None:
        """Make a file; ``target`` is an absolute path, its folder is made."""
        ...


E = TypeVar("E", bound=Environment)


@dataclass(eq=False)
class CopiedSandbox(Generic[E]):
    """All of ``ports.Sandbox`` but commands and forks, which who inherits has to offer.

    ``folder``: the present state. ``start``: a copy of the folder at its start, to compare with.
    ``states``: where snapshots are kept, and files on their way. Commands can reach all of them,
    unless the environment prevents it.

    ``_left``: by which words the scripts find what commands left to go on, for each of these.
    """

    #: Scripts that are given what ``_left`` holds: how many processes that has; and end these.
    count: ClassVar[str]
    end: ClassVar[str]

    environment: E
    folder: str
    states: str
    limits: SandboxLimits
    writable: bool
    start: str
    _snapshots: int = field(default=0, init=False)
    _uploads: int = field(default=0, init=False)
    _turns: Turns = field(default_factory=Turns, init=False)
    _left: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]], init=False)

    async def end_background(self) -> int:
        """See ``ports.Sandbox``."""
        left, self._left = self._left, []
        return await self._processes(self.end, left)

    async def _processes(self, script: str, left: list[tuple[str, ...]]) -> int:
        words = [word for each in left for word in each]
        return int(await self.environment.run(script, *words)) if words else 0

    # ------------------------------------------------------------ files

    async def read(
        self, path: str, offset: int = 0, limit: int | None = None, *, at: Snapshot | None = None
    ) -> FileSlice:
        """See ``ports.Sandbox``."""
        self._turns.refuse_closed()
        offset = max(0, offset)
        arguments = (self._state(at), inner(path), str(offset), str(-1 if limit is None else limit))
        answer, _, data = (await self.environment.run(scripts.READ, *arguments)).partition("\n")
        _refuse(answer, path)
        _, size, mode = answer.split()
        return FileSlice(base64.b64decode(data), offset, int(size), int(mode, 8))

    async def write(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """See ``ports.Sandbox``."""
        self._refuse_read_only(path)
        where = inner(path)
        self._uploads += 1
        beside = f"{self.states}/file-{self._uploads}"
        await self.environment.upload(data, beside)
        wanted = "" if mode is None else f"{mode & 0o777:o}"
        answer = await self.environment.run(scripts.WRITE, self.folder, where, beside, wanted)
        _refuse(answer.strip(), path)

    async def delete(self, path: str) -> None:
        """See ``ports.Sandbox``."""
        self._refuse_read_only(path)
        answer = await self.environment.run(scripts.DELETE, self.folder, inner(path))
        _refuse(answer.strip(), path)

    async def glob(self, pattern: str = "**/*", limit: int = 10_000) -> list[str]:
        """See ``ports.Sandbox``."""
        self._turns.refuse_closed()
        parts = [part for part in inner(pattern).split("/") if part not in ("", ".")]
        if ".." in parts:
            raise SandboxRefused(f"{pattern!r} leads out of the workspace", next="leave out ..")
        listed = await self.environment.run(scripts.LISTING, self.folder)
        entries = read_manifest(listed)
        found = [p for p, e in entries.items() if e.kind in "fl" and fits(p.split("/"), parts)]
        return sorted(found)[:limit]

    # ------------------------------------------------------------ states

    async def snapshot(self) -> Snapshot:
        """See ``ports.Sandbox``."""
        async with self.still():
            self._snapshots += 1
            await self.copy(self.folder, self._state(Snapshot(self._snapshots)))
            return Snapshot(self._snapshots)

    async def diff(self, since: Snapshot | None = None) -> tuple[Change, ...]:
        """See ``ports.Sandbox``."""
        self._turns.refuse_closed()
        if not self.writable:
            return ()
        old = await self._entries(self._state(since or Snapshot(0)))
        return tuple(changes(old, await self._entries(self.folder)))

    async def copy(self, source: str, target: str) -> None:
        """A folder with all that is in it, within the environment."""
        await self.environment.run(scripts.COPY, source, target)

    async def _entries(self, folder: str) -> dict[str, Entry]:
        return read_manifest(await self.environment.run(scripts.MANIFEST, folder))

    def _state(self, at: Snapshot | None) -> str:
        if at is None:
            return self.folder
        if not 0 <= at.number <= self._snapshots or (at.number == 0 and not self.start):
            raise no_snapshot(at.number)
        return self.start if at.number == 0 else f"{self.states}/snapshot-{at.number}"

    # ------------------------------------------------------------ refusals

    @asynccontextmanager
    async def still(self) -> AsyncGenerator[None]:
        """While a state is kept. Raises SandboxBusy if a command runs, or has left something."""
        async with self._turns.state():
            asked = list(self._left)
            if not await self._processes(self.count, asked):
                self._left = [each for each in self._left if each not in asked]
            self._turns.refuse_busy(len(self._left))
            yield

    def _refuse_read_only(self, path: str) -> None:
        self._turns.refuse_closed()
        if not self.writable:
            raise only_reads(path)


def _refuse(answer: str, path: str) -> None:
    if answer == "missing":
        raise SandboxMissing(f"there is no file {path[:200]!r}", next="look with glob")
    if answer == "refused":
        raise SandboxRefused(
            f"{path[:200]!r} leads out of the workspace, or is no regular file",
            next="name a file of the workspace",
        )
    if not answer.startswith("ok"):
        raise SandboxError(f"{path[:200]!r} could not be written", next="is the disk full?")


def inner(path: str) -> str:
    """A path below the workspace, for a shell that resolves it there."""
    if path.startswith("/") or "\0" in path or len(path) > 4000:
        raise SandboxRefused(
            f"{path[:200]!r} is no path of the workspace", next="use a relative one"
        )
    return path


def begin_at(workspace: str, cwd: str) -> str:
    """The absolute path of a folder of the workspace. Raises SandboxRefused."""
    if cwd.startswith("/") or ".." in cwd.split("/"):
        raise SandboxRefused(f"{cwd!r} leads out of the workspace", next="name a folder in it")
    return "/".join([workspace, *[part for part in cwd.split("/") if part not in ("", ".")]])


def checked(command: str | Sequence[str]) -> list[str]:
    """What is run: text by bash where there is one, as elsewhere. Raises SandboxRefused for what
    no program can be given."""
    return runnable([*SHELL, command] if isinstance(command, str) else list(command))


def no_folder(cwd: str) -> SandboxMissing:
    return SandboxMissing(f"there is no folder {cwd!r}", next="make it first")


def exit_code(code: int) -> int:
    """As ``ports.ExecResult`` has it: of what signal N ended, a shell says 128 + N."""
    return 128 - code if 128 < code < 160 else code


async def missing_tools(environment: Environment, *more: str) -> str:
    """Of those that the scripts here need, and of ``more``."""
    return (await environment.run(scripts.MISSING, *TOOLS.split(), *more)).strip()
