"""From what a server handed back to what the model meant: calls in its text, thinking apart.

Invariant: what a model wrote is never lost. Where its text is changed (a call taken out, thinking
set apart), the text as it came is kept beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manyhands.agents.dialects import Parsed, parse
from manyhands.agents.encoding import clean, encode
from manyhands.ports import ModelReply, ToolCall


@dataclass(frozen=True, slots=True)
class Heard:
    """``said``: the text as it came, where ``text`` is another. ``dialect``: that of the calls,
    if they stood in the text. ``repairs``: what was mended; ``errors``: what could not be."""

    text: str
    calls: tuple[ToolCall, ...]
    reasoning: str = ""
    said: str = ""
    dialect: str = ""
    repairs: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def hear(reply: ModelReply, tools: Mapping[str, Mapping[str, Any]]) -> Heard:
    """``tools``: name -> JSON schema of the arguments; without any, only thinking is set apart."""
    text, reasoning = clean(reply.text), clean(reply.reasoning)
    calls = tuple(ToolCall(*map(clean, (c.id, c.name, c.arguments))) for c in reply.tool_calls)
    if not text and (calls or not reasoning):
        return Heard(text, calls, reasoning)
    if calls or not tools:
        found = parse(text, {})
        plain = bool(found.calls or found.errors)  # text about calls: there is none to look for
        return Heard(text, calls, reasoning) if plain else _heard(found, reasoning, text, calls)
    found = parse(text, tools)
    if not (found.calls or found.errors or found.content.strip()) and reasoning:
        # Nothing but thinking: a call in it was meant, if the thought never ended.
        inner = parse(f"<think>{reasoning}", tools)
        if inner.calls:
            return _heard(inner, "", text)
    return _heard(found, reasoning, text)


def _heard(found: Parsed, reasoning: str, text: str, calls: tuple[ToolCall, ...] = ()) -> Heard:
    in_text = (ToolCall(c.id, c.name, encode(c.arguments).decode()) for c in found.calls)
    return Heard(
        text=found.content,
        calls=calls or tuple(in_text),
        reasoning="\n\n".join(part for part in (reasoning, found.reasoning) if part),
        said=text if text != found.content else "",
        dialect=found.dialect if found.calls or found.errors else "",
        repairs=tuple(note for call in found.calls for note in call.notes),
        errors=found.errors,
    )
