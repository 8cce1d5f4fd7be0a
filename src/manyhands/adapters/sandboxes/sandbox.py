"""One sandbox: commands and files over one workspace, whatever that is made of.

Invariants: files are only reached below the workspace's open folder; nothing that a command of a
sandbox that is not writable does reaches `diff`; after `close` nothing runs and nothing is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar

from manyhands.isolation.endings import finish
from manyhands.ports import Change, ExecResult, FileSlice, SandboxLimits, Snapshot

from . import beneath, files, tree
from .rules import Turns, only_reads, runnable, seconds_of
from .running import Launch, Running
from .workspaces import Workspace, opened

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """What is to be run, before it is known how: ``cwd`` is an absolute path of the sandbox."""

    argv: list[str]
    cwd: str
    env: Mapping[str, str]
    background: bool


class Launcher(Protocol):
    """How commands are started over a workspace."""

    def place(self, workspace: Workspace) -> str:
        """Where commands find it."""
        ...

    def launch(
        self, workspace: Workspace, command: Command, limits: SandboxLimits
    ) -> AbstractAsyncContextManager[Launch]:
        """What the launch needs stays open until it has happened."""
        ...

    def beside(self, scratch: Sequence[str]) -> Launcher:
        """One that offers these folders beside the workspace, and no others."""
        ...


class WorkspaceSandbox:
    """Implements ``ports.Sandbox``."""

    def __init__(
        self,
        workspace: Workspace,
        launcher: Launcher,
        limits: SandboxLimits,
        *,
        writable: bool,
    ) -> None:
        self._workspace = workspace
        self._launcher = launcher
        self._limits = limits
        self._writable = writable
        self._running: set[Running] = set()
        self._kept: set[Running] = set()
        self._calls: set[asyncio.Task[object]] = set()
        self._turns = Turns()

    @property
    def limits(self) -> SandboxLimits:
        return self._limits

    @property
    def workspace(self) -> str:
        return self._launcher.place(self._workspace)

    @property
    def writable(self) -> bool:
        return self._writable

    # ------------------------------------------------------------ commands

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        on_output: Callable[[bytes], None] | None = None,
        background: bool = False,
    ) -> ExecResult:
        """See ``ports.Sandbox``."""
        argv = runnable(tree.shell(command))
        folder = "/".join([self.workspace, *inner(cwd)])
        limits = self._limits
        seconds = seconds_of(limits, timeout)
        order = Command(argv, folder, env or {}, background)
        async with (
            self._turns.command(),
            self._launcher.launch(self._workspace, order, limits) as launch,
        ):
            disk = await asyncio.to_thread(self._workspace.disk)
            running = Running(launch, limits, seconds, stdin, on_output, disk)
            self._turns.refuse_closed()
            self._running.add(running)
            try:
                result = await running.run()
            finally:
                self._running.discard(running)
            if running.rest is not None:
                self._kept.add(running)
                running.rest.add_done_callback(lambda _: self._kept.discard(running))
        return self._told_if_full(result)

    def _told_if_full(self, result: ExecResult) -> ExecResult:
        if result.detail or self._turns.closed or not self._workspace.full():
            return result
        detail = f"the sandbox's disk is full: the limit is {self._limits.disk_mb} MB"
        return dataclasses.replace(result, detail=detail)

    async def end_background(self) -> int:
        """See ``ports.Sandbox``."""
        ended = await asyncio.gather(*(running.end() for running in list(self._kept)))
        return sum(ended)

    # ------------------------------------------------------------ files

    async def read(
        self, path: str, offset: int = 0, limit: int | None = None, *, at: Snapshot | None = None
    ) -> FileSlice:
        """See ``ports.Sandbox``."""

        def work() -> FileSlice:
            with opened(self._workspace, None if at is None else at.number) as root:
                return files.read(root, path, offset, limit)

        return await self._in_thread(work)

    async def write(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """See ``ports.Sandbox``."""
        self._refuse_read_only(path)

        def work() -> None:
            with opened(self._workspace, None) as root:
                files.write(root, path, data, mode)

        await self._in_thread(work)

    async def delete(self, path: str) -> None:
        """See ``ports.Sandbox``."""
        self._refuse_read_only(path)

        def work() -> None:
            with opened(self._workspace, None) as root:
                files.delete(root, path)

        await self._in_thread(work)

    async def glob(self, pattern: str = "**/*", limit: int = 10_000) -> list[str]:
        """See ``ports.Sandbox``."""

        def work() -> list[str]:
            with opened(self._workspace, None) as root:
                return files.glob(root, pattern, limit)

        return await self._in_thread(work)

    # ------------------------------------------------------------ states

    async def snapshot(self) -> Snapshot:
        """See ``ports.Sandbox``."""
        async with self._still():
            return Snapshot(await self._in_thread(self._workspace.snapshot))

    async def diff(self, since: Snapshot | None = None) -> tuple[Change, ...]:
        """See ``ports.Sandbox``."""
        self._turns.refuse_closed()
        if not self._writable:
            return ()
        number = since.number if since else 0
        found = await self._in_thread(lambda: self._workspace.changes(number))
        return tuple(sorted(found, key=lambda change: change.path))

    @asynccontextmanager
    async def fork(
        self,
        *,
        writable: bool = True,
        limits: SandboxLimits | None = None,
        scratch: Sequence[str] | None = None,
    ) -> AsyncGenerator[WorkspaceSandbox]:
        """See ``ports.Sandbox``."""
        wanted = limits or self._limits
        launcher = self._launcher if scratch is None else self._launcher.beside(scratch)
        async with self._still():
            workspace = await self._in_thread(lambda: self._workspace.fork(wanted))
        child = WorkspaceSandbox(workspace, launcher, wanted, writable=writable)
        try:
            yield child
        finally:
            await child.close()

    async def close(self) -> None:
        """See ``ports.Sandbox``."""
        if self._turns.closed:
            return
        self._turns.closed = True
        for running in list(self._running):
            running.stop()
        await self._turns.idle()
        with contextlib.suppress(Exception):
            await self.end_background()
        if self._calls:
            await asyncio.wait(self._calls)
        await finish(asyncio.create_task(asyncio.to_thread(self._workspace.close)))

    # ------------------------------------------------------------ refusals

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Cancelled, it goes on in its thread, and the close waits for it."""
        self._turns.refuse_closed()
        task = asyncio.create_task(asyncio.to_thread(work))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return await asyncio.shield(task)

    @asynccontextmanager
    async def _still(self) -> AsyncGenerator[None]:
        """Nothing runs, and nothing of this kind is begun twice at once."""
        async with self._turns.state():
            self._turns.refuse_busy(len(self._kept))
            yield

    def _refuse_read_only(self, path: str) -> None:
        if not self._writable:
            raise only_reads(path)


def inner(path: str) -> list[str]:
    """A folder of the workspace; commands may go elsewhere themselves, in their sandbox."""
    parts = beneath.parts_of(path)
    if ".." in parts:
        raise beneath.refused(path, "leads out of the workspace")
    return parts
