"""smolagents: a `ToolCallingAgent` for each task, silent, ``max_steps`` raised.

It is synchronous. Many at once are threads, one each, as its guide to async applications does it.
It ends with a call of its tool ``final_answer``, which the server gives to whoever offers it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from smolagents import LogLevel, OpenAIModel, ToolCallingAgent, tool

from tests.bench.peers.loops_course import INSTRUCTIONS, Course, Many, looked, together


@tool
def look(number: int) -> str:
    """Look at one thing.

    Args:
        number: which
    """
    return looked(number)


@asynccontextmanager
async def agents(course: Course) -> AsyncGenerator[Many]:
    model = OpenAIModel("scripted", api_base=course.url, api_key="none")

    def work(task: str) -> str:
        agent = ToolCallingAgent(
            tools=[look],
            model=model,
            instructions=INSTRUCTIONS,
            max_steps=course.turns,
            verbosity_level=LogLevel.OFF,
        )
        return str(agent.run(task))

    with ThreadPoolExecutor(course.count) as threads:

        async def one(task: str) -> str:
            return await asyncio.get_running_loop().run_in_executor(threads, work, task)

        yield together(one)
