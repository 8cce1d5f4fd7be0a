"""The loop that the documentation of the ``openai`` client shows, and nothing around it."""

from __future__ import annotations

import json
from typing import Any

from openai import AsyncOpenAI

from tests.bench.peers.faults_ask import INSTRUCTIONS, TASK, TURNS, Ask, NotDone

CLEAN = ("openai", "httpx")

_TOOL: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Find the number of a key.",
        "parameters": {
            "type": "object",
            "properties": {"key": {"type": "string"}, "floor": {"type": "integer"}},
            "required": ["key", "floor"],
            "additionalProperties": False,
        },
    },
}


def client_of(ask: Ask) -> AsyncOpenAI:
    """The official client, with its own retries; frameworks that take one get this."""
    return AsyncOpenAI(base_url=ask.url, api_key="none", timeout=ask.seconds)


async def solve(ask: Ask) -> str:
    client = client_of(ask)
    messages: list[Any] = [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": TASK},
    ]
    for _ in range(TURNS):
        message = await _message(client, ask, messages)
        messages.append(message)
        if not message.tool_calls:
            return str(message.content)
        for call in message.tool_calls:
            result = ask.look(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    raise NotDone(f"no answer after {TURNS} turns")


async def _message(client: Any, ask: Ask, messages: list[Any]) -> Any:
    settings: dict[str, Any] = {"model": "faulty", "messages": messages, "tools": [_TOOL]}
    if not ask.streamed:
        return (await client.chat.completions.create(**settings)).choices[0].message
    async with client.chat.completions.stream(**settings) as stream:
        return (await stream.get_final_completion()).choices[0].message
