"""Agents against a model that answers from a script after 50 ms, and the wait without an agent.

Each agent makes the same number of requests: all but the last come back as a call of a tool that
does nothing, the last as the answer. So what is measured is the loop: context, parsing, tools,
checks, budget, and the journal of it all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from manyhands.agents.role import Role
from manyhands.agents.tools import Toolbox, tool
from manyhands.agents.turn import run_agent
from manyhands.ports import ModelReply, ModelRequest, Price, ToolCall, Usage
from manyhands.runtime import Effect, Run, Runtime, Workflow
from tests.bench.peers.clocks import Span

_TEXT = "The quick brown fox jumps over the lazy dog. " * 4


class Scripted:
    """One agent's model: ``turns`` replies, ``latency`` seconds each.

    ``asked``: CPU seconds of the process at each request.
    """

    name = "scripted"
    price: Price | None = None
    context_length: int | None = None

    def __init__(self, turns: int, latency: float) -> None:
        self._turns = turns
        self._latency = latency
        self.asked: list[float] = []

    async def request(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        self.asked.append(time.process_time())
        turn = len(self.asked)
        if self._latency:
            await asyncio.sleep(self._latency)
        last = turn == self._turns
        call = ToolCall(f"call-{turn}", "look", f'{{"number": {turn}}}')
        return ModelReply(
            text="It is done." if last else _TEXT,
            tool_calls=() if last else (call,),
            finish_reason="stop" if last else "tool_calls",
            usage=Usage(input_tokens=300 * turn, output_tokens=60),
            raw=b"",
            seconds=self._latency,
        )

    async def close(self) -> None: ...


@tool(effect=Effect.PURE)
async def look(number: int) -> str:
    """Look at one thing.

    Args:
        number: which
    """
    return f"{number}: {_TEXT}"


def agents(folder: str, count: int, turns: int, latency: float) -> dict[str, Any]:
    """``count`` agents at once in one run, after one to warm up; all requests are counted."""
    span = Span()
    models = [Scripted(turns, latency) for _ in range(count)]

    async def main() -> dict[str, Any]:
        async with Runtime.open(Path(folder) / "journal.db") as runtime:
            await runtime.run(_crowd([Scripted(5, 0.0)], 5))
            span.begin()
            await runtime.run(_crowd(models, turns))
            return span.end(count * turns)

    found = asyncio.run(main())
    return found | {"gaps": [b - a for a, b in pairwise(models[0].asked)]}


def _crowd(models: list[Scripted], turns: int) -> Workflow:
    """One agent for each model, all in one run."""
    role = Role("looker", "Looks.", "Look at things.", max_turns=turns, tools=("look",))
    toolbox = Toolbox.of(look)

    async def one(run: Run, number: int) -> str:
        report = await run_agent(run, role, "Look.", model=models[number], toolbox=toolbox)
        if str(report.status) != "complete":
            raise AssertionError(f"an agent ended {report.status}: {report.detail}")
        return report.text

    async def program(run: Run, _input: None) -> None:
        await run.map("agent", one, range(len(models)), key_of=str)

    return Workflow("bench", program)


def bare(folder: str, count: int, turns: int, latency: float) -> dict[str, Any]:
    """The same models asked in ``count`` bare loops: nothing is kept, checked or journaled."""
    span = Span()

    async def one(model: Scripted) -> None:
        for _ in range(turns):
            await model.request(ModelRequest(messages=()))

    async def main() -> dict[str, Any]:
        span.begin()
        await asyncio.gather(*(one(Scripted(turns, latency)) for _ in range(count)))
        return span.end(count * turns)

    return asyncio.run(main())
