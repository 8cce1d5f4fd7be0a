"""A local OpenAI-compatible server that answers from a script: real HTTP, no model."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

from aiohttp import web

from manyhands.errors import (
    ModelError,
    ModelMalformed,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
)
from manyhands.ports import ModelReply, ModelRequest
from manyhands.testing.models import ScriptedModel

#: What a script's errors look like on the wire, besides a refused request and a lost connection.
_BROKEN = b"<html><body>It works!</body></html>"
_FOREVER = 3600.0


class ChatServer:
    """``async with ChatServer(script) as server``: ``server.url`` ends in ``/v1``.

    A `ModelError` of the script becomes what would cause it: 429 with ``Retry-After``, 400, HTML
    with status 200, a silence, a connection that is cut.
    """

    def __init__(self, script: ScriptedModel) -> None:
        self._script = script
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        body = json.loads(await http.read())
        try:
            reply = await self._script.request(_request(body))
        except ModelError as error:
            return await _failed(http, error)
        if body.get("stream"):
            return await _streamed(http, reply)
        return web.json_response(_whole(reply))


def _request(body: dict[str, Any]) -> ModelRequest:
    return ModelRequest(
        messages=[_encode(message) for message in body["messages"]],
        tools=[_encode(tool) for tool in body.get("tools", ())],
        max_tokens=body["max_tokens"],
        temperature=body.get("temperature"),
        seed=body.get("seed"),
        seconds=_FOREVER,
    )


async def _failed(http: web.Request, error: ModelError) -> web.StreamResponse:
    said = {"error": {"message": error.what}}
    if isinstance(error, ModelOverloaded):
        wait = {} if error.retry_after is None else {"Retry-After": f"{error.retry_after:g}"}
        return web.json_response(said, status=429, headers=wait)
    if isinstance(error, ModelRefused):
        return web.json_response(said, status=400)
    if isinstance(error, ModelMalformed):
        return web.Response(body=_BROKEN, content_type="text/html")
    if isinstance(error, ModelTimeout):
        await asyncio.sleep(_FOREVER)
    if http.transport is not None:
        http.transport.abort()
    return web.Response()


def _whole(reply: ModelReply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.tool_calls:
        message["tool_calls"] = _calls(reply)
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    return {"object": "chat.completion", "choices": [choice], "usage": _usage(reply)}


async def _streamed(http: web.Request, reply: ModelReply) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)
    pieces = [{"content": reply.text[at : at + 5]} for at in range(0, len(reply.text), 5)]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *pieces]
    for at, call in enumerate(_calls(reply)):
        told = call["function"]["arguments"]
        call["function"]["arguments"] = ""
        deltas.append({"tool_calls": [{"index": at, **call}]})
        for start in range(0, len(told), 5):
            part = {"function": {"arguments": told[start : start + 5]}}
            deltas.append({"tool_calls": [{"index": at, **part}]})
    events: list[Any] = [
        *({"choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish_reason}]},
        {"choices": [], "usage": _usage(reply)},
    ]
    for event in events:
        await response.write(b"data: " + _encode(event) + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response


def _calls(reply: ModelReply) -> list[dict[str, Any]]:
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in reply.tool_calls
    ]


def _usage(reply: ModelReply) -> dict[str, int] | None:
    if reply.usage is None:
        return None
    put, got = reply.usage.input_tokens, reply.usage.output_tokens
    return {"prompt_tokens": put, "completion_tokens": got, "total_tokens": put + got}


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
