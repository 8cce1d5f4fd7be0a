"""Pydantic AI: one `Agent`, run once for each task; its limit of 50 requests is lifted."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

from tests.bench.peers.loops_course import INSTRUCTIONS, Course, Many, look, together


@asynccontextmanager
async def agents(course: Course) -> AsyncGenerator[Many]:
    provider = OpenAIProvider(base_url=course.url, api_key="none")
    agent = Agent(
        OpenAIChatModel("scripted", provider=provider), instructions=INSTRUCTIONS, tools=[look]
    )
    limits = UsageLimits(request_limit=course.turns)

    async def one(task: str) -> str:
        return (await agent.run(task, usage_limits=limits)).output

    async with agent:
        yield together(one)
