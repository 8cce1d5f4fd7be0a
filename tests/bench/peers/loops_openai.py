"""A loop over the ``openai`` client: ``AsyncOpenAI.chat.completions.create`` with the history."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI

from tests.bench.peers.loops_bare import TOOL
from tests.bench.peers.loops_course import INSTRUCTIONS, Course, Many, look, together


@asynccontextmanager
async def agents(course: Course) -> AsyncGenerator[Many]:
    async with AsyncOpenAI(base_url=course.url, api_key="none") as client:

        async def one(task: str) -> str:
            messages: list[Any] = [
                {"role": "system", "content": INSTRUCTIONS},
                {"role": "user", "content": task},
            ]
            tools: list[Any] = [TOOL]
            while True:
                reply = await client.chat.completions.create(
                    model="scripted", messages=messages, tools=tools
                )
                said = reply.choices[0].message
                if not said.tool_calls:
                    return said.content or ""
                messages.append(said)
                for call in said.tool_calls:
                    assert call.type == "function"
                    result = await look(**json.loads(call.function.arguments))
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

        yield together(one)
