"""One malformed tool does not cost the others: it is carried past the SDK, which refuses the list.

Invariant: what `given_schema` returns is the schema as the server sent it, whatever that is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self, cast

from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCResponse

#: Where a schema that the SDK would refuse is put, within one that it takes.
_GIVEN = "manyhands:given"


def given_schema(schema: Mapping[str, Any]) -> Any:
    return schema.get(_GIVEN, schema)


@asynccontextmanager
async def mended(transport: AbstractAsyncContextManager[Any]) -> AsyncGenerator[Any]:
    """``transport``, with lists of tools that the SDK takes."""
    async with transport as (read, write):
        yield _Mended(read), write


class _Mended:
    """A stream of messages. ``last_context``: see the SDK's streams, where there is one."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def last_context(self) -> Any:
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> Any:
        return _mend(await self._inner.receive())

    async def aclose(self) -> None:
        await self._inner.aclose()

    def close(self) -> None:
        self._inner.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return _mend(await self._inner.__anext__())

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)


def _mend(item: Any) -> Any:
    message = item.message if isinstance(item, SessionMessage) else None
    if isinstance(message, JSONRPCResponse) and isinstance(message.result.get("tools"), list):
        tools = cast(list[Any], message.result["tools"])
        # What has no name cannot be spoken of either.
        message.result["tools"] = [_mended_tool(each) for each in tools if _named(each)]
    return item


def _named(tool: Any) -> bool:
    return isinstance(tool, dict) and isinstance(cast(Any, tool).get("name"), str)


def _mended_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """What is only for show is dropped where it is malformed."""
    given = tool.get("inputSchema")
    if not _taken(given):
        tool = tool | {"inputSchema": {"type": "object", _GIVEN: given}}
    fits = {
        "description": isinstance(tool.get("description"), str),
        "title": isinstance(tool.get("title"), str),
        "annotations": isinstance(tool.get("annotations"), dict),
        "outputSchema": _taken(tool.get("outputSchema")),
    }
    return {key: value for key, value in tool.items() if fits.get(key, True)}


def _taken(schema: Any) -> bool:
    """Whether the SDK takes a schema."""
    if not isinstance(schema, dict) or cast(Any, schema).get("type") != "object":
        return False
    found = cast(dict[str, Any], schema)
    properties, required = found.get("properties", {}), found.get("required", [])
    return (
        isinstance(properties, dict)
        and all(isinstance(each, dict | bool) for each in cast(Any, properties).values())
        and isinstance(required, list)
        and all(isinstance(each, str) for each in cast(Any, required))
    )
