"""What is said to a run over HTTP: once, in time, by whoever may; and what the description says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from manyhands.agents.approval import Approval
from manyhands.runtime import Runtime
from manyhands.web import Server
from manyhands.web.api import Api
from manyhands.web.description import OPERATIONS
from tests.takeover.stage import Stage, agent, done, resting, seen


class Caller:
    """The API with the token; every answer is its status and its JSON."""

    def __init__(self, server: Server, session: aiohttp.ClientSession) -> None:
        self._headers = {"Authorization": f"Bearer {server.token}", "Origin": server.origin}
        self._session = session
        self._orders = 0

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        self._orders += 1
        sent = {**self._headers, "Idempotency-Key": f"order-{self._orders:04}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.post(f"/api/runs/r/{path}", json=body, headers=sent) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> Any:
        async with self._session.get(f"/api/{path}", headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()


@asynccontextmanager
async def driven(stage: Stage) -> AsyncGenerator[tuple[Runtime, Any, Caller]]:
    """The run in one runtime; the server has one of its own, as another process would."""
    async with (
        stage.running() as (runtime, handle),
        Runtime.open(stage.path) as other,
        Server(other) as server,
        aiohttp.ClientSession(server.origin) as session,
    ):
        yield runtime, handle, Caller(server, session)


@pytest.fixture
def stage(fast_path: Path) -> Stage:
    return Stage(fast_path)


async def test_an_agent_is_taken_driven_and_handed_back(stage: Stage) -> None:
    stage.held["team/a"] = asyncio.Event()
    async with driven(stage) as (runtime, handle, caller):
        status, lease = await caller.post("lease", {"target": agent("a"), "owner": "ada"})
        assert status == 201
        assert set(lease) == {"target", "owner", "token", "seconds", "alone", "after"}
        status, told = await caller.post("lease", {"target": agent("a"), "owner": "bob"})
        assert (status, "driven by ada" in told["error"]) == (409, True)
        await seen(runtime, lambda e: e.type == "command")
        stage.held["team/a"].set()
        await resting(runtime, "a")
        await seen(runtime, lambda e: e.type == "agent:driven")
        agents = (await caller.get("runs/r/agents"))["agents"]
        (mine,) = [each for each in agents if each["path"] == agent("a")]
        assert (mine["stand"], mine["owner"]) == ("human", "ada")
        assert "note" in mine["driven"]["value"]["tools"]
        call = {"do": "call", "tool": "note", "arguments": {"text": "mine"}}
        ids = [
            (
                await caller.post(
                    "lease/act", {"lease": lease, "what": call}, Idempotency_Key="note-once"
                )
            )[1]
            for _ in range(2)
        ]
        assert ids[0] == ids[1]
        assert await done(runtime, ids[0]["order"]) == (True, "noted mine")
        assert (await caller.post("lease/renew", {"lease": lease}))[0] == 200
        back = {"lease": lease, "how": "continue", "note": "Yours."}
        assert (await caller.post("lease/back", back))[0] == 202
        assert (await caller.post("lease/back", back))[0] in (410, 422)
        await handle.result()
    assert stage.effects.count(f"{agent('a')}:mine") == 1


async def test_commands_are_done_once_and_not_on_what_has_changed(stage: Stage) -> None:
    stage.delay = 0.5
    async with driven(stage) as (runtime, handle, caller):
        pause = {"verb": "pause"}
        assert await caller.post("commands", pause, Idempotency_Key="pause-once") == (
            202,
            {"fresh": True},
        )
        assert await caller.post("commands", pause, Idempotency_Key="pause-once") == (
            200,
            {"fresh": False},
        )
        await seen(runtime, lambda e: e.type == "command")
        seq = runtime.view("r").commands[-1].seq
        say = {"verb": "steer", "message": "Be quick."}
        status, told = await caller.post("commands", say, If_Match=f'"{seq - 1}"')
        assert (status, f"at {seq}" in told["error"]) == (412, True)
        assert (await caller.post("commands", say, If_Match=f'"{seq}"'))[0] == 202
        assert (await caller.post("commands", {"verb": "continue"}))[0] == 202
        await handle.result()
        assert [c.verb for c in runtime.view("r").commands] == ["pause", "steer", "continue"]
        status, told = await caller.post("commands", {"verb": "stop"})
        assert (status, "completed" in told["error"]) == (422, True)


async def test_a_decision_is_given(fast_path: Path) -> None:
    stage = Stage(fast_path, names=("a",))
    stage.role = replace(stage.role, approval=Approval(tools=("look",)))
    async with driven(stage) as (runtime, handle, caller):
        await seen(runtime, lambda e: e.type == "agent:approval")
        (waiting,) = (await caller.get("runs/r/agents"))["waiting"]
        assert waiting["asked"] == {"tool": "look", "arguments": {}}
        answer = {"wait": waiting["wait"], "value": {"decision": "deny", "note": "not now"}}
        assert (await caller.post("answers", answer))[0] == 202
        await handle.result()
        assert (await caller.get("runs/r/agents"))["waiting"] == []


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("commands", {"verb": "fly"}, {}, 400),
        ("commands", {"verb": "pause", "more": 1}, {}, 400),
        ("commands", {"verb": "pause"}, {"Idempotency_Key": ""}, 400),
        ("commands", {"verb": "pause"}, {"If_Match": "soon"}, 400),
        ("commands", [], {}, 400),
        ("commands", {"verb": "steer", "message": "x" * 70_000}, {}, 413),
        ("lease", {"target": "a", "owner": ""}, {}, 400),
        ("lease/act", {"lease": {"target": "a"}, "what": {}}, {}, 400),
        ("budget", {"target": "none", "limits": {"tokens": 1}}, {}, 422),
        ("budget", {"limits": {"tokens": -1}}, {}, 400),
        ("answers", {"wait": "x", "value": {"decision": "perhaps"}}, {}, 400),
    ],
)
async def test_what_does_not_fit_is_refused_and_nothing_is_done(
    stage: Stage, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    stage.held["team/a"] = asyncio.Event()
    async with driven(stage) as (runtime, handle, caller):
        code, told = await caller.post(path, body, **headers)
        assert code == status, told
        assert told["error"]
        stage.held["team/a"].set()
        await handle.result()
        assert runtime.view("r").commands == []


async def test_nobody_orders_without_the_token_or_from_elsewhere(stage: Stage) -> None:
    async with driven(stage) as (runtime, handle, caller):
        for headers, status in (
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Origin": "https://evil.example"}, 403),
            ({"Content-Type": "text/plain"}, 415),
        ):
            sent = {**caller._headers, "Idempotency-Key": "one-of-them", **headers}
            body = b'{"verb": "kill"}'
            url = "/api/runs/r/commands"
            async with caller._session.post(url, data=body, headers=sent) as answer:
                assert answer.status == status
        await handle.result()
        assert runtime.view("r").commands == []


async def test_the_description_is_valid_and_names_every_route(stage: Stage) -> None:
    async with driven(stage) as (runtime, handle, caller):
        validate(await caller.get("openapi.json"))
        routes = {
            (method.lower(), route.path.replace(":path", "").replace(":int", ""))
            for route in Api(runtime).app().routes
            if isinstance(route, Route) and route.path.startswith("/api/")
            for method in (route.methods or set()) - {"HEAD"}
        }
        assert routes == {(each.method, each.path) for each in OPERATIONS}
        await handle.result()
