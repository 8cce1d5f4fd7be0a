"""What was said, for those who ask for it: messages in the form of the conventions, cut to a limit.

Invariants: without this no span holds a word of a prompt or a reply; what a call was given is told
once, with the call that was given it first, so that a trace grows as the run does; no text is
longer than the limit, and one that was cut says where the whole is.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from manyhands.agents.encoding import clean, loads
from manyhands.agents.request import Attempt
from manyhands.errors import ConfigError
from manyhands.telemetry.names import INPUT, SYSTEM
from manyhands.telemetry.spans import Facts

#: Bytes of one text, where nobody has raised it.
LIMIT = 16_384

#: What a text is cut to, as a person may raise it.
MOST_LIMIT = 64_000_000

_MARKED = re.compile(r"<(data|error) ([0-9a-f]{8})>\n(.*)\n</\1 \2>", re.DOTALL)


def limit_of(wanted: bool, limit: int | None) -> int | None:
    """Bytes of each text (None: what was said is not told). Raises `ConfigError`."""
    if limit is not None and not wanted:
        raise ConfigError(
            f"a limit of {limit} bytes is given, and no content is asked for", next="add --content"
        )
    if limit is not None and limit > MOST_LIMIT:
        raise ConfigError(
            f"a limit of {limit} bytes; at most {MOST_LIMIT}", next="export the run as JSONL"
        )
    return (limit or LIMIT) if wanted else None


@dataclass(frozen=True, slots=True)
class Told:
    """What came into a context: instructions, messages, and the results of calls among them."""

    system: tuple[str, ...] = ()
    messages: tuple[Mapping[str, Any], ...] = ()
    results: tuple[str, ...] = ()

    def then(self, later: Told) -> Told:
        """Before one and the same request."""
        return Told(self.system + later.system, self.messages + later.messages, later.results)

    def facts(self) -> Facts:
        parts = [_part(text) for text in self.system]
        found: Facts = {SYSTEM: _json(parts)} if parts else {}
        return found | ({INPUT: _json(self.messages)} if self.messages else {})


@dataclass(frozen=True, slots=True)
class Content:
    """``limit``: bytes of one text."""

    read: Callable[[str], bytes]
    limit: int = LIMIT

    def text(self, text: str, where: str) -> str:
        """``where``: names the whole of it."""
        found = clean(text)
        size = len(found.encode())
        if size <= self.limit:
            return found
        kept = found.encode()[: self.limit].decode(errors="ignore")
        return f"{kept}…[cut here; {size} bytes in all: {where}]"

    def told(self, changes: Iterable[Mapping[str, Any]]) -> Told:
        """What a record of a context (`agents.context`) added."""
        system: list[str] = []
        messages: list[dict[str, Any]] = []
        results: list[str] = []
        for change in changes:
            if change.get("status") != "added":
                continue
            blob = str(change["blob"])
            message = cast(dict[str, Any], json.loads(self.read(blob)))
            said, role = str(message.get("content") or ""), str(message.get("role"))
            if role == "system":
                system.append(self.text(said, blob))
                continue
            if role == "tool":
                results.append(self.text(_bare(said), blob))
            messages.append({"role": role, "parts": self._parts(message, role, said, blob)})
        return Told(tuple(system), tuple(messages), tuple(results))

    def _parts(
        self, message: Mapping[str, Any], role: str, said: str, blob: str
    ) -> list[dict[str, Any]]:
        if role == "tool":
            id, text = str(message.get("tool_call_id", "")), self.text(said, blob)
            return [{"type": "tool_call_response", "id": id, "response": text}]
        parts = [_part(self.text(said, blob))] if said else []
        for call in message.get("tool_calls") or ():
            function = call["function"]
            parts.append(
                self._call(str(call["id"]), function["name"], str(function["arguments"]), blob)
            )
        return parts

    def said(self, attempt: Attempt, where: str) -> str:
        """A reply, as the list of messages that the conventions want."""
        parts: list[dict[str, Any]] = []
        if attempt.reasoning:
            text = self.text(attempt.reasoning, where)
            parts.append({"type": "reasoning", "content": text})
        if attempt.text:
            parts.append(_part(self.text(attempt.text, where)))
        parts += [self._call(c.id, c.name, c.arguments, where) for c in attempt.calls]
        message: dict[str, Any] = {"role": "assistant", "parts": parts}
        return _json([{**message, "finish_reason": attempt.finish_reason}])

    def _call(self, id: str, name: str, arguments: str, where: str) -> dict[str, Any]:
        given: Any = self.text(arguments, where)
        if len(arguments.encode("utf-8", "replace")) <= self.limit:
            with contextlib.suppress(ValueError):
                given = loads(given)
        return {"type": "tool_call", "id": id, "name": name, "arguments": given}


def _part(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}


def _bare(text: str) -> str:
    found = _MARKED.fullmatch(text)
    return found[3] if found else text


def _json(value: Any) -> str:
    return clean(json.dumps(value, ensure_ascii=False))
