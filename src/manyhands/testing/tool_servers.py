"""A tool server out of functions, and the tools that the conformance suite has played."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manyhands.errors import ToolError, ToolServerError
from manyhands.ports import ToolOffer


@dataclass(frozen=True, slots=True)
class PlayedTool:
    """``fn`` takes the arguments, and how often it was called before."""

    offer: ToolOffer
    fn: Callable[[Mapping[str, Any], int], Awaitable[str]]


class FakeToolServer:
    """Implements `ports.ToolServer` in this process. ``calls``: what it was asked, in order."""

    def __init__(
        self, tools: Sequence[PlayedTool], *, name: str = "fake", seconds: float = 60.0
    ) -> None:
        self._tools = {each.offer.name: each for each in tools}
        self._name = name
        self._seconds = seconds
        self._busy: set[asyncio.Future[str]] = set()
        self._closed = False
        self.calls: list[tuple[str, dict[str, object]]] = []

    @property
    def name(self) -> str:
        return self._name

    async def offers(self) -> list[ToolOffer]:
        return [each.offer for each in self._tools.values()]

    async def call(self, tool: str, arguments: Mapping[str, object]) -> str:
        if self._closed:
            raise ToolServerError(f"tool server {self._name!r}: it is closed")
        if tool not in self._tools:
            raise ToolError(f"there is no tool {tool!r}")
        before = sum(name == tool for name, _ in self.calls)
        self.calls.append((tool, dict(arguments)))
        task = asyncio.ensure_future(self._tools[tool].fn(arguments, before))
        self._busy.add(task)
        try:
            return await asyncio.wait_for(task, self._seconds)
        except TimeoutError:
            raise self._late(f"no answer within {self._seconds:g} s") from None
        except asyncio.CancelledError:
            if self._closed:
                raise self._late("it was closed") from None
            raise
        finally:
            self._busy.discard(task)

    def _late(self, why: str) -> ToolServerError:
        return ToolServerError(
            f"tool server {self._name!r}: {why} (it may have happened all the same)"
        )

    async def close(self) -> None:
        self._closed = True
        for task in self._busy:
            task.cancel()


# ---------------------------------------------------------------- what is played


async def _echo(arguments: Mapping[str, Any], before: int) -> str:
    return str(arguments["text"])


async def _add(arguments: Mapping[str, Any], before: int) -> str:
    return str(arguments["a"] + arguments["b"])


async def _count(arguments: Mapping[str, Any], before: int) -> str:
    return str(before + 1)


async def _fail(arguments: Mapping[str, Any], before: int) -> str:
    raise ToolError(str(arguments["why"]))


async def _wait(arguments: Mapping[str, Any], before: int) -> str:
    await asyncio.sleep(arguments["seconds"])
    return "waited"


def _schema(**types: str) -> dict[str, object]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in types.items()},
        "required": list(types),
    }


PLAYED: tuple[PlayedTool, ...] = (
    PlayedTool(ToolOffer("echo", "Says it again.", _schema(text="string"), read_only=True), _echo),
    PlayedTool(ToolOffer("add", "Adds.", _schema(a="integer", b="integer"), idempotent=True), _add),
    PlayedTool(ToolOffer("count", "Counts its calls.", _schema()), _count),
    PlayedTool(ToolOffer("fail", "Fails.", _schema(why="string")), _fail),
    PlayedTool(ToolOffer("wait", "Waits.", _schema(seconds="number"), read_only=True), _wait),
)
