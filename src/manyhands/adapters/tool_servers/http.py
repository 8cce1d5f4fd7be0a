"""MCP over streamable HTTP: the official SDK's transport, with bodies of bounded size.

Invariant: the token is sent to the address that was configured and to no other; the SDK follows
redirects within one origin only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2
from mcp.client.streamable_http import streamable_http_client

from manyhands.adapters.tool_servers.places import Endpoint

#: Of one answer, and of all that a stream brings; the SDK limits single events to 1 MB by itself.
MOST_BYTES = 16_000_000
#: A server may hold an answer back for as long as its tool works: a call has its own deadline.
_TIMEOUT = httpx2.Timeout(30.0, read=None)


class HttpLink:
    """One session with a server over HTTP."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._status = 0
        #: Never set: the SDK's own transport ends the session where it is lost.
        self.lost = asyncio.Event()

    def told(self) -> str:
        wrong = {
            401: "is the token right (token_env)?",
            403: "may the token be used for this?",
            404: "is the path of the URL right?",
        }
        if not self._status:
            return ""
        return f"it answered with HTTP {self._status}: {wrong.get(self._status, 'see its log')}"

    @asynccontextmanager
    async def transport(self) -> AsyncGenerator[Any]:
        # What comes compressed could not be counted before it is unpacked.
        headers = {"Accept-Encoding": "identity"}
        if self._endpoint.token is not None:
            headers["Authorization"] = f"Bearer {self._endpoint.token.get_secret_value()}"
        async with (
            httpx2.AsyncClient(
                headers=headers, timeout=_TIMEOUT, event_hooks={"response": [self._received]}
            ) as client,
            streamable_http_client(self._endpoint.url, http_client=client) as streams,
        ):
            yield streams

    async def _received(self, response: httpx2.Response) -> None:
        if response.request.method == "POST":
            self._status = response.status_code if response.status_code >= 400 else 0
        stream = cast(httpx2.AsyncByteStream, response.stream)
        response.stream = _Bounded(stream)


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner
        self._taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._inner:
            self._taken += len(piece)
            if self._taken > MOST_BYTES:
                raise httpx2.StreamError(f"the answer is longer than {MOST_BYTES:,} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()
