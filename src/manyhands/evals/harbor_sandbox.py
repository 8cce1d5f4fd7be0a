"""Sandboxes inside of an environment that Harbor has made: copies of its working folder.

The environment is what isolates. Within it, sandboxes are only as far apart as their folders are:
`capabilities` says so. Nothing is installed; a shell and the tools of GNU must be there.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shlex
import tempfile
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from manyhands.errors import SandboxError, SandboxRefused
from manyhands.ports import Capabilities, Enforced, ExecResult, Killed, SandboxLimits
from manyhands.wiring.sandboxes import (
    CopiedSandbox,
    begin_at,
    checked,
    exit_code,
    missing_tools,
    no_folder,
    seconds_of,
)

from . import harbor_scripts as scripts

#: A file up to this size travels in a command.
INLINE = 48_000
#: What a command may take beyond its own limit, for starting it and fetching its output.
GRACE = 60
UNLIMITED = "not limited by Manyhands; as the environment limits it"


class Outcome(Protocol):
    @property
    def stdout(self) -> str | None: ...
    @property
    def stderr(self) -> str | None: ...
    @property
    def return_code(self) -> int: ...


class HarborEnvironment(Protocol):
    """Of Harbor's ``BaseEnvironment``, what is needed here."""

    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
    ) -> Outcome: ...

    async def upload_file(self, source_path: Path | str, target_path: str) -> None: ...


@dataclass(slots=True)
class HarborSandboxes:
    """Implements ``ports.Sandboxes``, and the environment of their copies.

    ``base`` is a folder in the environment; only its working folder can be opened. ``mounts``: how
    a command sees its copy at the place of the original; empty where the environment does not allow
    that. Then (``renames``) the copy is put there for the time of a command, one command at a time;
    where not even that is allowed, absolute paths lead to the original.
    """

    environment: HarborEnvironment
    workdir: str
    folder: str
    mounts: tuple[str, ...]
    renames: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    itself: HarborSandbox = field(init=False)

    def __post_init__(self) -> None:
        """``itself``: the working folder, not a copy of it."""
        states = f"{self.folder}/itself"
        self.itself = HarborSandbox(
            self, self.workdir, states, SandboxLimits(), True, "", original=True
        )

    @classmethod
    @asynccontextmanager
    async def over(cls, environment: HarborEnvironment) -> AsyncGenerator[HarborSandboxes]:
        """Raises SandboxError where the environment lacks a tool."""
        folder = f"/tmp/manyhands-{uuid.uuid4().hex[:12]}"
        workdir = ((await environment.exec("pwd -P")).stdout or "").strip()
        if not workdir.startswith("/") or workdir == "/":
            raise SandboxError(
                f"the environment's working folder is {workdir!r}, which cannot be copied",
                next="give the task a WORKDIR",
            )
        made = cls(environment, workdir, folder, ())
        try:
            if missing := await missing_tools(made):
                raise SandboxError(
                    f"the environment has no {missing}",
                    next="install util-linux, findutils and coreutils in the task's image",
                )
            found = (await made.run(scripts.PROBE, f"{folder}/probe", workdir)).strip().split()
            if found[:1] == ["mounts"]:
                made.mounts = ("unshare", *found[1:])
            made.renames = found == ["renames"]
            await made.itself.copy(workdir, f"{folder}/start")
            yield made
        finally:
            await asyncio.shield(environment.exec(f"rm -rf -- {folder}"))

    @property
    def capabilities(self) -> Capabilities:
        apart = bool(self.mounts) or self.renames
        seen = "each command sees its copy at the original's place; the rest is shared"
        unseen = "copies lie side by side: absolute paths lead to the original"
        return Capabilities(
            "harbor",
            (
                Enforced("files", False, seen if apart else unseen),
                Enforced("memory", False, UNLIMITED),
                Enforced("processes", False, UNLIMITED),
                Enforced("disk", False, UNLIMITED),
                Enforced("network", False, "as Harbor's environment has it"),
                Enforced("time", True, "each command's group of processes is ended"),
            ),
            ("isolation is that of Harbor's environment; its sandboxes are copies of a folder",),
        )

    async def run(self, script: str, *arguments: str, seconds: float = 600) -> str:
        """A script's standard output. Raises SandboxError where it fails.

        It waits while a copy is not at its own place.
        """
        async with self.turn if self.renames else contextlib.nullcontext():
            return await self.run_now(script, *arguments, seconds=seconds)

    @asynccontextmanager
    async def in_place(self, folder: str) -> AsyncGenerator[None]:
        """The copy ``folder`` stands where the original does, and nothing else is looked at."""
        async with self.turn:
            moved = asyncio.create_task(self.run_now(scripts.IN, folder, self.workdir))
            try:
                await asyncio.shield(moved)
                yield
            finally:
                await asyncio.shield(asyncio.create_task(self._back(moved, folder)))

    async def _back(self, moved: asyncio.Task[str], folder: str) -> None:
        """Whatever became of the command, and however soon it was given up."""
        with contextlib.suppress(SandboxError):
            await moved
            await self.run_now(scripts.OUT, folder, self.workdir)

    async def run_now(self, script: str, *arguments: str, seconds: float = 600) -> str:
        command = shlex.join(["sh", "-c", script, "sh", *arguments])
        done = await self.environment.exec(command, cwd="/", timeout_sec=int(seconds) + GRACE)
        if done.return_code != 0:
            told = (done.stderr or done.stdout or "").strip()[-300:]
            raise SandboxError(
                f"the environment's shell failed with {done.return_code}: {told}",
                next="is the environment still running?",
            )
        return done.stdout or ""

    async def upload(self, data: bytes, target: str) -> None:
        if len(data) <= INLINE:
            script = 'mkdir -p -- "$(dirname -- "$1")" && printf %s "$2" | base64 -d > "$1"'
            await self.run(script, target, base64.b64encode(data).decode())
            return
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            await self.run('mkdir -p -- "$(dirname -- "$1")"', target)
            await self.environment.upload_file(file.name, target)

    @asynccontextmanager
    async def open(
        self,
        base: Path,
        *,
        writable: bool = True,
        limits: SandboxLimits | None = None,
        env: Mapping[str, str] | None = None,
        readable: Sequence[Path] = (),
        place: str | None = None,
        scratch: Sequence[str] = (),
    ) -> AsyncGenerator[HarborSandbox]:
        """See ``ports.Sandboxes``; what is readable is so anyway."""
        if {str(base), place or str(base)} != {self.workdir}:
            raise SandboxError(
                f"only {self.workdir} of the environment can be opened, not {base}",
                next="open that folder, at its own place",
            )
        refuse_scratch(scratch)
        made = self.made(limits or SandboxLimits(), writable, f"{self.folder}/start", env or {})
        async with made.filled():
            yield made

    def made(
        self, limits: SandboxLimits, writable: bool, start: str, env: Mapping[str, str]
    ) -> HarborSandbox:
        """One whose folder is not there yet. ``start`` '': beside it."""
        states = f"{self.folder}/{uuid.uuid4().hex[:8]}"
        start = start or f"{states}/start"
        return HarborSandbox(self, f"{states}/work", states, limits, writable, start, env)


def refuse_scratch(scratch: Sequence[str] | None) -> None:
    if scratch:
        raise SandboxRefused(
            f"there is no scratch folder at {scratch[0]} in Harbor's environment",
            next="use a folder of the workspace",
        )


@dataclass(eq=False)
class HarborSandbox(CopiedSandbox[HarborSandboxes]):
    """Implements ``ports.Sandbox``. A program's exit code of 128 + N reads as signal N, for the
    shell does not tell them apart; output comes to ``on_output`` at the end; only ``seconds`` of
    the limits is enforced.
    """

    count = scripts.COUNT
    end = scripts.END

    env: Mapping[str, str] = field(default_factory=dict[str, str])
    original: bool = False
    _commands: set[str] = field(default_factory=set[str])

    @property
    def workspace(self) -> str:
        apart = self.environment.mounts or self.environment.renames or self.original
        return self.environment.workdir if apart else self.folder

    @asynccontextmanager
    async def filled(self) -> AsyncGenerator[None]:
        """While it is open; its start is copied into it."""
        try:
            await self.copy(self.start, self.folder)
            yield
        finally:
            await asyncio.shield(asyncio.create_task(self.close()))

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
        argv = checked(command)
        place = begin_at(self.workspace, cwd)
        seconds = seconds_of(self.limits, timeout)
        variables = [f"{name}={value}" for name, value in {**self.env, **(env or {})}.items()]
        inner = ["env", *variables, *argv]
        begin = place
        if self.environment.mounts and not self.original:
            bind = 'mount --bind -- "$1" "$2" && cd -- "$3" && shift 3 && exec "$@"'
            inner = [
                *self.environment.mounts,
                "sh",
                "-c",
                bind,
                "sh",
                self.folder,
                self.workspace,
                place,
                *inner,
            ]
            begin = "/"
        async with self._turns.command():
            text = await self._command(inner, begin, seconds, background=background, stdin=stdin)
            if text.startswith("refused"):
                raise no_folder(cwd)
            result = self._result(text, background, on_output)
        if result.code in (126, 127) and result.output.startswith(b"env: "):
            told = result.output.decode(errors="replace").strip()[-200:]
            raise SandboxError(f"{argv[0]!r} could not be started: {told}", next="is it installed?")
        return result

    async def _command(
        self, argv: list[str], begin: str, seconds: float, *, background: bool, stdin: bytes
    ) -> str:
        """What `scripts.EXEC` printed. Cancelled, the command is ended first."""
        folder = f"{self.environment.folder}/command-{uuid.uuid4().hex[:8]}"
        if stdin:
            await self.environment.upload(stdin, f"{folder}/in")
        self._commands.add(folder)
        shown = self.limits.shown_kb * 512
        order = (folder, begin, f"{seconds:.3f}", str(int(background)), str(shown), *argv)
        try:
            async with self._at_place():
                self._turns.refuse_closed()
                return await self._ended(folder, order, seconds)
        finally:
            self._commands.discard(folder)

    def _at_place(self) -> AbstractAsyncContextManager[None]:
        if not self.environment.renames:
            return contextlib.nullcontext()
        return self.environment.turn if self.original else self.environment.in_place(self.folder)

    async def _ended(self, folder: str, order: tuple[str, ...], seconds: float) -> str:
        work = asyncio.create_task(self.environment.run_now(scripts.EXEC, *order, seconds=seconds))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.shield(self.environment.run_now(scripts.KILL, folder))
            with contextlib.suppress(Exception):
                await asyncio.shield(work)
            raise

    def _result(
        self, text: str, background: bool, on_output: Callable[[bytes], None] | None
    ) -> ExecResult:
        numbers, head, tail, *_ = [*text.split("\n"), "", ""]
        code, size, left, late, took, group = map(int, numbers.split())
        first, last = base64.b64decode(head), base64.b64decode(tail)
        omitted = size - len(first) - len(last)
        gap = b"\n... %d bytes left out ...\n" % omitted if omitted else b""
        output = first + gap + last
        if background and left:
            self._left.append((str(group),))
        if on_output is not None and output:
            on_output(output)
        return ExecResult(
            code=exit_code(code),
            output=output,
            omitted=omitted,
            seconds=took / 1000,
            killed=Killed.TIME if late else None,
            detail="the time limit" if late else "",
            survivors=left,
        )

    # ------------------------------------------------------------ states

    @asynccontextmanager
    async def fork(
        self,
        *,
        writable: bool = True,
        limits: SandboxLimits | None = None,
        scratch: Sequence[str] | None = None,
    ) -> AsyncGenerator[HarborSandbox]:
        """See ``ports.Sandbox``."""
        refuse_scratch(scratch)
        child = self.environment.made(limits or self.limits, writable, "", self.env)
        async with self.still():
            await self.copy(self.folder, child.start)
        async with child.filled():
            yield child

    async def close(self) -> None:
        """See ``ports.Sandbox``."""
        if self._turns.closed or self.original:
            return
        self._turns.closed = True
        for folder in list(self._commands):
            await self.environment.run_now(scripts.KILL, folder)
        await self._turns.idle()
        await self.end_background()
        await self.environment.run('rm -rf -- "$1"', self.states)
