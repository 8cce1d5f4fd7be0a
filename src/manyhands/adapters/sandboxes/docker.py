"""Sandboxes for those who have Docker: one container each, from an image that they name.

The kernel of Docker's machine isolates: no network, no capabilities, a root that is read-only. The
workspace is copied into the container, so the daemon may be on another machine.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from manyhands.errors import SandboxError, SandboxRefused
from manyhands.isolation.endings import finish
from manyhands.ports import Capabilities, Enforced, ExecResult, SandboxLimits

from . import docker_scripts as scripts
from . import tree
from .docker_command import Command, Order
from .docker_container import STATES, Container, Form, pack
from .docker_daemon import SECONDS, Daemon, Facts
from .inside import CopiedSandbox, begin_at, checked
from .linux import place_of, real_folder
from .rules import seconds_of

START = f"{STATES}/start"


class DockerSandboxes:
    """Implements ``ports.Sandboxes``. ``image``: must be there, with a shell, the tools of GNU, and
    what commands need. ``url``: of the daemon ('': as Docker's own programs find it).

    Raises SandboxError where the SDK is missing, no daemon answers, or it has no such image.
    """

    def __init__(self, image: str, url: str = "", seconds: float = SECONDS) -> None:
        if not image:
            raise SandboxError(
                "sandboxes in Docker need the name of an image",
                next="name one that has the programs your commands need, as python:3.13",
            )
        self.image = image
        self._daemon = Daemon(url, seconds)
        self._facts = self._daemon.facts()
        if self._facts.system != "linux":
            raise SandboxError(
                f"Docker runs {self._facts.system or 'unknown'} containers here",
                next="switch it to Linux containers",
            )
        self._daemon.has_image(image)

    @property
    def capabilities(self) -> Capabilities:
        return describe(self._facts, self.image)

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
    ) -> AsyncGenerator[DockerSandbox]:
        """See ``ports.Sandboxes``; what else is ``readable`` has to be in the image."""
        if readable:
            raise SandboxRefused(
                f"nothing of this machine is readable in a container, {readable[0]} neither",
                next="have it in the image, or in the workspace",
            )
        real = real_folder(base)
        at = os.path.normpath(place_of(real, place))
        if Path(at).is_relative_to(STATES) or Path(STATES).is_relative_to(at):
            raise SandboxError(f"{STATES} is taken", next="give another place, as /workspace")
        form = Form(self.image, at, limits or SandboxLimits(), dict(env or {}))
        form = beside(form, scratch)
        made = await make(self._daemon, form, writable, lambda: pack(real))
        try:
            yield made
        finally:
            await finish(asyncio.create_task(made.close()))


def beside(form: Form, scratch: Sequence[str]) -> Form:
    """With these folders beside the workspace. Raises SandboxRefused."""
    places = tree.scratch_places(scratch, form.place)
    for each in places:
        if Path(each).is_relative_to(STATES):
            raise SandboxRefused(f"{STATES} is taken", next="name another folder, as /logs")
    return replace(form, scratch=places)


async def make(
    daemon: Daemon, form: Form, writable: bool, fill: Callable[[], IO[bytes]]
) -> DockerSandbox:
    container = await Container.make(daemon, form, fill)
    made = DockerSandbox(container, form.place, STATES, form.limits, writable, START, form)
    try:
        await made.copy(form.place, START)
    except BaseException:
        await finish(asyncio.create_task(made.close()))
        raise
    return made


@dataclass(eq=False)
class DockerSandbox(CopiedSandbox[Container]):
    """Implements ``ports.Sandbox``: a container, and a fork is another one.

    A program's exit code of 128 + N reads as signal N, for Docker does not tell them apart.
    """

    count = scripts.COUNT
    end = scripts.END

    form: Form

    @property
    def workspace(self) -> str:
        return self.folder

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
        limits = self.limits
        seconds = seconds_of(limits, timeout)
        order = Order(
            checked(command), begin_at(self.folder, cwd), seconds, env or {}, stdin, background
        )
        running = Command(self.environment, order, limits, on_output)
        async with self._turns.command():
            try:
                return await running.run()
            finally:
                if running.kept is not None:
                    self._left.append(running.kept)

    # ------------------------------------------------------------ states

    @asynccontextmanager
    async def fork(
        self,
        *,
        writable: bool = True,
        limits: SandboxLimits | None = None,
        scratch: Sequence[str] | None = None,
    ) -> AsyncGenerator[DockerSandbox]:
        """See ``ports.Sandbox``. The files go through this process, in an archive."""
        form = replace(self.form, limits=limits or self.limits)
        form = form if scratch is None else beside(form, scratch)
        async with self.still():
            archive = await self.environment.pack(self.folder)
            made = await make(self.environment.daemon, form, writable, lambda: archive)
        try:
            yield made
        finally:
            await finish(asyncio.create_task(made.close()))

    async def close(self) -> None:
        """See ``ports.Sandbox``."""
        if self._turns.closed:
            return
        self._turns.closed = True
        await self.environment.remove()
        await self._turns.idle()


def describe(facts: Facts, image: str) -> Capabilities:
    """What Docker's kernel enforces, as its daemon says."""
    group = f"of each sandbox, all commands together, by the kernel (cgroup {facts.cgroup})"
    missing = "the kernel of Docker's machine has no such limit (`docker info` warns of it)"
    common = "system calls that Docker's own list refuses"
    notes = [
        f"Docker {facts.version}, image {image}; programs are the image's",
        "memory counts what lies in /tmp and the home, too",
        f"copies of the start and of snapshots lie in {STATES}, where commands can reach them",
    ]
    if facts.rootless:
        notes.append("the daemon runs without root")
    return Capabilities(
        "docker",
        (
            Enforced("files", True, "the root is read-only; nothing of this machine is mounted"),
            Enforced("memory", facts.memory, group if facts.memory else missing),
            Enforced("processes", facts.processes, group if facts.processes else missing),
            Enforced(
                "disk", False, "the workspace is a volume without a limit; /tmp and home have"
            ),
            Enforced("network", True, "none but a loopback"),
            Enforced("time", True, "each command's processes, from within the container"),
            Enforced("namespaces", True, "processes, mounts, IPC and host name; users as Docker's"),
            Enforced(
                "seccomp", facts.seccomp, common if facts.seccomp else "Docker says it is off"
            ),
            Enforced("capabilities", True, "none, and none can be gained"),
            _user(),
        ),
        tuple(notes),
    )


def _user() -> Enforced:
    if os.getuid():
        return Enforced("non-root", True, f"commands are user {os.getuid()}")
    return Enforced("non-root", False, "this process is root, and so are commands, in containers")
