"""One session with a server, from its start to its end, in a task of its own.

Invariant: the SDK's cancel scopes are entered and left by that task, whoever calls, is cancelled or
closes; when `close` returns, nothing of the session is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar, cast

from mcp import Client, MCPError
from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST, Implementation

from manyhands.adapters.tool_servers.mending import mended
from manyhands.errors import ToolServerError

T = TypeVar("T")

#: How long a server that is lost may take to say why.
_LAST_WORDS = 1.0
#: Longer than a child may take to end.
_FAREWELL = 6.0
#: What the SDK calls an answer that cannot come any more; servers use the same number for others.
_CLOSED = ("Connection closed", "SSE stream")
_EXPIRED = "Session terminated"

# Where nobody set up logging, Python prints warnings of libraries; what they say is in our errors.
for _name in ("mcp", "client"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class Link(Protocol):
    """How a server is reached, once. ``lost``: it cannot be spoken to any more; ``told``: why."""

    @property
    def lost(self) -> asyncio.Event: ...

    def told(self) -> str: ...

    def transport(self) -> AbstractAsyncContextManager[Any]: ...


class Lost(Exception):
    """The session ended before the answer came. ``sent``: the server may have begun."""

    def __init__(self, why: str, *, sent: bool = True) -> None:
        super().__init__(why)
        self.sent = sent


class Connection:
    def __init__(self, link: Link, seconds: float) -> None:
        """``seconds``: for the start, up to the protocol's handshake."""
        self._link = link
        self._seconds = seconds
        self._client: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(), name="tool server")
        self._fault = ""

    @property
    def alive(self) -> bool:
        return not self._task.done() and not self._link.lost.is_set()

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def opened(self) -> None:
        """Returns when it can be used. Raises `ToolServerError`."""
        await asyncio.shield(self._client)

    async def ask(self, request: Callable[[Client], Awaitable[T]]) -> T:
        """Raises `Lost`, and what ``request`` raises. Only after `opened`."""
        if not self.alive:
            raise Lost(await self._why(), sent=False)
        try:
            return await request(self._client.result())
        except MCPError as error:
            if error.code == INVALID_REQUEST and error.message == _EXPIRED:
                await self.close()
                raise Lost("its session has expired", sent=False) from error
            if error.code == CONNECTION_CLOSED and error.message.startswith(_CLOSED):
                raise Lost(await self._why()) from error
            raise

    async def close(self) -> None:
        """Safe to be called twice, and by several at once."""
        while not self._task.done():
            self._task.cancel()
            # A server that does not answer to the farewell either is told nothing more.
            await asyncio.wait([self._task], timeout=_FAREWELL)

    async def _live(self) -> None:
        try:
            async with asyncio.timeout(self._seconds) as limit:
                info = Implementation(name="manyhands", version="0")
                async with Client(
                    cast(Any, mended(self._link.transport())), cache=None, client_info=info
                ) as c:
                    limit.reschedule(None)
                    self._client.set_result(c)
                    await self._link.lost.wait()
        except asyncio.CancelledError:
            self._failed(ToolServerError("it was closed while it was started"))
            raise
        except TimeoutError:
            self._failed(self._not_started(f"no answer within {self._seconds:g} s"))
        except Exception as error:
            self._fault = _reason(error)
            own = isinstance(error, ToolServerError)
            self._failed(error if own else self._not_started(self._fault))

    def _failed(self, error: Exception) -> None:
        if not self._client.done():
            self._client.set_exception(error)
            self._client.exception()  # nobody may be waiting any more

    def _not_started(self, why: str) -> ToolServerError:
        told = "; ".join(part for part in (why, self._link.told()) if part)
        return ToolServerError(
            f"it could not be started: {told}",
            next="run its command by hand, or correct its table in manyhands.toml",
        )

    async def _why(self) -> str:
        """What is known once its end is known, which may take a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                await asyncio.wait([self._task])
        return "; ".join(part for part in (self._link.told(), self._fault) if part)


def _reason(error: BaseException) -> str:
    """The first of what task groups bundle."""
    while isinstance(error, BaseExceptionGroup):
        error = cast(BaseExceptionGroup[BaseException], error).exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
