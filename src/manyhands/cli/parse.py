"""`manyhands parse`: a model's text in, the calls that it spells out, as JSON."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from manyhands.agents.arguments import schema_problem
from manyhands.agents.dialects import DIALECTS, StreamParser, check, parse
from manyhands.errors import ConfigError

_SHAPES = (
    "use an OpenAI `tools` list, a list of {name, parameters}, or a mapping of names to schemas"
)


def parse_text(
    tools: Annotated[
        Path | None,
        typer.Option(help="JSON: an OpenAI `tools` list, or a mapping of names to schemas."),
    ] = None,
    dialect: Annotated[str, typer.Option(help="See --list. Default: detect it.")] = "",
    stream: Annotated[
        bool, typer.Option("--stream", help="Feed the text in small pieces; the result is equal.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the dialects as JSON.")] = False,
) -> None:
    """Read a model's text on standard input; print its tool calls as one JSON object.

    The object: `{"dialect": …, "reasoning": …, "content": …, "calls": [{"name": …, "arguments":
    {…}}], "errors": […]}`. A call that was begun and cannot be read, or whose arguments do not fit
    its tool, stands in `errors` and not in `calls`; the exit code is 0 all the same.

    Examples:

    `echo '[add(a=1, b="2")]' | manyhands parse --tools tools.json`

    `manyhands parse --tools tools.json --dialect qwen3-coder --stream < reply.txt`

    `manyhands parse --list`
    """
    if list_:
        _print(DIALECTS)
        return
    check(dialect)
    known = read_tools(tools)
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    if stream:
        parser = StreamParser(known, dialect=dialect)
        for chunk in _chunks(text):
            parser.feed(chunk)
        found = parser.finish()
    else:
        found = parse(text, known, dialect=dialect)
    calls: list[dict[str, Any]] = []
    for call in found.calls:
        shown: dict[str, Any] = {"name": call.name, "arguments": call.arguments}
        shown |= {"id": call.id} if call.id else {}
        calls.append(shown | ({"notes": call.notes} if call.notes else {}))
    _print(
        {
            "dialect": found.dialect or None,
            "reasoning": found.reasoning,
            "content": found.content,
            "calls": calls,
            "errors": found.errors,
        }
    )


def read_tools(path: Path | None) -> dict[str, Mapping[str, Any]]:
    """Names and the JSON schemas of their arguments. Raises `ConfigError`."""
    if path is None:
        raise ConfigError("no tools were named", next="give --tools FILE; " + _SHAPES)
    try:
        found: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}", next=_SHAPES) from error
    if isinstance(found, dict) and isinstance(cast(Any, found).get("tools"), list):
        found = cast(Any, found)["tools"]
    if isinstance(found, list):
        pairs = [_named(path, i, each) for i, each in enumerate(cast(list[Any], found))]
    elif isinstance(found, dict):
        pairs = list(cast(dict[str, Any], found).items())
    else:
        raise ConfigError(f"{path} holds neither a list nor a mapping", next=_SHAPES)
    tools: dict[str, Mapping[str, Any]] = {}
    for name, schema in pairs:
        fits = isinstance(schema, dict)
        why = schema_problem(cast(Any, schema)) if fits else "it is not a JSON object"
        if why:
            raise ConfigError(f"{path}: the schema of {name!r} is not usable: {why}", next=_SHAPES)
        if name in tools:
            raise ConfigError(f"{path}: two tools are called {name!r}", next="rename one of them")
        tools[name] = cast(dict[str, Any], schema)
    return tools


def _named(path: Path, i: int, tool: Any) -> tuple[str, Any]:
    inner: Any = cast(Any, tool).get("function", tool) if isinstance(tool, dict) else None
    name: Any = cast(Any, inner).get("name") if isinstance(inner, dict) else None
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{path}: tool {i} has no name", next=_SHAPES)
    found = cast(dict[str, Any], inner)
    keys = ("parameters", "input_schema", "inputSchema")
    none: Any = {}
    return name, next((found[key] for key in keys if found.get(key) is not None), none)


def _chunks(text: str) -> list[str]:
    """The text in pieces of 1 to 8 characters, the same ones every time."""
    dice = random.Random(len(text))
    chunks: list[str] = []
    at = 0
    while at < len(text):
        size = dice.randint(1, 8)
        chunks.append(text[at : at + size])
        at += size
    return chunks


def _print(value: Any) -> None:
    """JSON, in characters that the terminal can hold; half of a surrogate pair is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")
