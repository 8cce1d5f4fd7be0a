"""Calls as functions: Python's ``[f(a=1), g(b="x")]``, and Gemma's ``call:f{a:<|"|>x<|"|>}``.

Invariant: only literals are values. What needs a Python interpreter (a variable, an f-string, a
call inside of a call) is no call of a tool.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, cast

from manyhands.agents.dialects.objects import begun, resume
from manyhands.agents.dialects.outcome import NAME, Block, Call, Source, failed
from manyhands.agents.literals import MOST_DEPTH, Broken, read_python, skip

_HEAD = re.compile(rf"(?P<name>{NAME})\s*\(")
_MAY_CALL = re.compile(rf"(?:{NAME}\s*)?\Z|{NAME}\s*\(")
_KEY = re.compile(r"[^:{}\[\],<>\n]{0,200}")
_KEYWORD = re.compile(r"([^\W\d]\w{0,99})\s*=(?!=)")


def read_call(source: Source, at: int) -> tuple[Call, int]:
    """The call ``name(key=value, …)`` at ``at``, and where it ends. Raises `Broken`."""
    text = source.text
    head = _HEAD.match(text, at)
    if head is None:
        ends = re.fullmatch(rf"(?:{NAME})?\s*", text[at : at + 200])
        raise Broken(f"no call at {text[at : at + 20]!r}", at=at, cut=ends is not None)
    name = source.resolve(head["name"].removesuffix(".call"))
    arguments: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    at = skip(text, head.end())
    while text[at : at + 1] != ")":
        keyword = _KEYWORD.match(text, at)
        found = read_python(text, keyword.end() if keyword else at)
        key = keyword[1] if keyword else _only(source, name, arguments, at)
        if not keyword:
            notes = (f"the value without a name is {key}",)
        if key in arguments:
            raise Broken(f"the argument {key!r} is given twice", at=at)
        arguments[key] = found.value
        at = skip(text, found.end)
        if text[at : at + 1] == ",":
            at = skip(text, at + 1)
        elif text[at : at + 1] != ")":
            raise Broken("a comma or ) is missing", at=at, cut=at >= len(text))
    return Call(name, arguments, "", notes), at + 1


def _only(source: Source, name: str, arguments: dict[str, Any], at: int) -> str:
    """The one parameter that a value without a name can mean. Raises `Broken`."""
    properties: Any = source.schema(name).get("properties")
    named = list(cast(dict[str, Any], properties)) if isinstance(properties, dict) else []
    if arguments or len(named) != 1:
        raise Broken("a value has no name", at=at)
    return named[0]


def read_calls(source: Source, at: int, calls: list[Call], *, bracket: bool) -> int:
    """Reads ``[call, …]``, or calls on lines of their own, into ``calls``; where they end.

    Raises `Broken`, after the calls that are complete.
    """
    text = source.text
    if bracket:
        at = skip(text, at + 1)
    while True:
        call, end = read_call(source, at)
        calls.append(call)
        at = skip(text, end)
        if text[at : at + 1] in (",", ";"):
            at = skip(text, at + 1)
            if bracket and text[at : at + 1] == "]":
                return at + 1
        elif bracket and text[at : at + 1] == "]":
            return at + 1
        elif bracket:
            raise Broken("the list of calls is not closed", at=at, cut=at >= len(text))
        elif "\n" not in text[end:at] or not _HEAD.match(text, at):
            return end


@dataclass(frozen=True)
class Pythonic:
    """``OPEN [f(a=1), …] CLOSE``. ``lines``: calls on lines of their own do too."""

    dialect: str
    opens: tuple[str, ...]
    closes: tuple[str, ...] = ()
    lines: bool = False

    def read(self, source: Source, at: int) -> Block | None:
        text = source.text
        open_ = next(mark for mark in self.opens if text.startswith(mark, at))
        pos = skip(text, at + len(open_))
        if pos >= len(text):
            return begun(self.dialect, source, at, open_)
        bracket = text[pos] == "["
        name = _MAY_CALL.match(text, skip(text, pos + bracket))
        if name is None or not (bracket or self.lines):
            return None
        calls: list[Call] = []
        try:
            end = read_calls(source, pos, calls, bracket=bracket)
            end = self._closed(text, end)
        except Broken as broken:
            end = resume(source, self.opens, self.closes, at)
            return failed(self.dialect, source, at, end, broken, tuple(calls))
        return Block(self.dialect, at, end, tuple(calls))

    def _closed(self, text: str, at: int) -> int:
        after = skip(text, at)
        for mark in self.closes:
            if text.startswith(mark, after):
                return after + len(mark)
            if mark.startswith(text[after : after + len(mark)]):
                return len(text)
        if self.closes:
            raise Broken(f"{self.closes[0]} does not follow the calls", at=at)
        return at


# ---------------------------------------------------------------- Gemma 4, FunctionGemma


@dataclass(frozen=True)
class Delimited:
    """``OPEN call:name{key:value,…} CLOSE``, strings between two ``quote`` marks, unescaped."""

    dialect: str
    opens: tuple[str, ...]
    close: str
    quote: str
    head: re.Pattern[str] = field(init=False)
    string_end: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        opens = "|".join(map(re.escape, self.opens))
        quote, key = re.escape(self.quote), rf"(?:{re.escape(self.quote)})?[^\W\d][\w.\-]*"
        head = rf"(?:{opens})\s*call:\s*(?P<name>{NAME}?)\s*\{{"
        object.__setattr__(self, "head", re.compile(head))
        goes_on = rf"\s*(?:[}}\]]|,\s*(?:{key}(?:{quote})?\s*:|{quote}|[\[{{\d-]|true|false|null))"
        object.__setattr__(self, "string_end", re.compile(rf"{quote}(?={goes_on})"))

    def read(self, source: Source, at: int) -> Block | None:
        text = source.text
        head = self.head.match(text, at)
        if head is None:
            return self._unfinished(source, at)
        try:
            arguments, end = self._object(text, head.end() - 1, 0)
            end = skip(text, end)
            if not text.startswith(self.close, end):
                cut = self.close.startswith(text[end : end + len(self.close)])
                raise Broken(f"{self.close} is missing", at=end, cut=cut)
        except Broken as broken:
            end = resume(source, self.opens, (self.close,), at)
            return failed(self.dialect, source, at, end, broken)
        call = Call(source.resolve(head["name"]), arguments)
        return Block(self.dialect, at, end + len(self.close), (call,))

    def _unfinished(self, source: Source, at: int) -> Block | None:
        open_ = next(mark for mark in self.opens if source.text.startswith(mark, at))
        rest = source.text[at + len(open_) : at + len(open_) + 200].strip()
        if not rest:
            return begun(self.dialect, source, at, open_)
        if at + len(open_) + 200 < len(source.text) or not (
            "call:".startswith(rest) or re.fullmatch(rf"call:\s*(?:{NAME})?", rest)
        ):
            return None
        broken = Broken("it ends before its arguments", at=len(source.text), cut=True)
        return failed(self.dialect, source, at, len(source.text), broken)

    def _value(self, text: str, at: int, depth: int) -> tuple[Any, int]:
        at = skip(text, at)
        if depth > MOST_DEPTH:
            raise Broken(f"it is nested deeper than {MOST_DEPTH}", at=at)
        if text.startswith(self.quote, at):
            return self._string(text, at)
        if text[at : at + 1] == "{":
            return self._object(text, at, depth)
        if text[at : at + 1] == "[":
            return self._array(text, at, depth)
        found = read_python(text, at)
        return found.value, found.end

    def _string(self, text: str, at: int) -> tuple[str, int]:
        """To the first quote mark after which the object or array goes on."""
        begin = at + len(self.quote)
        end = self.string_end.search(text, begin)
        if end is None:
            raise Broken("a string is not closed", at=len(text), cut=True)
        return text[begin : end.start()], end.end()

    def _object(self, text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        at = skip(text, at + 1)
        while text[at : at + 1] != "}":
            key, at = self._key(text, at)
            if key in found:
                raise Broken(f"the key {key[:60]!r} is given twice", at=at)
            found[key], at = self._value(text, at, depth + 1)
            at = self._comma(text, at, "}")
        return found, at + 1

    def _array(self, text: str, at: int, depth: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        at = skip(text, at + 1)
        while text[at : at + 1] != "]":
            value, at = self._value(text, at, depth + 1)
            found.append(value)
            at = self._comma(text, at, "]")
        return found, at + 1

    def _key(self, text: str, at: int) -> tuple[str, int]:
        if text.startswith(self.quote, at):
            begin = at + len(self.quote)
            end = text.find(self.quote, begin)
            key, at = text[begin:end], (end + len(self.quote) if end >= 0 else len(text))
        else:
            bare = _KEY.match(text, at)
            key = bare[0].strip() if bare else ""
            at = bare.end() if bare else at
        at = skip(text, at)
        if text[at : at + 1] != ":" or not key:
            raise Broken("a key or its colon is missing", at=at, cut=at >= len(text))
        return key, at + 1

    def _comma(self, text: str, at: int, close: str) -> int:
        at = skip(text, at)
        if text[at : at + 1] == ",":
            return skip(text, at + 1)
        if text[at : at + 1] != close:
            raise Broken(f"a comma or {close} is missing", at=at, cut=at >= len(text))
        return at
