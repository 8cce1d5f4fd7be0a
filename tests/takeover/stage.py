"""A stage for takeovers: a parent whose agents work side by side, with tools whose effects count.

``boss`` gives its workers their tasks and joins what they report. A worker notes something, then
looks at it, then answers; what it noted is in ``Stage.effects``, in order, once for each time that
a tool really ran.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from manyhands.agents.report import Report
from manyhands.agents.role import Role
from manyhands.agents.tools import CallContext, Tool, Toolbox, tool
from manyhands.agents.turn import run_agent
from manyhands.ports import ModelRequest
from manyhands.runtime import Effect, Event, Lease, Run, Runtime, Workflow
from manyhands.testing import ScriptedModel
from manyhands.testing.models import Conversation, Scripted, answer, call

WORKER = Role("worker", "Works.", "You note things.", tools=("note", "look"), max_turns=12)


class Said(BaseModel):
    what: str


def honest(request: ModelRequest, conversation: Conversation) -> Scripted:
    """Two notes, a look, an answer."""
    match conversation.spoken:
        case 0 | 1:
            return call("note", text=f"{conversation.spoken}")
        case 2:
            return call("look")
        case _:
            return answer({"what": "done"})


Part = Callable[[ModelRequest, Conversation], Scripted]


@dataclass
class Stage:
    """``names``: of the workers. ``held``: tools that wait until the event of that name is set."""

    path: Path
    part: Part = honest
    names: tuple[str, ...] = ("a", "b")
    role: Role = WORKER
    effects: list[str] = field(default_factory=list[str])
    held: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    delay: float = 0.0
    models: list[ScriptedModel] = field(default_factory=list[ScriptedModel])
    model_name: str = "scripted"

    def tools(self) -> tuple[Tool, ...]:
        @tool(effect=Effect.ONCE)
        async def note(context: CallContext, text: str) -> str:
            """Note a text."""
            self.begun.set()
            if (gate := self.held.get(context.agent.rpartition("/")[0])) is not None:
                await gate.wait()
            self.effects.append(f"{context.agent}:{text}")
            return f"noted {text}"

        @tool(effect=Effect.PURE)
        def look() -> str:
            """Look."""
            return f"{len(self.effects)} notes"

        return note, look

    @property
    def workflow(self) -> Workflow:
        def script(request: ModelRequest) -> Scripted:
            self.asked.set()
            return self.part(request, Conversation.of(request))

        async def work(scope: Run, name: str) -> Report[Said]:
            model = ScriptedModel(script, name=self.model_name, delay=self.delay)
            other = ScriptedModel(script, name="other")
            self.models.append(model)
            role = replace(self.role, name="worker")
            return await run_agent(
                scope,
                role,
                f"Work as {name}.",
                model=[model, other],
                output=Said,
                toolbox=Toolbox.of(*self.tools()),
            )

        async def boss(run: Run, _: None) -> Any:
            reports = await run.map("team", work, self.names, key_of=str)
            await run.step("joined", lambda: None)
            return [r.told() for r in reports]

        return Workflow("boss", boss)

    @asynccontextmanager
    async def running(self, *, resume: bool = False) -> AsyncGenerator[tuple[Runtime, Any]]:
        async with Runtime.open(self.path, workflows=[self.workflow]) as runtime:
            if resume:
                yield runtime, await runtime.resume("r")
            else:
                yield runtime, await runtime.start(self.workflow, run_id="r")


def agent(name: str) -> str:
    return f"team/{name}/worker"


async def seen(runtime: Runtime, found: Callable[[Event], bool], *, after: int = 0) -> Event:
    """The first such event, which may still have to come."""
    async with asyncio.timeout(20):
        async for event in runtime.events("r", after, follow=True):
            if found(event):
                return event
    raise AssertionError("the run ended without it")


async def resting(runtime: Runtime, name: str, *, after: int = 0) -> Event:
    """The agent has come to rest."""
    return await seen(
        runtime,
        lambda e: e.type == "scope:rest" and e.key.startswith(agent(name) + "/"),
        after=after,
    )


async def done(runtime: Runtime, id: str) -> tuple[bool, Any]:
    """What came of an act: whether it could be done, and what it said."""
    event = await seen(runtime, lambda e: e.type == "agent:done" and e.data["order"] == id)
    return event.data["ok"], runtime.value(event)


async def act(runtime: Runtime, lease: Lease, **what: Any) -> tuple[bool, Any]:
    return await done(runtime, await runtime.act(lease, what))
