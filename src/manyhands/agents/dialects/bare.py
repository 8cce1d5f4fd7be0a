"""Calls without a mark: JSON or functions on lines of their own or in a fence, and ReAct.

Invariant: such a call fills whole lines or a whole fence, names a tool that exists, gives its
arguments as an object and has nothing beside them: else it is data about a tool. Where no dialect
was named, and in a fence, it also ends the text: what is followed by prose is an example. Only a
`tool_code` fence, which is no example language, is a call wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from manyhands.agents.dialects.functions import read_call, read_calls
from manyhands.agents.dialects.marks import Speech
from manyhands.agents.dialects.objects import elements, named_call, read_whole
from manyhands.agents.dialects.outcome import Block, Call, Source, failed
from manyhands.agents.literals import Broken, read_json, skip

_BEGINS = (
    r"[ \t]*(?:(?P<fence>(?P<run>`{3,}|~{3,})[ \t]*(?P<info>[\w+-]*)[ \t]*\n\s*)"
    r"|(?P<react>Action:)|(?=[{\[]))"
)
_HERE = re.compile(_BEGINS, re.M)
_START = re.compile(f"^{_BEGINS}", re.M)
_JSON_INFO = frozenset({"", "json", "tool_call", "tool_calls", "tool", "tool_code"})
_CODE_INFO = frozenset({"", "python", "py", "tool_code", "tool_call"})
_CALL_KEYS = frozenset({"name", "tool_name", "function_name", "tool", "function", "type", "index"})
_ARGUMENT_KEYS = frozenset({"arguments", "parameters", "args", "params", "input", "tool_input"})
_ID_KEYS = frozenset({"id", "tool_call_id", "call_id"})
_FENCE = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*(?P<info>\w*)")
#: Attempts to read a call in one text; each may go through much of it.
_MOST_FAILURES = 64
_LINK = re.compile(r"\[[^\]\n]*\]\(")
_NOTHING = re.compile(r"(?!)")
_REACT = "react"
_AFTER_ACTION = re.compile(r"\s*(?:(?:Observation|Thought|Action):|\Z)")
_JSON = re.compile(r"\{\s*[\"'}\w]|\[\s*\{")


class _NoCall(Broken):
    """JSON that is whole and is something else than a call."""


@dataclass(slots=True)
class _Bare:
    """What is looked for in one text. ``reached``: up to here it was read, as a call or not."""

    source: Source
    speech: Speech
    begins: re.Pattern[str]
    calls: re.Pattern[str]
    start: int
    reached: int = 0
    other: int = 0  # where JSON ends that is no call
    failures: int = 0

    def dialect(self, *shapes: str) -> str:
        return next((self.speech.bare[each] for each in shapes if each in self.speech.bare), "")


def every(source: Source, speech: Speech, start: int) -> Iterator[Block]:
    """All stretches from ``start`` on in which a mark is payload: calls without a mark, the wrecks
    of them, and (as blocks without calls) JSON that is something else."""
    if not speech.bare:
        return iter(())
    return _blocks(_listen(source, speech, start), start, len(source.text), whole=True)


def first(source: Source, speech: Speech, at: int) -> Block | None:
    """The one that begins right at ``at``."""
    found = _HERE.match(source.text, at) if speech.bare else None
    bare = _listen(source, speech, at)
    return (_block(bare, found) or _other(bare, found)) if found else None


def find(source: Source, speech: Speech, start: int, end: int) -> list[Block]:
    """The calls in ``text[start:end]``; with a strict speech only those that end it."""
    blocks = list(_blocks(_listen(source, speech, start), start, end))
    if blocks and blocks[0].dialect == _REACT:
        return _acted(source, blocks)
    return _meant(source.text, speech, blocks, end)


def _listen(source: Source, speech: Speech, start: int) -> _Bare:
    known = source.known
    return _Bare(
        source,
        speech,
        # A call that certainly was begun, and so is worth an error when it cannot be read.
        re.compile(
            rf"\[?\s*\{{\s*(?:\"type\"\s*:\s*\"function\"\s*,\s*)?"
            rf"\"(?:name|tool_name|function|tool)\"\s*:\s*\"(?:{known})\"\s*(?:,|\Z)"
        ),
        re.compile(rf"\[?\s*(?:print\()?(?:default_api\.)?(?:{known})\s*\("),
        start,
    )


def _meant(text: str, speech: Speech, blocks: list[Block], end: int) -> list[Block]:
    """The blocks that end the text. In a fence of an example language, and where no dialect was
    named, all others are examples; a `tool_code` fence is a call wherever it stands."""
    meant: list[Block] = []
    reached, tail = end, True
    for block in reversed(blocks):
        tail = tail and not text[block.end : reached].strip()
        fence = _FENCE.match(text, block.start, block.end)
        told = fence["info"] == "tool_code" if fence else not speech.strict
        if tail or (told and block.dialect != speech.bare.get("whole")):
            meant.insert(0, block)
        reached = block.start
    return meant


def _acted(source: Source, blocks: list[Block]) -> list[Block]:
    """The first actions; from an observation on the model made everything up itself."""
    found: list[Block] = []
    for block in blocks:
        if found and "Observation:" in source.text[found[-1].end : block.start]:
            break
        found.append(block)
    return found


def _blocks(bare: _Bare, start: int, end: int, *, whole: bool = False) -> Iterator[Block]:
    pos = start
    text = bare.source.text
    # What follows a think block may stand on its line.
    while found := (pos == start and _HERE.match(text, pos, end)) or _START.search(text, pos, end):
        block = _block(bare, found) or (_other(bare, found) if whole else None)
        if bare.failures >= _MOST_FAILURES:
            # A model that goes round in circles: what follows is more of the same.
            if block is not None and block.errors:
                yield replace(block, end=end)
            return
        if block is not None and block.end <= end:
            yield block
            pos = max(block.end, found.start() + 1)
        elif found["fence"]:
            pos = _fence_end(bare.source.text, found["run"], found.end() - 1)[1]
        else:
            line = bare.source.text.find("\n", max(found.start(), bare.reached - 1))
            pos = line if line >= 0 else end
        if pos >= end:
            return


def _other(bare: _Bare, found: re.Match[str]) -> Block | None:
    """JSON that was read to its end, or to the end of the text, and is no call."""
    end, bare.other = bare.other, 0
    return Block("", found.start(), end) if end > found.start() else None


def _block(bare: _Bare, found: re.Match[str]) -> Block | None:
    if found["fence"]:
        return _fenced(bare, found)
    if found["react"]:
        return _react(bare, found)
    return _lines(bare, skip(bare.source.text, found.start()), found.start())


def _lines(bare: _Bare, at: int, start: int) -> Block | None:
    """JSON or functions that begin a line, up to the end of a line."""
    text = bare.source.text
    if _JSON.match(text, at):
        dialect = bare.dialect("object" if text[at] == "{" else "array", "array", "object")
        if not dialect and not text[bare.start : at].strip():
            dialect = bare.dialect("whole")
        return _read(bare, dialect, start, at, json=True) if dialect else None
    dialect = bare.dialect("functions")
    if text[at] == "[" and dialect and bare.calls.match(text, at):
        return _read(bare, dialect, start, at, json=False)
    return None


def _fenced(bare: _Bare, found: re.Match[str]) -> Block | None:
    """A fence that holds calls and nothing else."""
    text, at = bare.source.text, found.end()
    info = found["info"].lower()
    block = None
    if info in _JSON_INFO and _JSON.match(text, at):
        dialect = bare.dialect("fenced json", "array", "object")
        block = _read(bare, dialect, found.start(), at, json=True) if dialect else None
    elif info in _CODE_INFO and bare.calls.match(text, at):
        shape = "fenced tool_code" if info == "tool_code" else "fenced functions"
        dialect = bare.dialect(shape)
        if dialect and (text[at] == "[" or info == "tool_code"):
            block = _read(bare, dialect, found.start(), at, json=False)
    if block is None:
        return _program(bare, found) if info == "tool_code" else None
    if block.errors:
        close = _fence_end(text, found["run"], at)[1]
        return replace(block, end=max(block.end, close))
    close = re.compile(rf"\s*^[ \t]*{found['run'][0]}{{{len(found['run'])},}}[ \t]*$", re.M)
    end = close.match(text, block.end)
    if end is None:
        if skip(text, block.end) < len(text) and not found["run"].startswith(
            text[block.end :].strip()
        ):
            return None
        return replace(block, end=len(text))
    return replace(block, end=end.end())


def _program(bare: _Bare, found: re.Match[str]) -> Block | None:
    """A fence for calls that holds something else than literal calls of a tool that exists."""
    dialect, source, at = bare.dialect("fenced tool_code"), bare.source, found.end()
    text = source.text
    inside, end = _fence_end(text, found["run"], at)
    cut = inside >= len(text)
    called = re.compile(rf"(?<![\w.])(?:default_api\.)?(?:{source.known})\s*\(")
    begun = cut and re.fullmatch(r"[\w.\[(]*", text[at : at + 200].strip())
    if not dialect or not (begun or called.search(text, at, inside)):
        return None
    why = "it is more than calls with literal values, one on each line"
    broken = Broken("it ends before its arguments" if begun else why, at=end, cut=cut)
    return failed(dialect, source, found.start(), end, broken)


def _fence_end(text: str, run: str, at: int) -> tuple[int, int]:
    """Where the line begins that closes a fence, and where it ends."""
    close = re.compile(rf"^[ \t]*{re.escape(run[0])}{{{len(run)},}}[ \t]*$", re.M)
    found = close.search(text, at)
    return (found.start(), found.end()) if found else (len(text), len(text))


def _read(bare: _Bare, dialect: str, start: int, at: int, *, json: bool) -> Block | None:
    source = bare.source
    calls: list[Call] = []
    try:
        end = _objects(source, at, calls) if json else _functions(source, at, calls)
        bare.reached = end
        if any(call.name not in source.tools for call in calls) or not calls:
            bare.other = end if json else 0
            return None
        line = source.text.find("\n", end)
        if source.text[end : line if line >= 0 else len(source.text)].strip():
            return None
    except _NoCall as other:
        bare.reached = bare.other = other.at
        return None
    except Broken as broken:
        bare.reached = broken.at
        bare.failures += 1
        begun = (bare.begins if json else bare.calls).match(source.text, at)
        # Without a mark only the whole shows that they are calls, unless its end was cut off.
        calls = [call for call in calls if call.name in source.tools and broken.cut]
        if not begun or (not json and _LINK.match(source.text, at)):
            bare.other = broken.at if json and broken.cut else 0
            return None
        line = source.text.find("\n", broken.at)
        end = line if line >= 0 and not broken.cut else len(source.text)
        return failed(dialect, source, start, end, broken, tuple(calls))
    return Block(dialect, start, end, tuple(calls))


def _objects(source: Source, at: int, calls: list[Call]) -> int:
    """Objects and arrays of calls, one after another; every call with its arguments."""
    while True:
        if source.text[at] == "[":
            at = elements(source, at, _one, _NOTHING, calls)
        else:
            call, at = _one(source, at, _NOTHING)
            calls.append(call)
        following = skip(source.text, at)
        if source.text[following : following + 1] in (",", ";"):
            following = skip(source.text, following + 1)
        if not _JSON.match(source.text, following):
            return at
        at = following


def _one(source: Source, at: int, stop: re.Pattern[str]) -> tuple[Call, int]:
    found = read_whole(source.text, at, stop)
    given: Any = found.value
    value: dict[str, Any] = cast(Any, given) if isinstance(given, dict) else {}
    inner: Any = value.get("function")
    keys = {*value, *(cast(dict[str, Any], inner) if isinstance(inner, dict) else ())}
    spare = keys - _CALL_KEYS - _ARGUMENT_KEYS - _ID_KEYS
    if not _ARGUMENT_KEYS & keys:
        if not spare & _parameters(source, value):
            raise _NoCall("it has no arguments", at=found.end)
        raise Broken("it has no arguments", at=at)
    if spare or _is_schema(value):
        raise _NoCall("it is no call, but data about a tool", at=found.end)
    return named_call(value, source, found.end, found.notes), found.end


def _parameters(source: Source, value: dict[str, Any]) -> set[str]:
    """The names that the tool gives to its parameters."""
    name: Any = value.get("name")
    properties: Any = source.schema(name).get("properties") if isinstance(name, str) else None
    return set(cast(dict[str, Any], properties)) if isinstance(properties, dict) else set()


def _is_schema(value: dict[str, Any]) -> bool:
    """Whether the "arguments" are the schema in a tool's definition."""
    inner: Any = value.get("function")
    given: Any = cast(Any, inner if isinstance(inner, dict) else value).get("parameters")
    parameters: dict[str, Any] = cast(Any, given) if isinstance(given, dict) else {}
    return parameters.get("type") == "object" and isinstance(parameters.get("properties"), dict)


def _functions(source: Source, at: int, calls: list[Call]) -> int:
    """``[f(a=1)]``, or calls on lines of their own, each perhaps inside of ``print()``."""
    text = source.text
    if text[at] == "[":
        return read_calls(source, at, calls, bracket=True)
    while True:
        printed = re.compile(r"print\(\s*").match(text, at)
        call, end = read_call(source, printed.end() if printed else at)
        if printed:
            close = skip(text, end)
            if text[close : close + 1] != ")":
                raise Broken("a ) is missing", at=close, cut=close >= len(text))
            end = close + 1
        calls.append(call)
        following = skip(text, end)
        if not re.compile(r"[\w.]+\(").match(text, following):
            return end
        at = following


def _react(bare: _Bare, found: re.Match[str]) -> Block | None:
    """``Action: name``, then ``Action Input:`` with a JSON object."""
    dialect = bare.dialect(_REACT)
    source, text = bare.source, bare.source.text
    head = re.compile(
        rf"[ \t]*`?(?P<name>{source.known})`?[ \t]*\n\s*Action[ _]Input:\s*(?:```(?:json)?\s*)?"
    ).match(text, found.end())
    if not dialect or head is None:
        return None
    at = head.end()
    try:
        if at >= len(text):
            raise Broken("its input is missing", at=at, cut=True)
        if text[at] != "{":
            return None
        read = read_json(text, at)
    except Broken as broken:
        end = len(text)
        return failed(dialect, source, found.start(), end, broken)
    fence = re.compile(r"\s*```").match(text, read.end)
    end = fence.end() if fence else read.end
    if _AFTER_ACTION.match(text, end) is None:
        return None
    call = Call(head["name"], read.value, "", read.notes)
    return Block(dialect, found.start(), end, (call,))
