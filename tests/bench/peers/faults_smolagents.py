"""smolagents' `ToolCallingAgent`, which hands its answer in through a tool of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from smolagents import LogLevel, OpenAIModel, ToolCallingAgent, tool

from tests.bench.peers.faults_ask import TASK, TURNS, Ask, NotDone

CLEAN = ("smolagents", "openai", "httpx")


async def solve(ask: Ask) -> str:
    return await asyncio.to_thread(_solve, ask)


def _solve(ask: Ask) -> str:
    lookup = ask.lookup

    @tool
    def look(key: str, floor: int) -> str:
        """Find the number of a key.

        Args:
            key: which key
            floor: on which floor
        """
        return lookup.look(key, floor)

    model = OpenAIModel(
        "faulty", api_base=ask.url, api_key="none", client_kwargs={"timeout": ask.seconds}
    )
    agent: Any = ToolCallingAgent(
        tools=[look],
        model=model,
        max_steps=TURNS,
        stream_outputs=ask.streamed,
        verbosity_level=LogLevel.OFF,
        return_full_result=True,
    )
    done = agent.run(TASK)
    if done.state != "success":
        raise NotDone(done.state)
    return str(done.output)
