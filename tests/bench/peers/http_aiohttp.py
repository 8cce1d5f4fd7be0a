"""aiohttp: a `ClientSession` whose connector may open as many connections as are asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp

from tests.bench.peers.http_course import HEADERS, TIMEOUT, Post


@asynccontextmanager
async def posting(url: str, connections: int) -> AsyncGenerator[Post]:
    connector = aiohttp.TCPConnector(limit=connections)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def post(body: bytes) -> bytes:
            async with session.post(url, data=body, headers=HEADERS) as response:
                response.raise_for_status()
                return await response.read()

        yield post
