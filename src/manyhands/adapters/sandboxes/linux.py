"""Sandboxes on Linux: bubblewrap inside namespaces of the sandbox's own, over layers or a copy.

Each command is a fresh process tree (its own namespaces of users, processes, mounts and IPC) over
the same layers and in the same network of nobody else. Which backend it is, is found by a trial.
"""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

from manyhands.errors import SandboxError
from manyhands.isolation import cgroups
from manyhands.isolation.endings import finish
from manyhands.isolation.supervisor import Order
from manyhands.ports import Capabilities, SandboxLimits

from . import calls, tree
from .capabilities import describe
from .namespaces import open_namespaces
from .running import Launch, Together
from .sandbox import Command, WorkspaceSandbox
from .stage import NS_GET_USERNS
from .tree import Bwrap, Tree
from .workspaces import Workspace, open_copy, open_layers

Backend = Literal["overlay", "copy"]
#: Commands that are launched at once; many more may run.
LAUNCHES = 2 * (os.cpu_count() or 1)
#: Entries of a base that are looked at for whose they are.
LOOKED_AT = 2000


@dataclass(frozen=True, slots=True)
class LinuxLauncher:
    bwrap: Bwrap
    at: str
    readable: tuple[Path, ...]
    env: Mapping[str, str]
    together: Together
    scratch: tuple[str, ...] = ()

    def place(self, workspace: Workspace) -> str:
        return self.at

    def beside(self, scratch: Sequence[str]) -> LinuxLauncher:
        """One with other folders beside the workspace. Raises SandboxRefused."""
        return dataclasses.replace(self, scratch=tree.scratch_places(scratch, self.at))

    @asynccontextmanager
    async def launch(
        self, workspace: Workspace, command: Command, limits: SandboxLimits
    ) -> AsyncGenerator[Launch]:
        space = workspace.namespaces
        assert space is not None
        users = fcntl.ioctl(space.mnt, NS_GET_USERNS)
        group = cgroups.make(limits.memory_mb, limits.processes)
        try:
            with tempfile.TemporaryFile() as file:
                given = Tree(workspace.path, self.at, space.folder, self.readable, self.scratch)
                tree.make_scratch(space.root, given)
                arguments = tree.arguments(self.bwrap, given)
                file.write(b"".join(os.fsencode(each) + b"\0" for each in arguments))
                file.seek(0)
                fds = f"/proc/{os.getpid()}/fd"
                argv = [
                    *(self.bwrap.nsenter, "--preserve-credentials"),
                    *(f"--user={fds}/{users}", f"--mount={fds}/{space.mnt}"),
                    f"--net={fds}/{space.net}",
                    *(self.bwrap.path, "--args", str(file.fileno()), "--"),
                    *(tree.PYTHON, "-I", "-S", tree.INSIDE),
                ]
                yield Launch(
                    argv,
                    order(command, self.env, tree.HOME, "/tmp", limits, calls.program()),
                    wrapped=True,
                    handed=(file.fileno(),),
                    admit=group.admit if group else None,
                    together=self.together,
                )
        finally:
            os.close(users)
            if group is not None:
                group.remove()


def order(
    command: Command,
    env: Mapping[str, str],
    home: str,
    scratch: str,
    limits: SandboxLimits,
    program: bytes | None,
) -> Order:
    """For the supervisor."""
    variables = tree.environment(home, scratch, {**env, **command.env})
    rlimits = tree.rlimits(limits, own_namespace=program is not None)
    return (
        command.argv[0],
        command.argv,
        command.cwd,
        variables,
        rlimits,
        None,
        program,
        command.background,
        limits.processes,
        os.getpriority(os.PRIO_PROCESS, 0),
    )


class LinuxSandboxes:
    """Implements ``ports.Sandboxes``. ``backend``: "auto" takes layers where the kernel has them.

    Raises SandboxError where this machine offers no isolation, or not the backend asked for.
    """

    def __init__(self, backend: Literal["auto", "overlay", "copy"] = "auto") -> None:
        bwrap = find_bwrap()
        if isinstance(bwrap, str):
            raise SandboxError(
                f"sandboxes need bubblewrap: {bwrap}",
                next="install bubblewrap and allow user namespaces (`manyhands doctor` says more)",
            )
        why_not = "" if backend == "copy" else overlay_refused()
        if backend == "overlay" and why_not:
            raise SandboxError(
                f"the kernel offers no overlay here: {why_not}", next="use the backend 'copy'"
            )
        self._bwrap = bwrap
        self._backend: Backend = "copy" if backend == "copy" or why_not else "overlay"
        self._why_not = why_not
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Together]
        self._loops = WeakKeyDictionary()

    @property
    def capabilities(self) -> Capabilities:
        notes = [f"workspaces are copied: {self._why_not}"] if self._why_not else []
        return describe(self._backend, notes)

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
    ) -> AsyncGenerator[WorkspaceSandbox]:
        """See ``ports.Sandboxes``."""
        limits = limits or SandboxLimits()
        real = real_folder(base)
        at = place_of(real, place)
        launcher = LinuxLauncher(
            self._bwrap, at, tuple(readable), dict(env or {}), self._together()
        ).beside(scratch)
        workspace = await in_thread(functools.partial(self._make, real, limits, writable))
        sandbox = WorkspaceSandbox(workspace, launcher, limits, writable=writable)
        try:
            yield sandbox
        finally:
            await sandbox.close()

    def _together(self) -> Together:
        """One for each event loop in which this is used."""
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._loops[loop] = Together(asyncio.Semaphore(LAUNCHES))
        return self._loops[loop]

    def _make(self, base: Path, limits: SandboxLimits, writable: bool) -> Workspace:
        """Files of somebody else cannot be changed through layers: then it is a copy."""
        if self._backend == "copy" or (writable and foreign(base)):
            return open_copy(base, limits, isolated=True)
        return open_layers(base, limits)


async def in_thread(make: functools.partial[Workspace]) -> Workspace:
    """Cancelled meanwhile: what was made is closed again."""
    task = asyncio.create_task(asyncio.to_thread(make))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await finish(task)
        if task.exception() is None:
            task.result().close()
        raise


def real_folder(base: Path) -> Path:
    real = Path(os.path.realpath(base))
    if not real.is_dir():
        raise SandboxError(f"{base} is not a folder", next="name the folder to work in")
    if real == Path("/"):
        raise SandboxError("/ cannot be a workspace", next="name the folder to work in")
    return real


def place_of(real: Path, asked: str | None) -> str:
    """Where commands find a workspace: at its own path, if no other is asked for."""
    at = asked or str(real)
    if not at.startswith("/") or ".." in Path(at).parts or at == "/":
        raise SandboxError(f"place {at!r} is no absolute path", next="give one, as /workspace")
    return at


def foreign(base: Path) -> bool:
    """Whether one of the first entries belongs to another user or group."""
    mine = (os.geteuid(), os.getegid())
    waiting, seen = [str(base)], 0
    while waiting and seen < LOOKED_AT:
        folder = waiting.pop(0)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    seen += 1
                    if (status.st_uid, status.st_gid) != mine:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
    own = base.stat()
    return (own.st_uid, own.st_gid) != mine


# ---------------------------------------------------------------- what this machine offers


@functools.cache
def find_bwrap() -> Bwrap | str:
    """The programs if a trial run works on this machine, else why not."""
    found = {name: shutil.which(name) for name in ("bwrap", "nsenter")}
    for name, path in found.items():
        if path is None:
            return f"{name} is not installed"
    path, nsenter = str(found["bwrap"]), str(found["nsenter"])
    help_text = _try([path, "--help"]).stdout
    if "--as-pid-1" not in help_text:
        return f"{path} is older than 0.2"
    bwrap = Bwrap(path, nsenter, "--disable-userns" in help_text)
    try:
        open_namespaces("", 1).close()
    except SandboxError as error:
        return error.what
    return bwrap


@functools.cache
def overlay_refused() -> str:
    """Empty where layers work: a folder of the lower layer is removed and made anew."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "folder"
        folder.mkdir()
        (folder / "file").write_text("below")
        try:
            layers = open_layers(Path(name), SandboxLimits(disk_mb=1))
        except SandboxError as error:
            return error.what
        try:
            root = layers.view(None)
            try:
                os.unlink("folder/file", dir_fd=root)
                os.rmdir("folder", dir_fd=root)
                os.mkdir("folder", dir_fd=root)
                left = os.listdir(f"/proc/self/fd/{root}/folder")
            finally:
                os.close(root)
        except OSError as error:
            return f"a trial failed: {error.strerror}"
        finally:
            layers.close()
    return "a trial failed: what was removed came back" if left else ""


def _try(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
