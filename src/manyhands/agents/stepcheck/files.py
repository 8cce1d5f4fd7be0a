"""Files of traces: which form they have, and their steps.

Invariant: the form is told from the content, never from the name; what has no known form is an
error that names the file, what it holds and what it could hold.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from manyhands.agents.stepcheck.chat import SHAPES, from_messages, from_turns
from manyhands.agents.stepcheck.otlp import from_otlp
from manyhands.agents.stepcheck.records import Read
from manyhands.errors import ConfigError

#: Keys under which a list of turns may lie.
_LISTS = ("messages", "turns", "history", "trajectory", "conversation", "steps", "trace")
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_NEXT = f"{SHAPES}; one OTLP document a line is read as well"


def read_trace(path: Path) -> Read:
    """The steps in a file. Raises `ConfigError` naming the file, and the position in it."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}", next="name a readable UTF-8 file") from error
    return read_document(_document(path, text), str(path))


def _document(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [line for line in text.splitlines() if line.strip()]
        whole = len(lines) < 2
        first = error
    found: list[Any] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            what = str(first) if whole or number == 1 else f"line {number}: {error}"
            raise ConfigError(f"{path}: not JSON: {what}", next=_NEXT) from error
    if found and all(isinstance(each, dict) and "resourceSpans" in each for each in found):
        return {"resourceSpans": [r for each in found for r in each["resourceSpans"]]}
    return found


def read_document(document: Any, where: str) -> Read:
    """The steps in a JSON value of any of the forms; ``where`` names it in errors.

    Raises `ConfigError` for anything else.
    """
    try:
        return _read(document, where)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        what = f"a field has another form than such a trace has: {type(error).__name__}: {error}"
        raise ConfigError(f"{where}: {what}", next=_NEXT) from error


def _read(document: Any, where: str) -> Read:
    tools: Any = None
    if isinstance(document, dict):
        found = cast(dict[str, Any], document)
        if "resourceSpans" in found:
            return from_otlp(found, where=where)
        key = next((key for key in _LISTS if isinstance(found.get(key), list)), "")
        if not key:
            told = ", ".join(map(str, found)) or "nothing"
            raise ConfigError(f"{where}: an object with {told}: no trace", next=_NEXT)
        tools, document, where = found.get("tools"), found[key], f"{where}: {key}"
    if not isinstance(document, list):
        raise ConfigError(f"{where}: a {type(document).__name__}: no trace", next=_NEXT)
    turns = cast(list[Any], document)
    if not turns:
        raise ConfigError(f"{where}: an empty list: no trace", next=_NEXT)
    if _are_messages(turns):
        return from_messages(turns, tools, where=where)
    return from_turns(turns, where=where)


def _are_messages(turns: list[Any]) -> bool:
    """Every turn has a role of the chat API, the model's among them, and none an agent."""
    roles = [cast(Any, turn).get("role") for turn in turns if isinstance(turn, dict)]
    named = any(isinstance(turn, dict) and "agent" in turn for turn in turns)
    known = all(isinstance(role, str) and role in _ROLES for role in roles)
    return len(roles) == len(turns) and known and "assistant" in roles and not named
