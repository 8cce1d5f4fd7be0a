"""LangGraph: its prebuilt ReAct agent over `ChatOpenAI`; no checkpointer, the limit raised.

`create_react_agent` is what ``langgraph`` itself has. Its successor ``create_agent`` is another
package's, and builds the same graph with room for middleware.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent
from pydantic import SecretStr

from tests.bench.peers.loops_course import INSTRUCTIONS, Course, Many, look, together


@asynccontextmanager
async def agents(course: Course) -> AsyncGenerator[Many]:
    model = ChatOpenAI(model="scripted", base_url=course.url, api_key=SecretStr("none"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It is deprecated for the other package's.
        agent = create_react_agent(model, [look], prompt=INSTRUCTIONS)

    async def one(task: str) -> str:
        state = await agent.ainvoke(
            {"messages": [{"role": "user", "content": task}]},
            {"recursion_limit": 2 * course.turns + 1},
        )
        return state["messages"][-1].content

    yield together(one)
