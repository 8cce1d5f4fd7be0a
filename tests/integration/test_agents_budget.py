"""64 agents at once in nested scopes, over HTTP, against a server that lies about usage and is
killed away from under: no limit is overshot, by a request or by a reserved token, at any moment."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from manyhands.adapters.models.openai_compatible import OpenAICompatibleModel
from manyhands.agents.request import Limits
from manyhands.agents.role import Role
from manyhands.agents.tools import Toolbox, tool
from manyhands.agents.turn import run_agent
from manyhands.errors import BudgetExceeded, ModelOverloaded
from manyhands.ports import ModelRequest, Usage
from manyhands.runtime import Budget, Effect, Event, Run, Runtime, Workflow
from manyhands.testing import (
    ChatServer,
    Conversation,
    CrashPoint,
    Reply,
    ScriptedModel,
    Victims,
)

TEAMS, AGENTS = 4, 16
LIES = (Usage(0, 0), None, Usage(10**9, 10**9), Usage(3, 10**9), Usage(10**9, 0))

RUN = {
    "requests": Budget(requests=250),
    "tokens": Budget(tokens=280_000),
}
TEAM = {
    "requests": Budget(requests=66, fan_out=AGENTS),
    "tokens": Budget(tokens=70_000),
}
ROLE = Role(
    "finder", "", "Find.", tools=("look",), max_tokens=100, budget=Budget(requests=6, tokens=30_000)
)


class Finding(BaseModel):
    what: str


@tool(effect=Effect.IDEMPOTENT)
async def look(at: str) -> str:
    """Look at something."""
    await asyncio.sleep(0)
    return f"{at} is there"


def teams(url: str, unit: str) -> Workflow:
    """Teams of agents, each agent with a budget of its own; what is refused is counted."""

    async def workflow(run: Run, _: None) -> dict[str, int]:
        model = OpenAICompatibleModel("liar", url, concurrency=64)

        async def agent(scope: Run, number: int) -> str:
            report = await run_agent(
                scope,
                ROLE,
                f"Number {number} of {scope.path}.",
                model=model,
                output=Finding,
                toolbox=Toolbox.of(look),
                limits=Limits(first_wait=0.001),
            )
            return str(report.ending)

        async def guarded(scope: Run, number: int) -> str:
            try:
                return await agent(scope, number)
            except BudgetExceeded as error:
                return f"refused by {error.scope or 'the run'}"

        async def team(scope: Run, _: int) -> list[str]:
            return await scope.map("agent", guarded, range(AGENTS), key_of=str)

        try:
            found = await run.map("team", team, range(TEAMS), key_of=str, budget=TEAM[unit])
        finally:
            await model.close()
        return dict(Counter(ending for endings in found for ending in endings))

    return Workflow("teams", workflow)


def program(on_boundary: Callable[[str, int], None], journal: str, url: str, unit: str) -> Any:
    """What is killed and started again."""

    async def main() -> Any:
        flow = teams(url, unit)
        async with Runtime.open(journal, workflows=[flow], on_boundary=on_boundary) as runtime:
            if any(known.run_id == "r" for known in runtime.runs()):
                handle = await runtime.resume("r")
            else:
                handle = await runtime.start(flow, run_id="r", budget=RUN[unit])
            return await handle.result()

    return asyncio.run(main())


def liar() -> ScriptedModel:
    """Three looks and an answer for everybody; now and then it is too busy; it never tells the
    truth about usage."""

    def script(request: ModelRequest) -> Reply:
        talk = Conversation.of(request)
        lot = sum(talk.task.encode()) + talk.spoken
        usage = LIES[lot % len(LIES)]
        busy = (ModelOverloaded("busy", retry_after=0),) if lot % 7 == 0 else ()
        if talk.spoken < 3:
            arguments = json.dumps({"at": f"place {talk.spoken}"})
            return Reply(calls=(("look", arguments),), usage=usage, fails=busy)
        return Reply(answer={"what": "it"}, usage=usage, fails=busy)

    return ScriptedModel(script, delay=0.002)


# -------------------------------------------------------------------- what the journal says


def limits_of(unit: str) -> dict[str, dict[str, int]]:
    """Scope -> its limits."""
    found = {"": RUN[unit].limits()}
    for t in range(TEAMS):
        found[f"team/{t}"] = TEAM[unit].limits()
        for a in range(AGENTS):
            assert ROLE.budget is not None
            found[f"team/{t}/agent/{a}/finder"] = ROLE.budget.limits()
    return found


def check_never_over(events: Sequence[Event], unit: str) -> Counter[str]:
    """At every event: spent, lost and reserved together are within every limit. What was spent."""
    limits = limits_of(unit)
    booked: dict[str, Counter[str]] = {scope: Counter() for scope in limits}
    running: dict[str, tuple[str, dict[str, int]]] = {}

    def book(scope: str, amounts: dict[str, int], sign: int = 1) -> None:
        for each, sums in booked.items():
            if not each or scope == each or scope.startswith(each + "/"):
                for what, amount in amounts.items():
                    sums[what] += sign * amount

    for event in events:
        if event.type == "step.started" and "cost" in event.data:
            running[event.key] = (event.data.get("scope", ""), event.data["cost"])
            book(*running[event.key])
        elif event.type in ("step.done", "step.failed") and event.key in running:
            scope, cost = running.pop(event.key)
            book(scope, cost, -1)
            book(scope, event.data["used"])
        elif event.type == "run.opened":
            running.clear()  # lost to a crash: reserved, and never given back
        for scope, amounts in booked.items():
            for what, limit in limits[scope].items():
                assert amounts[what] <= limit, f"{what} of {scope!r} at event {event.seq}"
    return booked[""]


def check_asked_once(events: Sequence[Event]) -> int:
    """No finished request is begun again. How many were begun."""
    done: set[str] = set()
    begun = 0
    for event in events:
        if "/request/" not in event.key:
            continue
        if event.type == "step.started":
            assert event.key not in done
            begun += 1
        elif event.type == "step.done":
            done.add(event.key)
    return begun


def events_of(journal: Path) -> list[Event]:
    runtime = Runtime.open(journal)
    try:
        return list(runtime.journal.events("r"))
    finally:
        runtime.journal.close()


# -------------------------------------------------------------------- the tests


@pytest.mark.parametrize("unit", ["requests", "tokens"])
async def test_no_limit_is_overshot(tmp_path: Path, unit: str) -> None:
    model = liar()
    async with ChatServer(model) as server:
        endings = await asyncio.to_thread(
            program, lambda *_: None, str(tmp_path / "journal.db"), server.url, unit
        )
    events = events_of(tmp_path / "journal.db")
    spent = check_never_over(events, unit)
    assert check_asked_once(events) == len(model.requests) == spent["requests"]
    assert sum(endings.values()) == TEAMS * AGENTS
    refused = sum(n for ending, n in endings.items() if ending.startswith("refused"))
    assert 0 < refused < TEAMS * AGENTS
    assert model.most_at_once > 1


@pytest.mark.parametrize("unit", ["requests", "tokens"])
async def test_no_limit_is_overshot_by_crashes_in_between(tmp_path: Path, unit: str) -> None:
    model = liar()
    journal = tmp_path / "journal.db"
    random.seed(unit)
    killed = 0
    with Victims(__file__, "program") as victims:
        async with ChatServer(model) as server:
            for life in range(6):
                # A fast machine may be done before any moment: every other death is at a commit.
                moment = random.uniform(0.05, 0.6)
                point = CrashPoint("after", random.randint(2, 12))
                ending = await asyncio.to_thread(
                    victims.run, str(journal), server.url, unit, kill=moment if life % 2 else point
                )
                killed += ending.killed
                if journal.exists():
                    check_never_over(events_of(journal), unit)
            ended = await asyncio.to_thread(victims.run, str(journal), server.url, unit)
    events = events_of(journal)
    spent = check_never_over(events, unit)
    # A request whose start is journaled may have died with its process before it was sent.
    assert len(model.requests) <= check_asked_once(events) == spent["requests"]
    assert sum(ended.value.values()) == TEAMS * AGENTS
    assert killed
