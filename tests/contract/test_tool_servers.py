"""One suite for every tool server: the fake, and MCP over both of its transports."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from manyhands.adapters.tool_servers.mcp_server import McpServer
from manyhands.adapters.tool_servers.places import Endpoint
from manyhands.ports import ToolServer
from manyhands.testing import TOOL_SERVER_CHECKS, FakeToolServer, check_tool_server
from manyhands.testing.check_tool_servers import OpenToolServer
from manyhands.testing.tool_servers import PLAYED
from tests import tool_server


@asynccontextmanager
async def fake(seconds: float) -> AsyncGenerator[ToolServer]:
    yield FakeToolServer(PLAYED, seconds=seconds)


@asynccontextmanager
async def over_stdio(seconds: float) -> AsyncGenerator[ToolServer]:
    server = McpServer("stdio", tool_server.PROGRAM, seconds=seconds)
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def over_http(seconds: float) -> AsyncGenerator[ToolServer]:
    async with tool_server.served() as url:
        server = McpServer("http", Endpoint(url), seconds=seconds)
        try:
            yield server
        finally:
            await server.close()


@pytest.mark.parametrize("open_server", [fake, over_stdio, over_http], ids=lambda f: f.__name__)
@pytest.mark.parametrize("check", TOOL_SERVER_CHECKS, ids=lambda f: f.__name__)
async def test_tool_server(
    check: Callable[[OpenToolServer], Awaitable[None]], open_server: OpenToolServer
) -> None:
    await check(open_server)


async def test_check_tool_server_finds_one_that_calls_twice() -> None:
    class Twice(FakeToolServer):
        async def call(self, tool: str, arguments: Mapping[str, object]) -> str:
            await super().call(tool, arguments)
            return await super().call(tool, arguments)

    @asynccontextmanager
    async def twice(seconds: float) -> AsyncGenerator[ToolServer]:
        yield Twice(PLAYED, seconds=seconds)

    with pytest.raises(AssertionError):
        await check_tool_server(twice)
