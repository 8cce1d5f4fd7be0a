"""OpenAI Agents SDK: one `Agent` over chat completions, tracing off, ``max_turns`` raised."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

from tests.bench.peers.loops_course import INSTRUCTIONS, Course, Many, look, together


@asynccontextmanager
async def agents(course: Course) -> AsyncGenerator[Many]:
    set_tracing_disabled(True)
    async with AsyncOpenAI(base_url=course.url, api_key="none") as client:
        agent = Agent(
            name="looker",
            instructions=INSTRUCTIONS,
            model=OpenAIChatCompletionsModel("scripted", openai_client=client),
            tools=[function_tool(look)],
        )

        async def one(task: str) -> str:
            result = await Runner.run(agent, task, max_turns=course.turns)
            return result.final_output

        yield together(one)
