"""What a person who drives may type: one line, one order.

Invariant: a line that is not understood is never an order; what it should have been is said.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, cast

from manyhands.errors import ConfigError

_LOOKS = ("tools", "messages", "show", "calls", "report", "help")
_ENDS = ("note", "back", "leave")

_USAGE = """\
look    tools · messages · show N · calls · report
do      TOOL {"argument": …}       one of the agent's tools, in its workspace, on its budget
        say TEXT                   a message that its model is shown next
        put NAME TEXT              a new version of an artifact
edit    edit N TEXT · drop N       what its model is shown next
        args N {…} · skip N        a call that waits to be run: its arguments, or not at all
        result N TEXT              the result of a call, in the place of what it is
        model NAME                 another model of its chain
        report {…}                 what it reports, in its output's form
back    note TEXT, then back [continue | retry | replace]
        finish {…}                 with this report
        leave                      keep it on hold"""


@dataclass(frozen=True)
class Command:
    """``act``: the order to the agent; ``shows``: it only looks."""

    word: str
    text: str = ""
    act: dict[str, Any] = field(default_factory=dict[str, Any])
    said: str = ""

    @property
    def shows(self) -> bool:
        return self.word in _LOOKS and not self.act


def usage() -> str:
    return _USAGE


def parse_line(line: str, tools: Collection[str] | None = None) -> Command:
    """``tools``: names of tools (None: any other word is one). Raises `ConfigError`."""
    word, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if not word or word in _ENDS or (word in _LOOKS and not (word == "report" and rest)):
        if word == "show" and not rest.isdigit():
            raise _wrong(line, "show N")
        return Command(word, rest, said=line)
    act = _act(line, word, rest)
    if act is None:
        if tools is not None and word not in tools and word != "call":
            raise ConfigError(
                f"there is no order and no tool {word!r}", next="help says what there is"
            )
        name, text = (word, rest) if word != "call" else _two(line, rest, "call TOOL {…}")
        act = {"do": "call", "tool": name, "arguments": _object(line, text or "{}")}
    return Command(word, rest, act, line)


def _act(line: str, word: str, rest: str) -> dict[str, Any] | None:
    match word:
        case "say":
            return {"do": "say", "text": rest}
        case "put":
            name, text = _two(line, rest, "put NAME TEXT")
            return {"do": "put", "name": name, "content": text}
        case "edit":
            at, text = _numbered(line, rest, "edit N TEXT")
            return {"do": "edit", "at": at, "text": text}
        case "drop":
            return {"do": "drop", "at": _numbered(line, rest, "drop N")[0]}
        case "args":
            at, text = _numbered(line, rest, "args N {…}")
            return {"do": "edit_call", "call": at, "arguments": _object(line, text)}
        case "skip":
            at, _ = _numbered(line, rest, "skip N")
            return {"do": "edit_call", "call": at, "arguments": None}
        case "result":
            at, text = _numbered(line, rest, "result N TEXT")
            return {"do": "result", "call": at, "text": text}
        case "model":
            return {"do": "model", "name": rest}
        case "report" | "finish":
            return {"do": "report", "value": _any(rest)}
        case _:
            return None


def _two(line: str, rest: str, form: str) -> tuple[str, str]:
    name, _, text = rest.partition(" ")
    if not name:
        raise _wrong(line, form)
    return name, text.strip()


def _numbered(line: str, rest: str, form: str) -> tuple[int, str]:
    number, text = _two(line, rest, form)
    if not number.isdigit():
        raise _wrong(line, form)
    return int(number), text


def _object(line: str, text: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{line!r}: {error}", next='give one JSON object: {"name": …}') from error
    if not isinstance(found, dict):
        raise ConfigError(f"{line!r}: not a JSON object", next='give {"name": …}')
    return cast(dict[str, Any], found)


def _any(text: str) -> Any:
    """JSON; what is none is plain text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _wrong(line: str, form: str) -> ConfigError:
    return ConfigError(f"{line!r} is not understood", next=f"write {form}")
