"""The HTTP model against a real local server that misbehaves in every way that we know of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from manyhands.adapters.models.chat_reply import Lines, retry_after
from manyhands.adapters.models.openai_compatible import OpenAICompatibleModel
from manyhands.agents.report import Report
from manyhands.agents.role import Role
from manyhands.agents.turn import run_agent
from manyhands.errors import (
    ConfigError,
    ModelError,
    ModelMalformed,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
)
from manyhands.ports import ModelReply, ModelRequest, Usage
from manyhands.runtime import Run, Runtime, Workflow

KEY = "sk-very-secret-0123456789"
ASK = ModelRequest(
    messages=(b'{"role":"system","content":"S"}', b'{"role":"user","content":"U"}'), max_tokens=9
)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def silent(_: str) -> None:
    """Makes a request a streamed one."""


@asynccontextmanager
async def serve(handler: Handler, **settings: Any) -> AsyncGenerator[OpenAICompatibleModel]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    settings = {"api_key": SecretStr(KEY)} | settings
    model = OpenAICompatibleModel("tiny", f"http://127.0.0.1:{port}/v1/", **settings)
    try:
        yield model
    finally:
        await model.close()
        await runner.cleanup()


def whole(message: Any = None, *, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    told = {"role": "assistant", "content": "Hi"} if message is None else message
    return {"choices": [{"message": told, "finish_reason": finish}], **more}


def replies(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        if isinstance(body, bytes):
            return web.Response(body=body, status=status, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    return handler


def streams(*chunks: bytes, forever: bool = False, cut: bool = False) -> Handler:
    async def handler(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0)
        if cut and http.transport is not None:
            await asyncio.sleep(0.05)
            http.transport.abort()
        while forever:
            await asyncio.sleep(0.02)
            with contextlib.suppress(ConnectionError):
                await response.write(b": still here\n\n")
        return response

    return handler


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    told = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return b"data: " + json.dumps(told).encode() + b"\n\n"


async def failed(
    model: OpenAICompatibleModel, request: ModelRequest = ASK, *, stream: bool = False
) -> ModelError:
    with pytest.raises(ModelError) as caught:
        async with asyncio.timeout(30):
            await model.request(request, silent if stream else None)
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value)
    return caught.value


async def answered(handler: Handler, *, stream: bool = False) -> ModelReply:
    async with serve(handler) as model:
        return await model.request(ASK, silent if stream else None)


# -------------------------------------------------------------------- what is sent


async def test_messages_and_tools_are_sent_as_the_bytes_that_they_came_in() -> None:
    seen: list[tuple[bytes, str | None]] = []

    async def handler(http: web.Request) -> web.StreamResponse:
        seen.append((await http.read(), http.headers.get("Authorization")))
        return web.json_response(whole())

    request = ModelRequest(
        messages=(
            b'{"role":"user",  "content":"spaced"}',
            '{"role":"user","content":"ü"}'.encode(),
        ),
        tools=(b'{"type":"function", "function":{"name":"f"}}',),
        max_tokens=11,
        temperature=0.5,
        response_schema=b'{"type":"object"}',
        tool_choice="f",
        seed=3,
    )
    async with serve(handler, extra={"top_p": 0.9}) as model:
        await model.request(request)
    body, key = seen[0]
    assert key == f"Bearer {KEY}"
    assert body.startswith(b'{"model":"tiny","messages":[' + b",".join(request.messages) + b"]")
    assert json.loads(body) == {
        "model": "tiny",
        "messages": [json.loads(m) for m in request.messages],
        "tools": [json.loads(t) for t in request.tools],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "max_tokens": 11,
        "temperature": 0.5,
        "seed": 3,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}},
        },
        "top_p": 0.9,
    }


async def test_a_plain_request_holds_nothing_that_was_not_asked_for() -> None:
    seen: list[dict[str, Any]] = []

    async def handler(http: web.Request) -> web.StreamResponse:
        seen.append(await http.json())
        return web.json_response(whole())

    async with serve(handler, api_key=None, schema_form="none") as model:
        await model.request(ASK)
        await model.request(ASK, silent)
    assert seen[0].keys() == {"model", "messages", "max_tokens"}
    assert seen[1]["stream"] is True
    assert seen[1]["stream_options"] == {"include_usage": True}


async def test_no_more_requests_at_once_than_allowed() -> None:
    at_once, most = 0, 0

    async def handler(_: web.Request) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return web.json_response(whole())

    async with serve(handler, concurrency=3) as model:
        # Waiting for a slot counts against no deadline: 12 × 0.02 s through 3 slots.
        request = ModelRequest(messages=ASK.messages, seconds=5)
        await asyncio.gather(*(model.request(request) for _ in range(12)))
    assert most == 3


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    visited: list[str] = []

    async def elsewhere(http: web.Request) -> web.StreamResponse:
        visited.append(http.path)
        raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/steal")

    async with serve(elsewhere) as model:
        assert isinstance(await failed(model), ModelRefused)
    assert visited == ["/v1/chat/completions"]


# -------------------------------------------------------------------- shapes that are tolerated


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (whole({"content": None, "tool_calls": None}), ""),
        (whole({"content": "a"}, finish=None), "a"),
        (whole({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}), "ab"),
        (whole({"content": "\ud83d\ude00 \ud83d"}), "\U0001f600 �"),
        (whole({"content": "a", "tool_calls": []}), "a"),
    ],
)
async def test_text_in_odd_shapes(body: Any, text: str) -> None:
    reply = await answered(replies(body))
    assert (reply.text, reply.finish_reason, reply.tool_calls) == (text, "stop", ())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({"a": [1, "ü"]}, '{"a": [1, "ü"]}'), (None, ""), ('{"a":', '{"a":')],
)
async def test_calls_in_odd_shapes(arguments: Any, expected: str) -> None:
    function = {"name": "look", "arguments": arguments}
    calls = [
        {"function": function},
        {"id": "", "function": function},
        {"id": 7, "function": function},
    ]
    body = whole({"content": None, "tool_calls": calls}, finish=None)
    first, second = await answered(replies(body)), await answered(replies(body))
    assert [c.arguments for c in first.tool_calls] == [expected] * 3
    assert len({c.id for c in first.tool_calls}) == 3
    assert all(c.id for c in first.tool_calls)
    assert first.tool_calls == second.tool_calls
    assert first.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(3, 4)),
        (
            {
                "prompt_tokens": 3,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 2},
            },
            Usage(3, 4, 2),
        ),
        ({"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": None}, Usage(3, 4)),
        (None, None),
        ("lots", None),
        ({"prompt_tokens": -1, "completion_tokens": 4}, None),
        ({"prompt_tokens": 1.5, "completion_tokens": 4}, None),
        ({"prompt_tokens": True, "completion_tokens": 4}, None),
        ({"prompt_tokens": 10**400, "completion_tokens": 4}, None),
        ({"completion_tokens": 4}, None),
    ],
)
async def test_usage_that_is_there_or_nonsense(usage: Any, expected: Usage | None) -> None:
    assert (await answered(replies(whole(usage=usage)))).usage == expected


# -------------------------------------------------------------------- answers that are none


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe{",
        b"<html><body>It works!</body></html>",
        b"[" * 100_000,
        {},
        {"choices": []},
        {"choices": None},
        {"choices": ["Hi"]},
        {"choices": [{}]},
        {"choices": [{"message": "Hi"}]},
        {"choices": [{"message": {"content": 7}}]},
        {"choices": [{"message": {"tool_calls": {"name": "f"}}}]},
        {"choices": [{"message": {"tool_calls": ["f"]}}]},
        {"choices": [{"message": {"tool_calls": [{"function": None}]}}]},
        {"error": {"message": "out of memory"}},
        {"error": "out of memory", "choices": [{"message": {"content": "Hi"}}]},
        {"object": "error", "message": "out of memory"},
    ],
    ids=repr,
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_no_answer_is_malformed(body: Any, stream: bool) -> None:
    async with serve(replies(body)) as model:
        error = await failed(model, stream=stream)
    assert isinstance(error, ModelMalformed)
    assert error.retryable
    assert error.next
    assert len(str(error)) < 1000


async def test_an_error_inside_a_200_counts_by_its_code() -> None:
    for code, kind in ((429, ModelOverloaded), ("503", ModelOverloaded), (404, ModelRefused)):
        body = {"error": {"message": "no", "code": code}}
        async with serve(replies(body)) as model:
            assert type(await failed(model)) is kind


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, ModelRefused, False),
        (401, ModelRefused, False),
        (404, ModelRefused, False),
        (413, ModelRefused, False),
        (408, ModelTimeout, True),
        (429, ModelOverloaded, True),
        (500, ModelUnreachable, True),
        (502, ModelUnreachable, True),
        (503, ModelOverloaded, True),
        (529, ModelOverloaded, True),
    ],
)
async def test_statuses(status: int, kind: type[ModelError], retryable: bool) -> None:
    said = {"error": {"message": f"key {KEY} is not good here " + "x" * 5000}}
    async with serve(replies(said, status)) as model:
        error = await failed(model)
    assert type(error) is kind
    assert error.retryable is retryable
    assert str(status) in error.what
    assert "key *** is not good" in error.what
    assert len(error.what) < 600


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("0.5", 0.5), ("-3", 0), ("soon", None), ("nan", None)]
)
async def test_retry_after_in_seconds(header: str, seconds: float | None) -> None:
    async with serve(replies(b"", 429, {"Retry-After": header})) as model:
        error = await failed(model)
    assert isinstance(error, ModelOverloaded)
    assert error.retry_after == seconds


def test_retry_after_as_a_date() -> None:
    now = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
    later = format_datetime(now + timedelta(seconds=90), usegmt=True)
    assert retry_after(later, now) == 90
    assert retry_after(format_datetime(now - timedelta(days=1), usegmt=True), now) == 0
    assert retry_after("", now) is None
    assert retry_after(None, now) is None


# -------------------------------------------------------------------- deadlines, sizes, connections


async def _raw_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> tuple[asyncio.Server, str]:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def _drip(writer: asyncio.StreamWriter, head: bytes) -> None:
    writer.write(head)
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_a_server_that_drips_bytes_is_cut_at_the_deadline(head: bytes, stream: bool) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await _drip(writer, head)

    server, url = await _raw_server(talk)
    model = OpenAICompatibleModel("tiny", url)
    error = await failed(model, ModelRequest(messages=ASK.messages, seconds=0.3), stream=stream)
    assert isinstance(error, ModelTimeout)
    assert "0.3 s" in error.what
    assert error.may_have_spent
    await model.close()
    server.close()


@pytest.mark.parametrize("begin", [b"", b": ping\n\n", event({"role": "assistant", "content": ""})])
async def test_a_stream_that_does_not_begin_is_cut_at_the_first_token(begin: bytes) -> None:
    request = ModelRequest(messages=ASK.messages, seconds=60, first_token_seconds=0.3)
    async with serve(streams(begin, forever=True)) as model:
        error = await failed(model, request, stream=True)
    assert isinstance(error, ModelTimeout)
    assert "first token" in error.what


@pytest.mark.parametrize("delta", [{"content": "a"}, {"reasoning_content": "hm"}])
async def test_a_stream_that_has_begun_has_the_whole_time(delta: dict[str, Any]) -> None:
    request = ModelRequest(messages=ASK.messages, seconds=0.6, first_token_seconds=0.2)
    async with serve(streams(event(delta), forever=True)) as model:
        error = await failed(model, request, stream=True)
    assert isinstance(error, ModelTimeout)
    assert "0.6 s" in error.what


@pytest.mark.parametrize("fills", [b"", b": ping\n\n"], ids=["nothing", "comments"])
async def test_a_stream_that_falls_silent_is_cut(fills: bytes) -> None:
    async def falls_silent(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http)
        await response.write(event({"content": "a"}) + event({"content": "b"}))
        while True:
            await asyncio.sleep(0.05)
            await response.write(fills)

    request = ModelRequest(messages=ASK.messages, seconds=60, idle_seconds=0.3)
    async with serve(falls_silent) as model:
        error = await failed(model, request, stream=True)
    assert isinstance(error, ModelTimeout)
    assert "silent for 0.3 s" in error.what
    assert error.may_have_spent


@pytest.mark.parametrize("stream", [False, True])
async def test_an_endless_answer_is_cut_at_the_size(stream: bool) -> None:
    async def endless(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http)
        while True:
            await response.write(event({"content": "x" * 10_000}))

    async with serve(endless, most_bytes=1_000_000) as model:
        error = await failed(model, stream=stream)
    assert isinstance(error, ModelMalformed)
    assert "1000000 bytes" in error.what


async def test_nobody_listens() -> None:
    server, url = await _raw_server(lambda *_: asyncio.sleep(0))
    server.close()
    await server.wait_closed()
    model = OpenAICompatibleModel("tiny", url)
    error = await failed(model)
    assert type(error) is ModelUnreachable
    assert not error.may_have_spent
    await model.close()


async def test_a_connection_that_does_not_come_about_is_cut() -> None:
    """A full backlog: the third client of a server that accepts nobody is not answered at all."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(2)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        model = OpenAICompatibleModel(
            "tiny", f"http://127.0.0.1:{address[1]}/v1", connect_seconds=0.2
        )
        error = await failed(model)
        for each in waiting:
            each.close()
        await model.close()
    assert type(error) is ModelTimeout
    assert "no connection" in error.what
    assert not error.may_have_spent


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{",
    ],
)
async def test_a_connection_that_is_lost_may_have_cost_something(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    server, url = await _raw_server(talk)
    model = OpenAICompatibleModel("tiny", url)
    error = await failed(model)
    assert type(error) is ModelUnreachable
    assert error.may_have_spent
    await model.close()
    server.close()


async def test_it_goes_on_in_another_event_loop() -> None:
    """A model may be made once and used by one `asyncio.run` after another."""
    made: list[OpenAICompatibleModel] = []

    async def once(port: int) -> int:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", replies(whole()))
        runner = web.AppRunner(app, shutdown_timeout=0.05)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        port = runner.addresses[0][1]
        made[:] = made or [OpenAICompatibleModel("tiny", f"http://127.0.0.1:{port}/v1")]
        assert (await made[0].request(ASK)).text == "Hi"
        await made[0].close()
        await runner.cleanup()
        return port

    port = await asyncio.to_thread(lambda: asyncio.run(once(0)))
    await asyncio.to_thread(lambda: asyncio.run(once(port)))


# -------------------------------------------------------------------- streams


CALLS = (
    event({"role": "assistant", "content": ""}),
    event({"content": "Grüß"}),
    event({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "look"}}]}),
    event({"tool_calls": [{"index": 0, "id": None, "function": {"arguments": '{"at": "世'}}]}),
    event({"tool_calls": [{"index": 0, "function": {"name": "look", "arguments": '界"}'}}]}),
    event({"tool_calls": [{"index": 1, "function": {"name": "go", "arguments": {"n": 1}}}]}),
    event({}, "tool_calls"),
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}\n\n',
    b"data: [DONE]\n\n",
)


async def test_a_stream_is_the_same_in_all_cuts() -> None:
    text = b"".join(CALLS)
    cuts = [CALLS, [text], [text[i : i + 1] for i in range(len(text))], [text[:97], text[97:]]]
    for chunks in cuts:
        reply = await answered(streams(*chunks), stream=True)
        assert reply.text == "Grüß"
        assert [(c.name, json.loads(c.arguments)) for c in reply.tool_calls] == [
            ("look", {"at": "世界"}),
            ("go", {"n": 1}),
        ]
        assert reply.tool_calls[0].id == "a"
        assert reply.tool_calls[1].id
        assert reply.finish_reason == "tool_calls"
        assert reply.usage == Usage(5, 6)


async def test_pieces_of_calls_without_an_index_go_by_their_id() -> None:
    pieces = [
        {"id": "a", "function": {"name": "one", "arguments": "{"}},
        {"function": {"arguments": "}"}},
        {"id": "b", "function": {"name": "two", "arguments": "{}"}},
        {"id": "a", "function": {"arguments": " "}},
    ]
    events = [event({"tool_calls": [piece]}) for piece in pieces]
    reply = await answered(streams(*events, event({}, "tool_calls")), stream=True)
    assert [(c.id, c.name, c.arguments) for c in reply.tool_calls] == [
        ("a", "one", "{} "),
        ("b", "two", "{}"),
    ]


async def test_a_stream_without_usage_or_done_is_whole_when_it_says_why_it_ended() -> None:
    reply = await answered(streams(event({"content": "Hi"}), event({}, "stop")), stream=True)
    assert (reply.text, reply.finish_reason, reply.usage) == ("Hi", "stop", None)


async def test_a_server_that_does_not_stream_is_heard_all_the_same() -> None:
    heard: list[str] = []
    async with serve(replies(whole())) as model:
        reply = await model.request(ASK, heard.append)
    assert reply.text == "".join(heard) == "Hi"


@pytest.mark.parametrize(
    ("chunks", "cut", "kind"),
    [
        ((event({"content": "Hel"}),), False, ModelMalformed),
        ((event({"content": "Hel"}),), True, ModelUnreachable),
        ((event({"content": "Hel"}), b"data: {nope\n\n"), False, ModelMalformed),
        (
            (event({"content": "Hel"}), b'data: {"error":{"message":"oom"}}\n\n'),
            False,
            ModelMalformed,
        ),
        ((b'error: {"code":503,"message":"busy"}\n\n',), False, ModelOverloaded),
        ((event({"tool_calls": ["f"]}),), False, ModelMalformed),
        ((b"data: [DONE]\n\n",), False, ModelMalformed),
        ((b"",), False, ModelMalformed),
    ],
)
async def test_a_stream_that_breaks_off_is_no_answer(
    chunks: tuple[bytes, ...], cut: bool, kind: type[ModelError]
) -> None:
    async with serve(streams(*chunks, cut=cut)) as model:
        assert type(await failed(model, stream=True)) is kind


def test_lines_of_events() -> None:
    lines = Lines()
    assert list(lines.feed(b"data: a\r\n\r\nda")) == [b"a"]
    assert list(lines.feed(b"ta:b\ndata: c\n: note\nevent: x\n")) == []
    assert list(lines.feed(b"\n\n\n")) == [b"b\nc"]
    assert list(lines.feed(b"data: last")) == []
    assert list(lines.rest()) == [b"last"]


# -------------------------------------------------------------------- configuration and secrets


@pytest.mark.parametrize(
    "url", ["", "localhost:8000/v1", "ftp://host/v1", "http://", "http://user:pw@host/v1"]
)
def test_a_base_url_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAICompatibleModel("tiny", url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("key", ["with space", "line\n", "ключ"])
def test_a_key_that_cannot_be_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAICompatibleModel("tiny", "http://host/v1", api_key=SecretStr(key))
    assert key not in str(caught.value)


def test_fields_that_a_request_sets_itself_are_refused() -> None:
    with pytest.raises(ConfigError, match="stream"):
        OpenAICompatibleModel("tiny", "http://host/v1", extra={"stream": True})


async def test_the_key_is_in_the_header_and_nowhere_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    async def parrot(http: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": http.headers["Authorization"]}}, status=401)

    async with serve(parrot) as model:
        error = await failed(model)
        assert "Bearer ***" in error.what
        assert KEY not in f"{model!r}{vars(model)}"
    assert KEY not in caplog.text


async def test_the_key_does_not_reach_the_journal(tmp_path: Path) -> None:
    async def parrot(http: web.Request) -> web.StreamResponse:
        said = f"no: {http.headers['Authorization']}"
        return web.json_response({"error": {"message": said}}, status=401)

    reports: list[Report[str]] = []
    journal = tmp_path / "journal.db"
    async with serve(parrot) as model, Runtime.open(journal) as runtime:

        async def workflow(run: Run, _: None) -> None:
            reports.append(await run_agent(run, Role("a", "", "x"), "Hello.", model=model))

        await runtime.run(Workflow("test", workflow))
    assert "Bearer ***" in reports[0].detail
    files = list(tmp_path.iterdir())
    assert journal in files
    assert all(KEY.encode() not in file.read_bytes() for file in files)


async def test_a_query_in_the_url_is_sent_and_not_shown() -> None:
    seen: list[str] = []

    async def handler(http: web.Request) -> web.StreamResponse:
        seen.append(http.query_string)
        return web.Response(status=404)

    async with serve(handler) as model:
        url = str(model._url.with_query(None)).removesuffix("/chat/completions")
        other = OpenAICompatibleModel("tiny", f"{url}?api-version=7")
        error = await failed(other)
        await other.close()
    assert seen == ["api-version=7"]
    assert "api-version" not in str(error)


async def test_a_server_that_hangs_up_after_a_stream_loses_no_request() -> None:
    """llama.cpp's does: the answer has a whole end and no ``Connection: close``."""
    chunk = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
    chunk += b"data: [DONE]\n\n"
    answer = json.dumps(whole()).encode()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            streamed = b'"stream":true' in await reader.readexactly(length)
            if streamed:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(chunk), chunk))
                break
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        model = OpenAICompatibleModel("tiny", f"http://127.0.0.1:{port}/v1")
        for _ in range(20):
            assert (await model.request(ASK, silent)).text == "Hi"
            assert (await model.request(ASK)).text == "Hi"
        await model.close()
