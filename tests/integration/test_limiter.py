"""Load, hangs, drops and cancellation, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from manyhands.adapters.models.limiter import LimitedModel
from manyhands.adapters.models.openai_compatible import OpenAICompatibleModel
from manyhands.agents.report import Report
from manyhands.agents.role import Role
from manyhands.agents.turn import run_agent
from manyhands.errors import ModelTimeout
from manyhands.ports import ModelRequest
from manyhands.runtime import Run, Runtime, Workflow
from manyhands.testing import ChatServer, Conversation, ManualClock, ScriptedModel

ASK = ModelRequest((b'{"role":"user","content":"U"}',), max_tokens=9)
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@asynccontextmanager
async def listening(talk: Talk) -> AsyncGenerator[str]:
    """A server that reads a request's head and body, and then does what ``talk`` says."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


# -------------------------------------------------------------------- cancellation


@pytest.mark.parametrize("begun", [b"", HEAD, HEAD + event("Hel")], ids=["silent", "head", "mid"])
@pytest.mark.parametrize("stream", [False, True])
async def test_cancellation_reaches_the_socket(begun: bytes, stream: bool) -> None:
    """The server sees the connection end, before it has said all that it wants to."""
    asked, left = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begun)
        await writer.drain()
        asked.set()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""  # until the other side is gone
        left.set()

    async with listening(talk) as url, asyncio.timeout(30):
        model = LimitedModel(OpenAICompatibleModel("tiny", url))
        task = asyncio.create_task(model.request(ASK, (lambda _: None) if stream else None))
        await asked.wait()
        await asyncio.sleep(0.02)
        task.cancel()
        await left.wait()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert (model.in_flight, model.waiting) == (0, 0)
        await model.close()


async def test_a_person_who_interrupts_an_agent_ends_its_request_at_the_server(
    tmp_path: Path,
) -> None:
    asked, shown, left = asyncio.Event(), asyncio.Event(), asyncio.Event()
    voids: list[str] = []

    def show(piece: str) -> None:
        voids.append(piece)
        shown.set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if left.is_set():
            writer.write(HEAD + event("Done.", "stop") + b"data: [DONE]\n\n")
            return
        writer.write(HEAD + event("Hel"))
        await writer.drain()
        asked.set()
        assert await reader.read() == b""
        left.set()

    async with listening(talk) as url, asyncio.timeout(30):
        model = LimitedModel(OpenAICompatibleModel("tiny", url))

        async def work(run: Run, _: None) -> str:
            report = await run_agent(
                run,
                Role("a", "", "x"),
                "Hello.",
                model=model,
                on_text=show,
                on_void=lambda: voids.append("(void)"),
            )
            return report.text

        async with Runtime.open(tmp_path / "j.db") as runtime:
            handle = await runtime.start(Workflow("w", work), run_id="r")
            await asked.wait()
            await shown.wait()
            await runtime.command("r", "interrupt")
            await left.wait()
            assert await handle.result() == "Done."
        await model.close()
    assert voids == ["Hel", "(void)", "Done."]


# -------------------------------------------------------------------- hangs and drops


async def test_a_hang_is_cut_at_the_first_token_also_where_nobody_watches() -> None:
    asked = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            writer.write(HEAD + b": ping\n\n")
            await reader.read()
            return
        writer.write(HEAD + event("Hi", "stop") + b"data: [DONE]\n\n")

    request = ModelRequest(ASK.messages, seconds=300, first_token_seconds=0.2)
    async with listening(talk) as url, asyncio.timeout(30):
        model = LimitedModel(OpenAICompatibleModel("tiny", url, always_stream=True))
        with pytest.raises(ModelTimeout, match="first token"):
            await model.request(request)
        reply = await model.request(request)
        await model.close()
    assert (reply.text, reply.finish_reason) == ("Hi", "stop")
    assert reply.first_token_seconds is not None


@pytest.mark.parametrize("cut", range(4))
async def test_a_stream_that_drops_is_asked_again_and_nothing_is_lost_or_doubled(
    tmp_path: Path, cut: int
) -> None:
    """What a person saw of the first attempt is void; the second begins from the first word."""
    events = [event("The answer "), event("is "), event("42.", "stop")]
    asked = 0

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            writer.write(HEAD + b"".join(events[:cut])[: -7 if cut == 3 else None])
            await writer.drain()
            if writer.transport is not None and cut % 2:
                await asyncio.sleep(0.02)
                writer.transport.abort()
            return
        writer.write(HEAD + b"".join(events) + b"data: [DONE]\n\n")

    screen: list[str] = []
    voids: list[str] = []
    clock = ManualClock(jump=True)

    def void() -> None:
        voids.append("".join(screen))
        screen.clear()

    reports: list[Report[str]] = []
    async with listening(talk) as url, asyncio.timeout(30):
        model = LimitedModel(OpenAICompatibleModel("tiny", url))

        async def work(run: Run, _: None) -> None:
            reports.append(
                await run_agent(
                    run,
                    Role("a", "", "x"),
                    "Hello.",
                    model=model,
                    on_text=screen.append,
                    on_void=void,
                )
            )

        async with Runtime.open(tmp_path / "j.db", clock=clock) as runtime:
            await runtime.run(Workflow("w", work), run_id="r")
            steps = runtime.view("r").steps
        await model.close()
    assert reports[0].text == "".join(screen) == "The answer is 42."
    assert voids == (["The answer is "[: 11 if cut == 1 else None]] if cut else [])
    assert [key for key in steps if "/request/" in key] == [
        "a/turn/0/request/1",
        "a/turn/0/request/2",
    ]
    assert asked == 2


# -------------------------------------------------------------------- load


async def test_what_a_server_asks_for_holds_for_all_agents(tmp_path: Path) -> None:
    """Eight agents; the third request is told to wait. Nobody is heard of before that is over."""
    clock = ManualClock(0.0, jump=True)
    told: list[float] = []
    seen: list[float] = []

    async def answer(http: web.Request) -> web.StreamResponse:
        seen.append(clock.time())
        if len(seen) == 3:
            told.append(clock.time())
            return web.Response(status=503, headers={"Retry-After": "20"})
        message = {"message": {"content": "ok"}, "finish_reason": "stop"}
        return web.json_response({"choices": [message]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    model = LimitedModel(
        OpenAICompatibleModel("tiny", url), concurrency=1, now=clock.time, sleep=clock.sleep
    )

    async def agent(run: Run, number: int) -> str:
        report = await run_agent(run, Role("a", "", "x"), f"Number {number}.", model=model)
        return report.text

    async def work(run: Run, _: None) -> list[str]:
        return await run.map("agent", agent, range(8), key_of=str)

    async with Runtime.open(tmp_path / "j.db", clock=clock) as runtime, asyncio.timeout(60):
        assert await runtime.run(Workflow("w", work)) == ["ok"] * 8
    await model.close()
    await runner.cleanup()
    assert len(seen) == 9
    assert all(at <= told[0] or at >= told[0] + 20 - 1e-3 for at in seen)


async def test_two_hundred_agents_at_once_share_what_there_is() -> None:
    """One of them asks for half of everything; the others are served beside it."""
    script = ScriptedModel(lambda r: Conversation.of(r).last, delay=0.002)
    order: list[str] = []
    async with ChatServer(script) as server:
        model = LimitedModel(
            OpenAICompatibleModel("tiny", server.url, concurrency=8), concurrency=8
        )

        async def ask(agent: str, text: str) -> str:
            message = json.dumps({"role": "user", "content": text}).encode()
            reply = await model.request(ModelRequest((message,), max_tokens=9, agent=agent))
            order.append(agent)
            return reply.text

        greedy: list[Any] = [ask("greedy", f"g{n}") for n in range(200)]
        others = [ask(f"agent {n}", f"o{n}") for n in range(200)]
        async with asyncio.timeout(60):
            texts = await asyncio.gather(*greedy, *others)
        await model.close()
    assert texts == [*(f"g{n}" for n in range(200)), *(f"o{n}" for n in range(200))]
    assert script.most_at_once <= 8
    first = order[:240]
    assert sum(agent != "greedy" for agent in first) >= 190
