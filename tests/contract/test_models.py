"""One suite for every model: the scripted one itself, an endpoint that speaks from a script, and
each of both behind a limiter."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from manyhands.adapters.models.limiter import LimitedModel
from manyhands.adapters.models.openai_compatible import OpenAICompatibleModel
from manyhands.ports import Model
from manyhands.testing import MODEL_CHECKS, ChatServer, ManualClock, ScriptedModel, check_model
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


def limited(model: Model) -> LimitedModel:
    """Its rests take no time here."""
    clock = ManualClock(jump=True)
    return LimitedModel(
        model,
        concurrency=4,
        requests_per_minute=1000,
        tokens_per_minute=1_000_000,
        now=clock.time,
        sleep=clock.sleep,
    )


@asynccontextmanager
async def limited_scripted(script: ScriptedModel) -> AsyncGenerator[Model]:
    yield limited(script)


@asynccontextmanager
async def limited_over_http(script: ScriptedModel) -> AsyncGenerator[Model]:
    async with over_http(script) as model:
        yield limited(model)


@asynccontextmanager
async def always_streamed(script: ScriptedModel) -> AsyncGenerator[Model]:
    async with ChatServer(script) as server:
        model = OpenAICompatibleModel("scripted", server.url, always_stream=True)
        try:
            yield model
        finally:
            await model.close()


@pytest.mark.parametrize(
    "open_model",
    [scripted, over_http, always_streamed, limited_scripted, limited_over_http],
    ids=lambda f: f.__name__,
)
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
