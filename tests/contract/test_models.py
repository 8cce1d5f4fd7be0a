"""One suite for every model: the scripted one itself, and an endpoint that speaks from a script."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from manyhands.adapters.models.openai_compatible import OpenAICompatibleModel
from manyhands.ports import Model
from manyhands.testing import MODEL_CHECKS, ChatServer, ScriptedModel, check_model
from manyhands.testing.check_models import OpenModel


@asynccontextmanager
async def scripted(script: ScriptedModel) -> AsyncGenerator[Model]:
    yield script


@asynccontextmanager
async def over_http(script: ScriptedModel) -> AsyncGenerator[Model]:
    async with ChatServer(script) as server:
        model = OpenAICompatibleModel("scripted", server.url, concurrency=8)
        try:
            yield model
        finally:
            await model.close()


@pytest.mark.parametrize("open_model", [scripted, over_http], ids=lambda f: f.__name__)
@pytest.mark.parametrize("check", MODEL_CHECKS, ids=lambda f: f.__name__)
async def test_model(check: Callable[[OpenModel], Awaitable[None]], open_model: OpenModel) -> None:
    await check(open_model)


async def test_check_model_finds_a_model_that_loses_calls() -> None:
    class Forgetful(ScriptedModel):
        async def request(self, request, on_text=None):  # type: ignore[no-untyped-def]
            reply = await self._inner.request(request, on_text)
            return type(reply)(
                reply.text, (), reply.finish_reason, reply.usage, reply.raw, reply.seconds, 0.0
            )

    @asynccontextmanager
    async def forgetful(script: ScriptedModel) -> AsyncGenerator[Model]:
        model = Forgetful([])
        model._inner = script
        yield model

    with pytest.raises(AssertionError):
        await check_model(forgetful)
