"""Microsoft's Agent Framework over its chat completions client; its 40 iterations are raised."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from agent_framework import Agent
from agent_framework.openai import OpenAIChatCompletionClient

from tests.bench.peers.loops_course import INSTRUCTIONS, Course, Many, look, together


@asynccontextmanager
async def agents(course: Course) -> AsyncGenerator[Many]:
    client = OpenAIChatCompletionClient("scripted", api_key="none", base_url=course.url)
    client.function_invocation_configuration["max_iterations"] = course.turns

    async with Agent(client, INSTRUCTIONS, name="looker", tools=[look]) as agent:

        async def one(task: str) -> str:
            # Its own ``text`` is that of all the turns.
            return (await agent.run(task)).messages[-1].text

        yield together(one)
