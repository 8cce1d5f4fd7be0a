"""The course that every HTTP client runs: a ready body is posted, the answer's bytes are read.

A client is a module of this package with ``posting(url, connections)``, an async context manager
that yields ``post(body)``. It sends what a model server needs (JSON's content type, a key), reads
the whole answer, and raises for a status that is not 200: what our own adapter asks of a client.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.bench.loop_server import TEXT, answered
from tests.bench.peers.clocks import Span

HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer none"}
#: Seconds: of one request.
TIMEOUT = 300.0

Post = Callable[[bytes], Awaitable[bytes]]


def requests(
    folder: str, client: str, url: str, connections: int, each: int, body_bytes: int
) -> dict[str, Any]:
    """``each`` requests over each of ``connections``, all at once, after one to open each."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    posting: Callable[[str, int], AbstractAsyncContextManager[Post]] = importlib.import_module(
        f"tests.bench.peers.{client}"
    ).posting
    bodies = [_body(number, body_bytes) for number in range(connections)]
    span = Span()

    async def main() -> dict[str, Any]:
        async with posting(f"{url}/chat/completions", connections) as post:

            async def worker(body: bytes, count: int) -> None:
                for _ in range(count):
                    if not (await post(body)).startswith(b'{"id"'):
                        raise AssertionError("not the server's answer")

            await asyncio.gather(*(worker(body, 1) for body in bodies))
            span.begin()
            await asyncio.gather(*(worker(body, each) for body in bodies))
            return span.end(connections * each)

    found = asyncio.run(main())
    if answered(url) != connections * (each + 1):
        raise AssertionError(f"{answered(url)} answers, not {connections * (each + 1)}")
    return found


def _body(number: int, size: int) -> bytes:
    told = (TEXT * (size // len(TEXT) + 1))[:size]
    message = {"role": "user", "content": f"conversation-{number} {told}"}
    return json.dumps({"model": "scripted", "messages": [message]}).encode()
