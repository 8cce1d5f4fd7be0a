"""httpx: an `AsyncClient` that may keep as many connections open as it is asked to use."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx

from tests.bench.peers.http_course import HEADERS, TIMEOUT, Post


@asynccontextmanager
async def posting(url: str, connections: int) -> AsyncGenerator[Post]:
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(limits=limits, timeout=TIMEOUT) as client:

        async def post(body: bytes) -> bytes:
            response = await client.post(url, content=body, headers=HEADERS)
            response.raise_for_status()
            return response.content

        yield post
