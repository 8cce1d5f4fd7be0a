"""OpenAI Agents SDK over chat completions, without tracing."""

from __future__ import annotations

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)

from tests.bench.peers.faults_ask import INSTRUCTIONS, TASK, TURNS, Ask, Found
from tests.bench.peers.faults_openai import client_of

CLEAN = ("agents", "openai", "httpx")


async def solve(ask: Ask) -> str:
    set_tracing_disabled(True)
    agent = Agent(
        name="finder",
        instructions=INSTRUCTIONS,
        tools=[function_tool(ask.look)],
        model=OpenAIChatCompletionsModel(model="faulty", openai_client=client_of(ask)),
        output_type=Found if ask.typed else None,
    )
    if ask.streamed:
        done = Runner.run_streamed(agent, TASK, max_turns=TURNS)
        async for _ in done.stream_events():
            pass
    else:
        done = await Runner.run(agent, TASK, max_turns=TURNS)
    return str(done.final_output.number if ask.typed else done.final_output)
