"""`check_tool_server`: what every `ToolServer` must do, whatever is behind it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from manyhands.errors import ToolError, ToolServerError
from manyhands.ports import ToolServer
from manyhands.testing.tool_servers import PLAYED

#: Opens a server that offers `PLAYED`, with so many seconds for a call.
OpenToolServer = Callable[[float], AbstractAsyncContextManager[ToolServer]]

_TEXT = 'Grüße, 世界 🌍\nand a "quoted" line with a \\ in it.'
_AMPLE = 60.0


async def check_offers(open_server: OpenToolServer) -> None:
    """Names, descriptions, schemas and the server's own word on each, in order and again."""
    expected = [each.offer for each in PLAYED]
    async with open_server(_AMPLE) as server:
        assert server.name
        for _ in range(2):
            found = await server.offers()
            assert [each.name for each in found] == [each.name for each in expected]
            assert found == expected, found


async def check_call(open_server: OpenToolServer) -> None:
    """Text comes back as it was, also without `offers` before it, and also a long one."""
    async with open_server(_AMPLE) as server:
        assert await server.call("echo", {"text": _TEXT}) == _TEXT
        long = _TEXT * 5000
        assert await server.call("echo", {"text": long}) == long
        assert await server.call("add", {"a": 19, "b": 23}) == "42"


async def check_at_once(open_server: OpenToolServer) -> None:
    """Calls at once each get their own answer, and a slow one holds no other back."""
    async with open_server(_AMPLE) as server:
        slow = asyncio.ensure_future(server.call("wait", {"seconds": 3600}))
        asked = [str(n) for n in range(16)]
        answers = await asyncio.gather(*(server.call("echo", {"text": each}) for each in asked))
        assert answers == asked
        assert not slow.done()
        await _cancelled(slow)


async def check_once(open_server: OpenToolServer) -> None:
    """A call is one call; the server is the same for all of them."""
    async with open_server(_AMPLE) as server:
        counts = [await server.call("count", {}) for _ in range(3)]
    assert counts == ["1", "2", "3"]


async def check_errors(open_server: OpenToolServer) -> None:
    """What the tool says of its failure is for the model; the next call works."""
    async with open_server(_AMPLE) as server:
        error = await _error_of(server.call("fail", {"why": _TEXT}))
        assert isinstance(error, ToolError), error
        assert _TEXT in str(error)
        unknown = await _error_of(server.call("no_such_tool", {}))
        assert isinstance(unknown, ToolError | ToolServerError)
        assert await server.call("echo", {"text": "works"}) == "works"


async def check_deadline(open_server: OpenToolServer) -> None:
    """No call outlives its time."""
    async with open_server(5.0) as server:
        await server.offers()
        begun = time.monotonic()
        error = await _error_of(server.call("wait", {"seconds": 3600}))
        assert isinstance(error, ToolServerError), error
        assert time.monotonic() - begun < 30
        assert "may have happened" in str(error)
        assert await server.call("echo", {"text": "works"}) == "works"


async def check_cancel(open_server: OpenToolServer) -> None:
    """A cancelled call ends as cancelled, and the next one works."""
    async with open_server(_AMPLE) as server:
        await server.offers()
        task = asyncio.ensure_future(server.call("wait", {"seconds": 3600}))
        await asyncio.sleep(0.1)
        await _cancelled(task)
        assert await server.call("echo", {"text": "works"}) == "works"


async def check_close(open_server: OpenToolServer) -> None:
    """Closing twice is closing once; after it nothing is started again."""
    async with open_server(_AMPLE) as server:
        await server.call("echo", {"text": "a"})
        await server.close()
        await server.close()
        assert isinstance(await _error_of(server.call("echo", {"text": "a"})), ToolServerError)


async def check_close_while_busy(open_server: OpenToolServer) -> None:
    """A call that is under way when the server is closed ends in an error."""
    async with open_server(_AMPLE) as server:
        await server.offers()
        task = asyncio.ensure_future(server.call("wait", {"seconds": 3600}))
        await asyncio.sleep(0.1)
        await server.close()
        assert isinstance(await _error_of(task), ToolServerError)


TOOL_SERVER_CHECKS: tuple[Callable[[OpenToolServer], Awaitable[None]], ...] = (
    check_offers,
    check_call,
    check_at_once,
    check_once,
    check_errors,
    check_deadline,
    check_cancel,
    check_close,
    check_close_while_busy,
)


async def check_tool_server(open_server: OpenToolServer) -> None:
    """Run them all; raises AssertionError at the first that fails."""
    for check in TOOL_SERVER_CHECKS:
        await check(open_server)


async def _cancelled(task: asyncio.Future[str]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def _error_of(call: Awaitable[str]) -> Exception:
    try:
        answer = await call
    except (ToolError, ToolServerError) as error:
        return error
    raise AssertionError(f"answered {answer!r} in place of an error")
