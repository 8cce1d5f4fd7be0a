"""A loop over a bare HTTP client (aiohttp): bodies made by hand, each message encoded once."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.bench.peers.loops_course import INSTRUCTIONS, Course, Many, look, together

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at one thing.",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "integer", "description": "which"}},
            "required": ["number"],
        },
    },
}
_TOOLS = json.dumps([TOOL]).encode()


@asynccontextmanager
async def agents(course: Course) -> AsyncGenerator[Many]:
    url = f"{course.url}/chat/completions"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(task: str) -> str:
            messages = [
                _encode({"role": "system", "content": INSTRUCTIONS}),
                _encode({"role": "user", "content": task}),
            ]
            while True:
                body = b'{"model":"scripted","messages":[%b],"tools":%b}'
                reply = await _post(session, url, body % (b",".join(messages), _TOOLS))
                said = reply["choices"][0]["message"]
                if not said.get("tool_calls"):
                    return said["content"]
                messages.append(_encode(said))
                for call in said["tool_calls"]:
                    result = await look(**json.loads(call["function"]["arguments"]))
                    told = {"role": "tool", "tool_call_id": call["id"], "content": result}
                    messages.append(_encode(told))

        yield together(one)


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    async with session.post(url, data=body, headers=headers) as response:
        response.raise_for_status()
        return json.loads(await response.read())


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
