"""MCP servers that die, hang, flood, lie and leave children: what a user of one is spared."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from manyhands.adapters.tool_servers import stdio
from manyhands.adapters.tool_servers.mcp_server import MOST_STARTS, McpServer
from manyhands.adapters.tool_servers.places import Endpoint, Program
from manyhands.agents.offered import offered_tools
from manyhands.errors import ToolError, ToolServerError
from manyhands.testing.jobs import lock_is_freed
from tests import tool_server

RUDE = str(Path(tool_server.__file__).with_name("rude_server.py"))


@asynccontextmanager
async def rude(env: dict[str, str] | None = None, **settings: Any) -> AsyncGenerator[McpServer]:
    own = {
        key: settings.pop(key)
        for key in ("seconds", "start_seconds", "repeatable") & settings.keys()
    }
    args = (RUDE, json.dumps(settings))
    server = McpServer("rude", Program(sys.executable, args, env or {}), **own)
    try:
        yield server
    finally:
        await server.close()


async def fails(server: McpServer, tool: str, **arguments: object) -> str:
    with pytest.raises(ToolServerError) as caught:
        await server.call(tool, arguments)
    assert caught.value.next
    assert caught.value.what.startswith("tool server 'rude': ")
    return caught.value.what


# ---------------------------------------------------------------- death


async def test_one_that_is_killed_in_a_call_says_so_and_is_started_again() -> None:
    async with rude() as server:
        told = await fails(server, "die")
        assert "it may have happened all the same" in told
        assert "ended by SIGKILL" in told
        assert "these are my last words" in told
        assert await server.call("ok", {}) == "ok"


async def test_only_what_may_be_repeated_is_repeated(tmp_path: Path) -> None:
    async with rude(repeatable=lambda offer: offer.name == "once_dead") as server:
        path = str(tmp_path / "a")
        assert await server.call("once_dead", {"path": path}) == "alive again"
    async with rude() as server:
        path = str(tmp_path / "b")
        assert "may have happened" in await fails(server, "once_dead", path=path)
        assert await server.call("once_dead", {"path": path}) == "alive again"


async def test_a_repeatable_call_is_repeated_once() -> None:
    async with rude(repeatable=lambda offer: True) as server:
        told = await fails(server, "die")
        assert "may have happened" not in told
        assert server._starts == 2


async def test_one_that_never_answers_is_left_alone_after_a_while() -> None:
    async with rude() as server:
        for _ in range(MOST_STARTS):
            await fails(server, "die")
        assert f"started {MOST_STARTS} times" in await fails(server, "ok")


async def test_one_that_does_not_start_says_why() -> None:
    async with rude(quit=True) as server:
        told = await fails(server, "ok")
    assert "it ended with code 1" in told
    assert "I will not" in told


async def test_one_that_is_not_there() -> None:
    server = McpServer("rude", Program("no-such-program-here"))
    assert "'no-such-program-here' is not there" in await fails(server, "ok")
    server = McpServer("rude", Program(sys.executable, cwd=Path("/no/such/folder")))
    assert "cannot be started in /no/such/folder" in await fails(server, "ok")


async def test_one_that_is_mute_is_given_up() -> None:
    async with rude(mute=True, start_seconds=1.0) as server:
        assert "no answer within 1 s" in await fails(server, "ok")


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("tool", ["flood", "notices", "endless"])
async def test_a_flood_ends_the_server_and_nothing_else(
    tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdio, "MOST_UNASKED", 1_000_000)
    async with rude() as server:
        told = await fails(server, tool)
        assert "it said more than" in told
        assert await server.call("ok", {}) == "ok"


async def test_what_is_printed_beside_the_protocol_is_overheard(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with rude() as server:
        assert await server.call("chatty", {}) == "still here"
    assert capfd.readouterr() == ("", "")


async def test_an_answer_that_is_not_the_protocol() -> None:
    async with rude() as server:
        assert "is not the protocol" in await fails(server, "nonsense")
        assert "error -32000: out of order" in await fails(server, "error")
        assert await server.call("ok", {}) == "ok"


async def test_one_that_hangs_is_left_at_the_deadline() -> None:
    async with rude(seconds=1.0) as server:
        assert "no answer to a call of 'hang' within 1 s" in await fails(server, "hang")


async def test_what_is_not_text_is_named() -> None:
    blocks = [
        {"type": "text", "text": "before"},
        {"type": "image", "mimeType": "image/png", "data": "AAAA" * 411 + "AA=="},
        {"type": "resource", "resource": {"uri": "a:b", "text": "inside", "mimeType": "text/x"}},
        {"type": "resource", "resource": {"uri": "a:c", "blob": "AAAA"}},
        {"type": "resource_link", "uri": "a:d", "name": "d"},
    ]
    async with rude() as server:
        result = json.dumps({"content": blocks, "structuredContent": {"not": "twice"}})
        assert (await server.call("mixed", {"result": result})).splitlines() == [
            "before",
            "[image image/png, 1234 bytes: not shown]",
            "[resource a:b text/x]",
            "inside",
            "[resource a:c, 3 bytes: not shown]",
            "[resource a:d: named, not shown]",
        ]
        result = json.dumps({"content": [], "structuredContent": {"a": ["ü"]}})
        assert await server.call("mixed", {"result": result}) == '{"a": ["ü"]}'
        result = json.dumps({"content": [{"type": "text", "text": "why"}], "isError": True})
        with pytest.raises(ToolError, match="why"):
            await server.call("mixed", {"result": result})
        long = json.dumps({"content": [{"type": "text", "text": "x" * 2_000_000}]})
        cut = await server.call("mixed", {"result": long})
        assert len(cut) < 1_000_200
        assert "cut: 2,000,000 bytes" in cut


async def test_one_bad_tool_does_not_cost_the_others() -> None:
    good = {"type": "object"}
    tools: list[Any] = [
        {"name": "array", "inputSchema": {"type": "array"}},
        {"name": "untyped", "inputSchema": {}},
        {"name": "none"},
        {"name": "text", "inputSchema": "x"},
        {"name": "number", "inputSchema": {"type": "object", "properties": {"a": 3}}},
        {"name": "remote", "inputSchema": {"type": "object", "not": {"$ref": "http://h/x"}}},
        {"name": "ok", "inputSchema": good, "outputSchema": {"type": "array"}, "annotations": 3},
        {"name": "ok", "inputSchema": good, "description": "again"},
        {"name": "long", "inputSchema": good, "description": "x" * 5000},
        {"inputSchema": good},
        "no tool at all",
    ]
    async with rude(tools=tools) as server:
        found = offered_tools(server, await server.offers(), repeatable=lambda offer: False)
        assert await server.call("ok", {}) == "ok"
    assert [each.name for each in found.tools] == ["rude_ok", "rude_long"]
    assert len(found.tools[1].description) == 1000
    assert dict(found.dropped) == {
        "array": "its schema is of type 'array', not 'object'",
        "untyped": "its schema is of type None, not 'object'",
        "none": "its schema is of type 'none', not 'object'",
        "text": "its schema is of type 'str', not 'object'",
        "number": "its schema is no JSON schema: 3 is not of type 'object', 'boolean'",
        "remote": "its schema refers to 'http://h/x', and nothing is fetched",
        "ok": "offered twice; the first one is taken",
    }


# ---------------------------------------------------------------- what it sees


async def test_no_secret_of_ours_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "ANYTHING"):
        monkeypatch.setenv(name, "hunter2hunter2")
    async with rude(env={"NAMED": "handed"}) as server:
        seen = json.loads(await server.call("environment", {}))
    assert seen.pop("NAMED") == "handed"
    assert "hunter2hunter2" not in seen.values()
    allowed = {"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER"}
    assert {n for n in seen if not n.startswith("LC_")} <= allowed | {"PWD", "SHLVL", "_"}


async def test_a_key_that_it_prints_is_not_in_the_error() -> None:
    async with rude(env={"NAMED": "hunter2hunter2"}) as server:
        told = await fails(server, "leak")
    assert "it ended with code 3; it said last:\nthe key is ***" in told


def test_printing_a_place_shows_no_secret() -> None:
    token, env = SecretStr("hunter2hunter2"), {"KEY": "hunter2hunter2"}
    assert "hunter2" not in f"{Program('x', env=env)!r} {Endpoint('http://h', token)!r}"


# ---------------------------------------------------------------- ends


async def test_closing_ends_it_with_its_children_however_stubborn(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    async with rude(stubborn=True, child=str(lock)) as server:
        assert await server.call("ok", {}) == "ok"
        await held(lock)
    await lock_is_freed(lock)


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    async with rude(mute=True, child=str(lock)) as server:
        task = asyncio.ensure_future(server.call("ok", {}))
        await held(lock)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await lock_is_freed(lock)


async def test_a_loop_that_shuts_down_leaves_nothing(tmp_path: Path) -> None:
    """As when the program ends in an error: all tasks are cancelled at once, nobody closes."""
    lock = tmp_path / "lock"

    async def leave() -> None:
        args = (RUDE, json.dumps({"stubborn": True, "child": str(lock)}))
        server = McpServer("rude", Program(sys.executable, args))
        await server.call("ok", {})
        await held(lock)

    await asyncio.to_thread(asyncio.run, leave())
    await lock_is_freed(lock)


async def test_it_does_not_outlive_kill_9(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    settings = json.dumps({"stubborn": True, "child": str(lock)})
    program = f"""
        import asyncio, sys
        from manyhands.adapters.tool_servers.mcp_server import McpServer
        from manyhands.adapters.tool_servers.places import Program
        async def main():
            server = McpServer("x", Program(sys.executable, ({RUDE!r}, {settings!r})))
            await server.call("ok", {{}})
            print("begun", flush=True)
            await asyncio.sleep(600)
        asyncio.run(main())
    """
    env = os.environ | dict(tool_server.PROGRAM.env)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), stdout=asyncio.subprocess.PIPE, env=env
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begun\n"
    await held(lock)
    process.kill()
    await process.wait()
    await lock_is_freed(lock)


async def test_what_a_killed_keeper_kept_is_ended_all_the_same(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    async with rude(stubborn=True, child=str(lock)) as server:
        assert await server.call("ok", {}) == "ok"
        await held(lock)
        link = server._connections[0]._link
        assert isinstance(link, stdio.StdioLink)
        assert link._child._process is not None
        link._child._process.kill()
        await lock_is_freed(lock)
        assert await server.call("ok", {}) == "ok"


async def held(lock: Path) -> None:
    """Returns when the server's child has begun."""
    for _ in range(1000):
        if lock.with_name("lock.held").exists():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the child did not start")


# ---------------------------------------------------------------- over HTTP


async def test_the_token_is_sent_and_a_wrong_one_is_told() -> None:
    heard: list[str] = []

    async def refuse(request: Request) -> Response:
        heard.append(request.headers.get("authorization", ""))
        return Response(status_code=401)

    app = Starlette(routes=[Route("/mcp", refuse, methods=["POST", "GET", "DELETE"])])
    async with tool_server.served(app) as url:
        server = McpServer("rude", Endpoint(url, SecretStr("hunter2hunter2")))
        told = await fails(server, "ok")
        await server.close()
    assert "HTTP 401: is the token right" in told
    assert "hunter2" not in told
    assert set(heard) == {"Bearer hunter2hunter2"}


async def test_a_redirect_elsewhere_is_not_followed() -> None:
    heard: list[str] = []

    async def listen(request: Request) -> Response:
        heard.append(request.headers.get("authorization", ""))
        return Response(status_code=500)

    async def away(request: Request) -> Response:
        return Response(status_code=307, headers={"location": request.app.state.other})

    other = Starlette(routes=[Route("/mcp", listen, methods=["POST"])])
    app = Starlette(routes=[Route("/mcp", away, methods=["POST"])])
    async with tool_server.served(other) as there, tool_server.served(app) as url:
        app.state.other = there
        server = McpServer("rude", Endpoint(url, SecretStr("hunter2hunter2")))
        await fails(server, "ok")
        await server.close()
    assert heard == []


async def test_an_answer_over_http_is_bounded() -> None:
    async def answer(request: Request) -> Response:
        asked = await request.json()
        if asked["method"] != "initialize":
            text = "x" * 17_000_000
            found = {"content": [{"type": "text", "text": text}]}
            return JSONResponse({"jsonrpc": "2.0", "id": asked.get("id"), "result": found})
        version = asked["params"]["protocolVersion"]
        result = {
            "protocolVersion": version,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "x", "version": "1"},
        }
        return JSONResponse({"jsonrpc": "2.0", "id": asked["id"], "result": result})

    app = Starlette(routes=[Route("/mcp", answer, methods=["POST"])])
    async with tool_server.served(app) as url:
        server = McpServer("rude", Endpoint(url))
        assert "16,000,000 bytes" in await fails(server, "ok")
        await server.close()


def legacy(heard: list[str]) -> Starlette:
    """A server of sessions, which forgets the first one as soon as a tool is called in it."""

    async def answer(request: Request) -> Response:
        asked = await request.json()
        method, number = asked["method"], asked.get("id")
        heard.append(method)
        if number is None:
            return Response(status_code=202)
        if method == "initialize":
            session = {"mcp-session-id": str(heard.count("initialize"))}
            info = {"name": "x", "version": "1"}
            result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": info}
            reply = {"jsonrpc": "2.0", "id": number, "result": result}
            return JSONResponse(reply, headers=session)
        if method == "tools/list":
            return JSONResponse({"jsonrpc": "2.0", "id": number, "result": {"tools": []}})
        if method != "tools/call" or request.headers["mcp-session-id"] == "1":
            return Response(status_code=404)
        result = {"content": [{"type": "text", "text": "ok"}]}
        return JSONResponse({"jsonrpc": "2.0", "id": number, "result": result})

    async def no_stream(request: Request) -> Response:
        return Response(status_code=405)

    routes = [
        Route("/mcp", answer, methods=["POST"]),
        Route("/mcp", no_stream, methods=["GET", "DELETE"]),
    ]
    return Starlette(routes=routes)


async def test_a_session_that_has_expired_is_begun_again() -> None:
    """The server refused the call, so it did not happen: any tool may be called again."""
    heard: list[str] = []
    async with tool_server.served(legacy(heard)) as url:
        server = McpServer("rude", Endpoint(url))
        assert await server.call("ok", {}) == "ok"
        await server.close()
    assert heard.count("initialize") == 2
    assert heard.count("tools/call") == 2


async def test_nobody_there_over_http() -> None:
    begun = time.monotonic()
    server = McpServer("rude", Endpoint("http://127.0.0.1:9/mcp"))
    assert "ConnectError" in await fails(server, "ok")
    await server.close()
    assert time.monotonic() - begun < 10


async def test_a_server_over_http_that_was_started_again_is_used_again() -> None:
    async with tool_server.served() as url:
        server = McpServer("rude", Endpoint(url))
        assert await server.call("count", {}) == "1"
    port = int(url.rpartition(":")[2].partition("/")[0])
    async with tool_server.served(port=port):
        answer = ""
        for _ in range(2):  # the first one may find the old connection, and is not repeated blindly
            try:
                answer = await server.call("count", {})
                break
            except ToolServerError:
                continue
        assert answer == "1"
        await server.close()
