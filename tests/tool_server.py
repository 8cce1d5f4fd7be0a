"""A real MCP server, written with the official SDK, that plays `manyhands.testing`'s tools.

Run as a script it speaks over its standard streams; `served` puts it on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

import manyhands
from manyhands.adapters.tool_servers.places import Program
from manyhands.errors import ToolError
from manyhands.testing.tool_servers import PLAYED

#: A child gets nothing of our environment, so where the package lies is handed to it.
PROGRAM = Program(
    sys.executable,
    (__file__,),
    env={"PYTHONPATH": str(Path(manyhands.__file__).resolve().parents[1])},
)


def played() -> Server[Any]:
    counts: dict[str, int] = {}
    tools = {each.offer.name: each for each in PLAYED}

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        """In pages of two."""
        start = int(params.cursor or 0) if params else 0
        page = [_tool(each.offer) for each in PLAYED[start : start + 2]]
        more = start + 2 < len(PLAYED)
        return types.ListToolsResult(tools=page, next_cursor=str(start + 2) if more else None)

    async def call_tool(context: Any, params: Any) -> types.CallToolResult:
        if params.name not in tools:
            return _said(f"unknown tool {params.name}", error=True)
        before = counts.get(params.name, 0)
        counts[params.name] = before + 1
        try:
            return _said(await tools[params.name].fn(params.arguments or {}, before))
        except ToolError as error:
            return _said(error.what, error=True)

    return Server("played", on_list_tools=list_tools, on_call_tool=call_tool)


def _tool(offer: Any) -> types.Tool:
    return types.Tool(
        name=offer.name,
        description=offer.description,
        input_schema=dict(offer.schema),
        annotations=types.ToolAnnotations(
            read_only_hint=offer.read_only, idempotent_hint=offer.idempotent
        ),
    )


def _said(text: str, *, error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=error)


@asynccontextmanager
async def served(app: Any = None, port: int = 0) -> AsyncGenerator[str]:
    """The URL of a server over streamable HTTP in this process."""
    app = app or played().streamable_http_app()
    listener = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 - it has no event for this
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 5)
        listener.close()


async def main() -> None:
    server = played()
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main())
