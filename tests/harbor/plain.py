"""An environment that is another's in all but its class: what `CodeTeam` finds in a container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harbor.environments.base import BaseEnvironment, ExecResult
from harbor.environments.capabilities import EnvironmentCapabilities

from manyhands.evals.harbor import BubblewrapEnvironment


class PlainEnvironment(BaseEnvironment):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._inner = BubblewrapEnvironment(*args, **kwargs)
        super().__init__(*args, **kwargs)

    @staticmethod
    def type() -> str:
        return "plain"

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities(disable_internet=True)

    def _validate_definition(self) -> None: ...

    async def start(self, force_build: bool) -> None:
        await self._inner.start(force_build)

    async def stop(self, delete: bool) -> None:
        await self._inner.stop(delete)

    async def exec(self, command: str, *args: Any, **kwargs: Any) -> ExecResult:
        return await self._inner.exec(command, *args, **kwargs)

    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        await self._inner.upload_file(source_path, target_path)

    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        await self._inner.upload_dir(source_dir, target_dir)

    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        await self._inner.download_file(source_path, target_path)

    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        await self._inner.download_dir(source_dir, target_dir)
