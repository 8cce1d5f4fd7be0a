"""The backend without isolation: a copied workspace, and commands that run as you.

It is never chosen: who wants it constructs it, and its capabilities say what is not enforced.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from manyhands.errors import SandboxError, SandboxRefused
from manyhands.ports import Capabilities, SandboxLimits

from . import tree
from .capabilities import describe
from .linux import in_thread, order, real_folder
from .running import Launch
from .sandbox import Command, WorkspaceSandbox
from .workspaces import Workspace, open_copy


@dataclass(frozen=True, slots=True)
class DirectLauncher:
    env: Mapping[str, str]

    def place(self, workspace: Workspace) -> str:
        return workspace.path

    def beside(self, scratch: Sequence[str]) -> DirectLauncher:
        if scratch:
            raise SandboxRefused(
                f"without isolation there is no scratch folder at {scratch[0]}",
                next="use a folder of the workspace, or a sandbox with isolation",
            )
        return self

    @asynccontextmanager
    async def launch(
        self, workspace: Workspace, command: Command, limits: SandboxLimits
    ) -> AsyncGenerator[Launch]:
        folder = Path(workspace.path).parent
        home, scratch = str(folder / "home"), str(folder / "tmp")
        argv = [sys.executable, "-I", "-S", str(tree.SUPERVISOR)]
        yield Launch(argv, order(command, self.env, home, scratch, limits, None), wrapped=False)


class UnsafeLocal:
    """Implements ``ports.Sandboxes``: only the workspace is kept apart, by being a copy."""

    @property
    def capabilities(self) -> Capabilities:
        return describe("unsafe-local", ["commands run as you: nothing of this machine is safe"])

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
        """See ``ports.Sandboxes``; all of the machine is readable, wherever it lies."""
        if place is not None:
            raise SandboxError(
                f"a workspace without isolation cannot be at {place}",
                next="leave `place` out, and ask the sandbox for its `workspace`",
            )
        limits = limits or SandboxLimits()
        real = real_folder(base)
        make = functools.partial(_make, real, limits)
        launcher = DirectLauncher(dict(env or {})).beside(scratch)
        sandbox = WorkspaceSandbox(await in_thread(make), launcher, limits, writable=writable)
        try:
            yield sandbox
        finally:
            await sandbox.close()


def _make(base: Path, limits: SandboxLimits) -> Workspace:
    return open_copy(base, limits, isolated=False)
