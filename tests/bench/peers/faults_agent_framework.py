"""MS Agent Framework: an agent over its chat-completions client."""

from __future__ import annotations

from typing import Any

from agent_framework import Agent, tool
from agent_framework_openai import OpenAIChatCompletionClient
from pydantic import ValidationError

from tests.bench.peers.faults_ask import INSTRUCTIONS, TASK, TURNS, Ask, Found, NotDone
from tests.bench.peers.faults_openai import client_of

CLEAN = ("agent_framework", "agent_framework_openai", "openai", "httpx")


async def solve(ask: Ask) -> str:
    client: Any = OpenAIChatCompletionClient(
        model="faulty",
        async_client=client_of(ask),
        function_invocation_configuration={"max_iterations": TURNS},
    )
    agent: Any = Agent(
        client,
        instructions=INSTRUCTIONS,
        tools=[tool(ask.look, approval_mode="never_require")],
        default_options={"response_format": Found} if ask.typed else None,
    )
    if ask.streamed:
        stream = agent.run(TASK, stream=True)
        async for _ in stream:
            pass
        response = await stream.get_final_response()
    else:
        response = await agent.run(TASK)
    return str(_value(response)) if ask.typed else response.text


def _value(response: Any) -> int:
    try:
        value = response.value
    except ValidationError as error:
        raise NotDone(f"no value of the type: {error}") from error
    if value is None:
        raise NotDone("no value")
    return value.number
