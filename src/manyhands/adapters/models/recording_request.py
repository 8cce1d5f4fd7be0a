"""A request as a recording knows it: by the hashes of its parts.

Invariants: equal requests have equal hashes in every process; secrets are out before anything is
hashed; what an agent's request shares with the one before it is not hashed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from manyhands.adapters.models.recording_format import RequestLine, Settings
from manyhands.ports import ModelRequest
from manyhands.redaction import Redactor


class Named(NamedTuple):
    """A message, a tool or a schema, and its hash."""

    hash: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """``hash`` is of all that is sent. How long it may take, who asks and who watches is no part
    of it."""

    hash: str
    messages: tuple[Named, ...]
    tools: tuple[Named, ...]
    schema: Named | None
    settings: Settings

    @classmethod
    def of(
        cls,
        messages: tuple[Named, ...],
        tools: tuple[Named, ...],
        schema: Named | None,
        settings: Settings,
    ) -> Shape:
        hashes = [[m.hash for m in messages], [t.hash for t in tools]]
        whole = json.dumps([*hashes, settings.model_dump(mode="json", exclude_none=True)])
        return cls(_digest(whole.encode()), messages, tools, schema, settings)

    def parts(self) -> Iterator[Named]:
        yield from self.messages
        yield from self.tools
        if self.schema is not None:
            yield self.schema

    def line(self, before: Sequence[Named]) -> RequestLine:
        """``before``: the messages of the agent's pair that was written before this one."""
        keep = common(before, self.messages)
        return RequestLine(
            hash=self.hash,
            keep=keep,
            add=tuple(each.hash for each in self.messages[keep:]),
            tools=tuple(each.hash for each in self.tools),
            settings=self.settings,
        )


class Shapes:
    """The requests of one agent to one model, in their order."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._messages: list[tuple[bytes, Named]] = []
        self._tools: list[tuple[bytes, Named]] = []
        self.count = 0

    def of(self, request: ModelRequest) -> Shape:
        self.count += 1
        self._messages = self._named(request.messages, self._messages)
        self._tools = self._named(request.tools, self._tools)
        found = request.response_schema
        schema = None if found is None else self._name(found)
        settings = Settings(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            response_schema=schema and schema.hash,
            tool_choice=request.tool_choice,
            seed=request.seed,
        )
        messages = tuple(named for _, named in self._messages)
        tools = tuple(named for _, named in self._tools)
        return Shape.of(messages, tools, schema, settings)

    def _named(
        self, contents: Sequence[bytes], before: list[tuple[bytes, Named]]
    ) -> list[tuple[bytes, Named]]:
        return [
            before[at]
            if at < len(before) and before[at][0] == content
            else (content, self._name(content))
            for at, content in enumerate(contents)
        ]

    def _name(self, content: bytes) -> Named:
        content = self._redactor.bytes(content)
        return Named(_digest(content), content)


def common(before: Sequence[Named], now: Sequence[Named]) -> int:
    """How many are the same from the beginning on."""
    for at, (left, right) in enumerate(zip(before, now)):
        if left.hash != right.hash:
            return at
    return min(len(before), len(now))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
