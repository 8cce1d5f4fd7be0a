"""What Harbor gives of an environment, by real processes in a folder of this machine; and sandboxes
over it, as the conformance suite wants them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from manyhands.errors import SandboxError
from manyhands.evals.harbor_sandbox import HarborSandbox, HarborSandboxes
from manyhands.ports import Capabilities

#: As an image would say.
CONTAINER = {"PATH": os.environ["PATH"], "HOME": "/root", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Done:
    stdout: str
    stderr: str
    return_code: int


@dataclass(frozen=True)
class LocalEnvironment:
    workdir: Path

    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
    ) -> Done:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", command),
            cwd=cwd or self.workdir,
            env={**CONTAINER, **(env or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), timeout_sec)
        assert process.returncode is not None
        return Done(out.decode(errors="replace"), err.decode(errors="replace"), process.returncode)

    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        shutil.copy(source_path, target_path)


class LocalHarbor:
    """Implements ``ports.Sandboxes``: each opening has an environment of its own, in ``base``."""

    def __init__(self, how: Literal["mounts", "renames", "plain"]) -> None:
        """How a command sees its copy, for the environment would allow the best."""
        self._how = how

    @property
    def capabilities(self) -> Capabilities:
        environment = LocalEnvironment(Path("/"))
        return HarborSandboxes(environment, "/app", "/tmp/none", ()).capabilities

    @asynccontextmanager
    async def open(self, base: Path, **options: Any) -> AsyncGenerator[HarborSandbox]:
        if not base.is_dir() or base == Path("/"):
            raise SandboxError(f"{base} is no folder", next="name one")
        options.pop("readable", None)
        place = options.pop("place", None)
        if place is not None:
            raise SandboxError(f"no {place}", next="leave it out")
        async with HarborSandboxes.over(LocalEnvironment(base)) as made:
            if self._how != "mounts":
                made.mounts = ()
            made.renames = self._how == "renames"
            async with made.open(Path(made.workdir), **options) as sandbox:
                yield sandbox
