"""MCP over a child's standard streams, as a transport of the official SDK.

Invariant: what a server says is bounded: one message, and all that answers nothing (notifications,
text that is no message) since the last answer. A server over the limit is given up.

The SDK has such a transport, too. It keeps a line however long it grows, prints a traceback for
every line that is not JSON, and gives a server with children to nobody when this program is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCResponse, jsonrpc_message_adapter

from manyhands.adapters.tool_servers.child import Child
from manyhands.adapters.tool_servers.places import Program

#: Bytes between two answers. Progress and log messages of a long call are far below.
MOST_UNASKED = 16_000_000

Incoming = MemoryObjectSendStream[SessionMessage | Exception]
Outgoing = MemoryObjectReceiveStream[SessionMessage]


class StdioLink:
    """One life of a server as a child process."""

    def __init__(self, program: Program) -> None:
        self._child = Child(program)
        self._noise = ""

    @property
    def lost(self) -> asyncio.Event:
        return self._child.lost

    def told(self) -> str:
        noise = f"it printed what is no message: {self._noise}" if self._noise else ""
        return "; ".join(part for part in (self._child.told(), noise) if part)

    @asynccontextmanager
    async def transport(self) -> AsyncGenerator[Any]:
        incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._child.start()
            tasks.append(asyncio.create_task(self._hear(incoming)))
            tasks.append(asyncio.create_task(self._speak(outgoing)))
            yield read, write
        finally:
            with anyio.CancelScope(shield=True):
                await _finished(asyncio.create_task(self._end(tasks)))
            for stream in (incoming, read, write, outgoing):
                stream.close()

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        await self._child.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self, incoming: Incoming) -> None:
        unasked = 0
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while line := await self._child.line():
                message = self._message(line)
                answer = isinstance(message, JSONRPCResponse | JSONRPCError)
                unasked = 0 if answer else unasked + len(line)
                if unasked > MOST_UNASKED:
                    self._child.fault = f"it said more than {MOST_UNASKED:,} bytes unasked"
                    break
                if message is not None:
                    await incoming.send(SessionMessage(message))
        # Before the stream ends: who waits for an answer is then told that there is none.
        self.lost.set()
        incoming.close()

    def _message(self, line: bytes) -> Any:
        try:
            return jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            self._noise = self._noise or repr(line[:80].decode("utf-8", "replace").strip())
            return None

    async def _speak(self, outgoing: Outgoing) -> None:
        with contextlib.suppress(OSError):
            async for each in outgoing:
                text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                await self._child.send(text.encode())
        outgoing.close()


async def _finished(task: asyncio.Task[None]) -> None:
    """Wait for its end, however often this one is cancelled meanwhile."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
