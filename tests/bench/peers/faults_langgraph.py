"""LangGraph's prebuilt agent over ``langchain-openai``."""

from __future__ import annotations

import warnings
from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent
from pydantic import SecretStr

from tests.bench.peers.faults_ask import INSTRUCTIONS, TASK, TURNS, Ask

CLEAN = ("langgraph", "langchain_core", "langchain_openai", "openai", "httpx")


async def solve(ask: Ask) -> str:
    model = ChatOpenAI(
        model="faulty",
        base_url=ask.url,
        api_key=SecretStr("none"),
        timeout=ask.seconds,
        streaming=ask.streamed,
        stream_usage=True,
        use_responses_api=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated for a package that is not measured
        agent: Any = create_react_agent(model, [ask.look], prompt=INSTRUCTIONS)
    # A turn is a step of the model and one of the tools.
    state = await agent.ainvoke({"messages": [("user", TASK)]}, {"recursion_limit": 2 * TURNS + 1})
    return state["messages"][-1].text
