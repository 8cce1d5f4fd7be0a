"""From a text to its parts: detection, the walk, and arguments that fit their tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from manyhands.agents.arguments import fit
from manyhands.agents.dialects import harmony
from manyhands.agents.dialects.marks import speech, without_ends
from manyhands.agents.dialects.outcome import Block, Call, Parsed, ParsedCall, Source
from manyhands.agents.dialects.table import DIALECTS
from manyhands.agents.dialects.walk import Pieces, walk, walk_harmony
from manyhands.agents.literals import writable
from manyhands.errors import ConfigError, ToolError

#: Errors that a model is told one by one.
_MOST_ERRORS = 20


def parse(text: str, tools: Mapping[str, Mapping[str, Any]], *, dialect: str = "") -> Parsed:
    """The calls, the reasoning and the rest of a model's answer.

    ``tools``: the names that may be called, each with the JSON schema of its arguments.
    ``dialect``: one of `DIALECTS`, when it is known; else it is detected. A call whose arguments
    do not fit its tool is left out, with the violations in ``errors``. Never raises on a text;
    `ConfigError` for an unknown dialect.
    """
    check(dialect)
    if dialect in ("", harmony.NAME) and harmony.speaks(text):
        source = Source(text, tools)
        return _parsed(source, walk_harmony(source))
    source = Source(without_ends(text), tools)
    return _parsed(source, walk(source, speech(dialect)))


def check(dialect: str) -> None:
    """Raises `ConfigError` for a dialect that there is not."""
    if dialect and dialect not in DIALECTS:
        raise ConfigError(
            f"there is no dialect {dialect!r}; there are: {', '.join(DIALECTS)}",
            next="name one of them, or none to have it detected",
        )


def _parsed(source: Source, pieces: Pieces) -> Parsed:
    calls: list[ParsedCall] = []
    errors: list[str] = []
    for block in pieces.blocks:
        for call in block.calls:
            _fit(source, call, calls, errors)
        errors.extend(block.errors)
    reasoning = "\n\n".join(part.strip() for part in pieces.reasoning if part.strip())
    dialect = _dialect(pieces.blocks)
    if len(errors) > _MOST_ERRORS:
        more = f"{len(errors) - _MOST_ERRORS} more calls could not be read, and were not run."
        errors = [*errors[:_MOST_ERRORS], more]
    return Parsed(dialect, reasoning, pieces.content, tuple(calls), tuple(errors))


def _fit(source: Source, call: Call, calls: list[ParsedCall], errors: list[str]) -> None:
    """The call with arguments that fit; text that a dialect has instead of types is no coercion."""
    if not writable(call.arguments):
        why = "a string has half of a surrogate pair, which is no character"
        errors.append(f"The call of `{call.name}` was not run: {why}. Write it again without.")
        return
    if call.name not in source.tools:
        calls.append(ParsedCall(call.name, call.arguments, call.id, call.notes))
        return
    try:
        fitted = fit(call.arguments, source.tools[call.name])
    except ToolError as error:
        errors.append(f"The call of `{call.name}` was not run: {error}")
        return
    notes = call.notes if call.raw else (*call.notes, *fitted.notes)
    calls.append(ParsedCall(call.name, fitted.arguments, call.id, notes))


def _dialect(blocks: Iterable[Block]) -> str:
    """The one of the calls, before that of an error."""
    named = sorted(blocks, key=lambda block: not block.calls)
    return named[0].dialect if named else ""
