"""Pydantic AI: an agent over `OpenAIChatModel`, streamed through an event handler."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from pydantic_ai import Agent, UsageLimits
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.bench.peers.faults_ask import INSTRUCTIONS, TASK, TURNS, Ask, Found
from tests.bench.peers.faults_openai import client_of

CLEAN = ("pydantic_ai", "openai", "httpx")


async def solve(ask: Ask) -> str:
    model = OpenAIChatModel("faulty", provider=OpenAIProvider(openai_client=client_of(ask)))
    agent: Agent[None, Any] = Agent(
        model,
        instructions=INSTRUCTIONS,
        tools=[ask.look],
        output_type=Found if ask.typed else str,
    )
    done = await agent.run(
        TASK,
        usage_limits=UsageLimits(request_limit=TURNS),
        event_stream_handler=_listen if ask.streamed else None,
    )
    return str(done.output.number if ask.typed else done.output)


async def _listen(_: Any, events: AsyncIterable[Any]) -> None:
    async for _event in events:
        pass
