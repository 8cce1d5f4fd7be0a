"""`check_model` over an embedded model: everything but llama.cpp is real, and says what it must."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from manyhands.adapters.models.embedded import EmbeddedModel
from manyhands.adapters.models.embedded_state import CLIENTS, HOST, USE, Folder, Phase, ServerState
from manyhands.ports import Model
from manyhands.testing import MODEL_CHECKS, ChatServer, ScriptedModel
from manyhands.testing.check_models import OpenModel
from tests.tiny_model import SETTINGS

pytestmark = pytest.mark.needs("llama")


@pytest.mark.parametrize("check", MODEL_CHECKS, ids=lambda f: f.__name__)
async def test_model(
    check: Callable[[OpenModel], Awaitable[None]], tiny_gguf: Path, tmp_path: Path
) -> None:
    @asynccontextmanager
    async def attached(script: ScriptedModel) -> AsyncGenerator[Model]:
        """This process is the host, and its server speaks from the script."""
        model = EmbeddedModel(tiny_gguf, state_folder=tmp_path, settings=SETTINGS)
        assert model.folder is not None
        folder = Folder(model.folder)
        lock = folder.lock(HOST)
        assert lock.try_alone()
        async with ChatServer(script) as server:
            folder.write(
                ServerState(
                    phase=Phase.READY,
                    generation="scripted",
                    model=model.name,
                    path=str(tiny_gguf),
                    host_pid=os.getpid(),
                    pid=os.getpid(),
                    url=server.url,
                    context_length=2048,
                    slots=4,
                )
            )
            try:
                yield model
            finally:
                await model.close()
                lock.close()
        for name in (CLIENTS, USE):
            left = folder.lock(name)
            assert left.try_alone(), f"{name} is still held"
            left.close()

    await check(attached)
