"""Tools of an MCP server, as `ports.ToolServer`.

Invariants: a server is started when it is first needed, and once for all agents of the process; no
call outlives its deadline; a call that may have reached a server which is lost is made again only
where that is known to do no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from mcp import Client, MCPError
from mcp_types import INVALID_PARAMS, Tool

from manyhands.adapters.tool_servers.connection import Connection, Link, Lost
from manyhands.adapters.tool_servers.http import HttpLink
from manyhands.adapters.tool_servers.mending import given_schema
from manyhands.adapters.tool_servers.places import Endpoint, Program
from manyhands.adapters.tool_servers.results import text_of
from manyhands.adapters.tool_servers.stdio import StdioLink
from manyhands.errors import ToolError, ToolServerError
from manyhands.ports import ToolOffer
from manyhands.redaction import Redactor, is_secret

T = TypeVar("T")

MOST_TOOLS = 500
#: Starts without an answer in between, after which a server is left alone.
MOST_STARTS = 3


def never(offer: ToolOffer) -> bool:
    return False


class McpServer:
    """One server; ``async with`` or `close` ends it.

    ``seconds`` bounds a call as a whole, a restart in it included; ``start_seconds`` the start, and
    the list of tools. ``repeatable``: whether a tool may be called again where an earlier call may
    have reached it already.
    """

    def __init__(
        self,
        name: str,
        place: Program | Endpoint,
        *,
        repeatable: Callable[[ToolOffer], bool] = never,
        seconds: float = 60.0,
        start_seconds: float = 60.0,
    ) -> None:
        self._name = name
        self._place = place
        self._repeatable = repeatable
        self._seconds = seconds
        self._start_seconds = start_seconds
        self._known: dict[str, ToolOffer] = {}
        self._connections: list[Connection] = []
        self._opening = asyncio.Lock()
        self._starts = 0
        self._closed = False
        self._redactor = Redactor(filter(is_secret, _handed(place)))

    @property
    def name(self) -> str:
        return self._name

    async def offers(self) -> list[ToolOffer]:
        """What it offers now, in its order, duplicates included."""
        tools = await self._ask(_listed, self._start_seconds, "its list of tools", again=True)
        found = [_offer(each) for each in tools]
        self._known = {each.name: each for each in found}
        return found

    async def call(self, tool: str, arguments: Mapping[str, object]) -> str:
        offer = self._known.get(tool, ToolOffer(tool, "", {}))

        async def request(client: Client) -> Any:
            return await client.call_tool(tool, dict(arguments))

        result = await self._ask(
            request, self._seconds, f"a call of {tool!r}", again=self._repeatable(offer)
        )
        text = text_of(result)
        if result.is_error:
            raise ToolError(text or "the tool says that it failed, and not why")
        return text

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(each.close() for each in self._connections))

    # ---------------------------------------------------------------- asking

    async def _ask(
        self, request: Callable[[Client], Awaitable[T]], seconds: float, what: str, *, again: bool
    ) -> T:
        """``again``: it does no harm if the server gets it twice."""
        try:
            async with asyncio.timeout(seconds):
                return await self._asked(request, what, again=again)
        except TimeoutError:
            raise self._error(
                f"no answer to {what} within {seconds:g} s" + _perhaps(again),
                "raise `seconds` in its table, or ask for less",
            ) from None
        except MCPError as error:
            if error.code == INVALID_PARAMS:
                raise ToolError(f"{what} was refused: {error.message}") from error
            raise self._error(
                f"{what} was answered with error {error.code}: {error.message}", _SEE
            ) from error
        except ToolServerError:
            raise
        except Exception as error:  # the SDK has many
            told = f"{type(error).__name__}: {error}"[:500]
            raise self._error(f"the answer to {what} is not the protocol: {told}", _SEE) from error

    async def _asked(
        self, request: Callable[[Client], Awaitable[T]], what: str, *, again: bool
    ) -> T:
        """Once more, with a server that is started again, where the first one is lost."""
        for last in (False, True):
            connection = await self._connection()
            try:
                answer = await connection.ask(request)
            except Lost as lost:
                if last or (lost.sent and not again):
                    perhaps = _perhaps(again) if lost.sent else ""
                    raise self._error(f"it was lost in {what}{perhaps}: {lost}", _SEE) from lost
            else:
                self._starts = 0
                return answer
        raise AssertionError("the second time answers or raises")

    async def _connection(self) -> Connection:
        async with self._opening:
            if self._closed:
                raise self._error("it is closed", "make a new one")
            if self._connections and self._connections[-1].alive:
                return self._connections[-1]
            if self._starts >= MOST_STARTS:
                raise self._error(f"it was started {self._starts} times and never answered", _SEE)
            return await self._opened()

    async def _opened(self) -> Connection:
        """A new one. Who is cancelled in here leaves none that is half open."""
        self._starts += 1
        connection = Connection(self._link(), self._start_seconds)
        left = [each for each in self._connections if not each.ended]
        self._connections = [*left, connection]
        try:
            await connection.opened()
        except ToolServerError as error:
            raise self._error(error.what, error.next) from error
        except asyncio.CancelledError:
            await connection.close()
            raise
        return connection

    def _link(self) -> Link:
        if isinstance(self._place, Program):
            return StdioLink(self._place)
        return HttpLink(self._place)

    def _error(self, what: str, next: str) -> ToolServerError:
        """What a server said last may be the key that it was handed."""
        told = self._redactor.text(what)
        return ToolServerError(f"tool server {self._name!r}: {told}", next=next)


def _handed(place: Program | Endpoint) -> list[str]:
    if isinstance(place, Program):
        return list(place.env.values())
    return [place.token.get_secret_value()] if place.token else []


_SEE = "see its own log, or try it by hand"


def _perhaps(again: bool) -> str:
    return "" if again else " (it may have happened all the same)"


async def _listed(client: Client) -> list[Tool]:
    tools: list[Tool] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        if len(tools) > MOST_TOOLS:
            raise RuntimeError(f"it offers more than {MOST_TOOLS} tools")
        cursor = page.next_cursor
        if not cursor:
            return tools


def _offer(tool: Tool) -> ToolOffer:
    hints = tool.annotations
    return ToolOffer(
        tool.name,
        tool.description or tool.title or "",
        _schema(tool),
        read_only=bool(hints and hints.read_only_hint),
        idempotent=bool(hints and hints.idempotent_hint),
    )


def _schema(tool: Tool) -> Mapping[str, object]:
    """One that is no object at all says so by its type."""
    given = given_schema(tool.input_schema)
    if isinstance(given, dict):
        return cast(dict[str, object], given)
    return {"type": "none" if given is None else type(given).__name__}
