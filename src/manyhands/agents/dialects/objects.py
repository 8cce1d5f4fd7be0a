"""Calls as JSON after a mark: whole call objects, or a name in the mark and arguments behind it.

Invariant: a call's end is where its JSON ends, so a string may hold any mark of any dialect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, cast

from manyhands.agents.dialects.outcome import NAME, Block, Call, Form, Source, failed
from manyhands.agents.literals import Broken, Read, loads_loosely, read_json, skip

_NAMES = ("name", "tool_name", "function_name", "tool", "function")
_ARGUMENTS = ("arguments", "parameters", "args", "params", "input", "tool_input")
_IDS = ("id", "tool_call_id", "call_id")
_OTHER = frozenset({"type", "index", "description", "thought", "reasoning", "explanation"})
_NAME = re.compile(NAME)
#: Outside of strings these stand for something that a person is to fill in.
_PLACEHOLDER = re.compile(r"\.\.\.|…|<[a-zA-Z][\w -]*>|\$[A-Z_]+")
_FENCE = re.compile(r"```\w*\s*")
_FENCE_END = re.compile(r"\s*```")
#: As a template's own braces are written in Jinja, and copied by small models.
_DOUBLED = re.compile(r"\{\{\s*[\"']")
_STRAY = re.compile(r"[\s}\]]*")


#: Reads one call at a position; the call and where it ends.
One = Callable[[Source, int, re.Pattern[str]], tuple[Call, int]]


def named_call(value: Any, source: Source, at: int, notes: tuple[str, ...] = ()) -> Call:
    """The call that a JSON object spells. Raises `Broken`."""
    if not isinstance(value, dict):
        raise Broken("it is not a JSON object with a name and arguments", at=at)
    found = cast(dict[str, Any], value)
    inner = found.get("function")
    if isinstance(inner, dict):
        outer = {key: each for key, each in found.items() if key != "function"}
        found = {**outer, **cast(dict[str, Any], inner)}
    name_key = next((key for key in _NAMES if isinstance(found.get(key), str)), None)
    if name_key is None:
        raise Broken("it has no name", at=at)
    name = source.resolve(found[name_key])
    if not _NAME.fullmatch(name):
        raise Broken(f"{name[:60]!r} is not the name of a tool", at=at)
    given = [key for key in _ARGUMENTS if key in found]
    if len(given) > 1 and any(found[key] != found[given[0]] for key in given):
        raise Broken(f"it has both {given[0]} and {given[1]}", at=at)
    id_key = next((key for key in _IDS if isinstance(found.get(key), (str, int))), None)
    properties: Any = source.schema(name).get("properties")
    known = set(cast(dict[str, Any], properties)) if isinstance(properties, dict) else set[str]()
    spare = set(found) - {name_key, *given, *_IDS} - (_OTHER - known)
    if spare and not given:
        raise Broken('its arguments do not stand under "arguments"', at=at)
    if spare:
        # They may be arguments behind a brace too many: without them it would be another call.
        raise Broken(f"beside its arguments stands {min(spare)[:60]!r}", at=at)
    arguments, repaired = _arguments(found[given[0]] if given else {}, at)
    call_id = "" if id_key is None else str(found[id_key])
    return Call(name, arguments, call_id, (*notes, *repaired))


def _arguments(value: Any, at: int) -> tuple[dict[str, Any], list[str]]:
    if isinstance(value, str):
        try:
            value = loads_loosely(value) if value.strip() else {}
        except Broken as broken:
            raise Broken(f"its arguments are text that is no JSON: {broken.why}", at=at) from None
        notes = ["the arguments were JSON in a string"]
    else:
        notes = ["null for no arguments"] if value is None else []
        value = {} if value is None else value
    if not isinstance(value, dict):
        raise Broken("its arguments are not a JSON object", at=at)
    return cast(dict[str, Any], value), notes


def inverted_call(value: Any, source: Source, at: int, notes: tuple[str, ...] = ()) -> Call:
    """``{"name": {arguments}}``, as Apertus writes it. Raises `Broken`."""
    if not isinstance(value, dict) or len(cast(dict[str, Any], value)) != 1:
        raise Broken("it is not one name with its arguments", at=at)
    name, arguments = next(iter(cast(dict[str, Any], value).items()))
    return named_call({"name": name, "arguments": arguments}, source, at, notes)


@dataclass(frozen=True)
class Objects:
    """``OPEN {call} … CLOSE`` or ``OPEN [{call}, …] CLOSE``.

    ``closes`` empty: the dialect has no closing mark. ``only_array``: an object alone is not a
    call. ``line``: the mark begins a line. ``needs``: only where this mark follows somewhere.
    ``ignored``: names by which a model says that it calls nothing.
    """

    dialect: str
    opens: tuple[str, ...]
    closes: tuple[str, ...] = ()
    only_array: bool = False
    inverted: bool = False
    line: bool = False
    needs: str = ""
    ignored: frozenset[str] = frozenset()
    stop: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        marks = [re.escape(mark) for mark in (*self.closes, *self.opens) if mark[0] == "<"]
        object.__setattr__(self, "stop", re.compile("|".join(marks) or r"(?!)"))

    def read(self, source: Source, at: int) -> Block | None:
        text = source.text
        open_ = next(mark for mark in self.opens if text.startswith(mark, at))
        if self.line and not begins_line(text, at):
            return None
        pos = skip(text, at + len(open_) - (1 if open_.endswith("[") else 0))
        fence = _FENCE.match(text, pos)
        pos = skip(text, fence.end() if fence else pos)
        if pos >= len(text):
            return begun(self.dialect, source, at, open_)
        if not self._looks_right(source, pos):
            return None
        calls: list[Call] = []
        try:
            end = self._closed(text, self._payload(source, pos, calls), fence is not None)
        except Broken as broken:
            return self._wreck(source, at, broken, tuple(calls))
        kept = tuple(each for each in calls if each.name not in self.ignored - set(source.tools))
        return Block(self.dialect, at, end, kept)

    def _looks_right(self, source: Source, pos: int) -> bool:
        text = source.text
        inside = text[skip(text, pos + 1) : skip(text, pos + 1) + 1]
        if self.needs and last(source, self.needs) < pos:
            return False
        if text[pos] == "[":
            return inside in ("{", "]", "")
        right = inside in ('"', "'", "}", "") or inside.isalpha() or _DOUBLED.match(text, pos)
        return text[pos] == "{" and not self.only_array and bool(right)

    def _payload(self, source: Source, pos: int, calls: list[Call]) -> int:
        """Reads the calls into ``calls``; where they end."""
        text = source.text
        while True:
            if text[pos] == "[":
                pos = elements(source, pos, self._one, self.stop, calls)
            else:
                call, pos = self._one(source, pos, self.stop)
                calls.append(call)
            following = skip(text, pos)
            if text[following : following + 1] in (",", ";"):
                following = skip(text, following + 1)
            more = text[following : following + 1]
            closed = any(text.startswith(mark, following) for mark in self.closes)
            if closed or (more != "{" and not (more == "[" and self.closes)):
                return pos
            pos = following

    def _one(self, source: Source, pos: int, stop: re.Pattern[str]) -> tuple[Call, int]:
        doubled = _DOUBLED.match(source.text, pos)
        found = read_whole(source.text, pos + 1 if doubled else pos, stop)
        spell = inverted_call if self.inverted else named_call
        notes = (*found.notes, "doubled braces") if doubled else found.notes
        return spell(found.value, source, found.end, notes), found.end

    def _closed(self, text: str, pos: int, fenced: bool) -> int:
        """Past the closing mark. At the very end of the text the mark may be missing."""
        fence = _FENCE_END.match(text, pos) if fenced else None
        pos = fence.end() if fence else pos
        if not self.closes:
            return pos
        after = skip(text, pos)
        stray = _STRAY.match(text, after)
        for at in (after, stray.end() if stray else after):
            for mark in self.closes:
                if text.startswith(mark, at):
                    return at + len(mark)
            if any(mark.startswith(text[at : at + len(mark)]) for mark in self.closes):
                return len(text)
        if any(text.startswith(mark, after) for mark in self.opens):
            return pos
        raise Broken(f"{self.closes[0]} does not follow its JSON", at=pos)

    def _wreck(
        self, source: Source, at: int, broken: Broken, calls: tuple[Call, ...]
    ) -> Block | None:
        end = len(source.text) if broken.cut else resume(source, self.opens, self.closes, at)
        if not calls and self._is_example(source.text, broken.at):
            return None
        return failed(self.dialect, source, at, end, broken, calls)

    def _is_example(self, text: str, at: int) -> bool:
        """Whether the JSON stops at something that a person is to fill in."""
        marks = (*self.opens, *self.closes)
        return bool(_PLACEHOLDER.match(text, at)) and not text.startswith(marks, at)


def read_whole(text: str, pos: int, stop: re.Pattern[str]) -> Read:
    """A call object; at the end of the text it may lack its own last brace, and only that."""
    try:
        return read_json(text, pos, stop)
    except Broken as broken:
        if not (broken.cut and text.endswith("}")):
            raise
        try:
            found = read_json(text[pos:] + "}", 0)
        except Broken:
            raise broken from None
        return Read(found.value, len(text), (*found.notes, "a missing }"))


def elements(source: Source, pos: int, one: One, stop: re.Pattern[str], calls: list[Call]) -> int:
    """Reads the calls of the array at ``pos`` into ``calls``; where it ends.

    Raises `Broken` when it does not, after the calls that are complete.
    """
    text = source.text
    at = skip(text, pos + 1)
    closing = _or_bracket(stop)
    while text[at : at + 1] != "]":
        if at >= len(text):
            raise Broken("the list of calls is not closed", at=at, cut=True)
        call, at = one(source, at, closing)
        if "a missing }" in call.notes and text[at : at + 1] == "]":
            _last(text, at + 1, stop)
        calls.append(call)
        at = skip(text, at)
        if text[at : at + 1] == ",":
            at = skip(text, at + 1)
        elif stop.match(text, at):
            calls[-1] = replace(call, notes=(*call.notes, "a missing ]"))
            return at
        elif text[at : at + 1] != "]":
            raise Broken("the list of calls is not closed", at=at, cut=at >= len(text))
    return at + 1


@lru_cache(maxsize=64)
def _or_bracket(stop: re.Pattern[str]) -> re.Pattern[str]:
    """A call that lacks its last brace ends before the bracket of its list."""
    return re.compile(f"{stop.pattern}|\\]")


def _last(text: str, at: int, stop: re.Pattern[str]) -> None:
    """A bracket in a brace's place closes the list only where nothing goes on after it."""
    after = skip(text, at)
    if after < len(text) and not (stop.match(text, after) or text.startswith("```", after)):
        raise Broken("a comma or } is missing", at=at - 1)


@dataclass(frozen=True)
class Named:
    """``HEAD name … {arguments} TAIL``, once or several times, perhaps inside of a section.

    ``item`` has the groups ``name`` and perhaps ``id``, and ends before the arguments. ``unit``:
    the marks that open and close one call. ``partial``: what can still become a call when the text
    ends after it.
    """

    dialect: str
    opens: tuple[str, ...]
    begin: re.Pattern[str]
    item: re.Pattern[str]
    tail: re.Pattern[str]
    end: re.Pattern[str]
    partial: re.Pattern[str]
    unit: tuple[str, str]
    stop: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        closes = self.unit[1][:1] == "<"
        stop = rf"{re.escape(self.unit[1])}|```" if closes else r"(?!)"
        object.__setattr__(self, "stop", re.compile(stop))

    def read(self, source: Source, at: int) -> Block | None:
        text = source.text
        begin = self.begin.match(text, at)
        pos = begin.end() if begin else at
        calls: list[Call] = []
        try:
            while (head := self.item.match(text, pos)) is not None:
                call, pos = self._one(source, head)
                calls.append(call)
            rest = skip(text, pos)
            if rest >= len(text) and not calls:
                return begun(self.dialect, source, at, text[at : at + 1] + "|")
            if rest < len(text) and self.partial.fullmatch(text, rest):
                raise Broken("it ends before its arguments", at=len(text), cut=True)
        except Broken as broken:
            begins = text.find(self.unit[0], pos)
            closes = (self.unit[1],) if self.unit[1] else ()
            end = resume(source, self.unit[:1], closes, begins)
            section = self.end.match(text, end)
            end = section.end() if section else end
            return failed(self.dialect, source, at, end, broken, tuple(calls))
        if not calls:
            return None
        end = self.end.match(text, pos)
        return Block(self.dialect, at, end.end() if end else pos, tuple(calls))

    def _one(self, source: Source, head: re.Match[str]) -> tuple[Call, int]:
        text = source.text
        pos = skip(text, head.end())
        if pos >= len(text):
            raise Broken("its arguments are missing", at=pos, cut=True)
        if text[pos] != "{":
            raise Broken("its arguments are not a JSON object", at=pos)
        found = read_json(text, pos, self.stop)
        tail = self.tail.match(text, found.end)
        rest = text[found.end : found.end + 100].strip()
        if tail is None and rest and not self.unit[1].startswith(rest.lstrip("`").lstrip()):
            raise Broken("something else follows its arguments", at=found.end)
        groups: Mapping[str, str | None] = head.groupdict()
        name = source.resolve(groups["name"] or "")
        arguments = cast(dict[str, Any], found.value)
        call = Call(name, arguments, groups.get("id") or "", found.notes)
        return call, tail.end() if tail else len(text)


def begins_line(text: str, at: int) -> bool:
    """Whether only white space (and not much of it) stands before ``at`` on its line."""
    before = text[max(0, at - 100) : at]
    return not before.rpartition("\n")[2].strip() and ("\n" in before or at <= 100)


def last(source: Source, mark: str) -> int:
    """The last position of ``mark`` in the text; -1: it is nowhere."""
    if mark not in source.cache:
        source.cache[mark] = source.text.rfind(mark)
    return source.cache[mark]


def begun(dialect: str, source: Source, at: int, mark: str) -> Block | None:
    """A mark at the very end of the text: a call that was cut off, where it stands on its own."""
    if mark[0].isalpha() or not (begins_line(source.text, at) or "|" in mark or "｜" in mark):
        return None
    broken = Broken("nothing follows its mark", at=len(source.text), cut=True)
    return failed(dialect, source, at, len(source.text), broken)


def unread(source: Source, forms: Sequence[Form], mark: str, at: int) -> Block | None:
    """The error for what stands in a dialect's marks and is nothing that it knows.

    Only where the marks are all there is from ``at`` on: else the text is about them.
    """
    text = source.text
    form = next((each for each in forms if not getattr(each, "only_array", False)), None)
    form = form or next(iter(forms), None)
    token = mark in ("[TOOL_CALLS]", "<|python_start|>") or mark[:2] in ("<|", "<｜")
    if form is None or not (token or mark in ("<tool_call>", "<tool_calls>", "<TOOLCALL>")):
        return None
    broken = Broken("between its marks stands no name with arguments", at=at)
    closes = _closing(mark)
    if not closes:
        return failed(form.dialect, source, at, len(text), broken) if token else None
    end = text.find(closes, at)
    if end < 0:
        return None
    end += len(closes)
    rest = text[skip(text, end) :][: len(mark)]
    if rest and rest != mark:
        return None
    return failed(form.dialect, source, at, end, broken)


def _closing(mark: str) -> str:
    special = {
        "<|tool_calls_section_begin|>": "<|tool_calls_section_end|>",
        "<|tool_call_begin|>": "<|tool_call_end|>",
        "<|tool_call>": "<tool_call|>",
    }
    if mark in special:
        return special[mark]
    if mark.startswith("<|action_start|>"):
        return "<|action_end|>"
    if mark.startswith("<｜") and "begin" in mark:
        return mark.replace("begin", "end")
    return mark.replace("<", "</", 1) if mark[:1] == "<" and mark[1:2].isalpha() else ""


def resume(source: Source, opens: tuple[str, ...], closes: tuple[str, ...], at: int) -> int:
    """Where reading goes on after a wreck: past the closing mark that belongs to the opening one.

    Without one it is the end of the text: what follows may be part of the wreck's payload.
    """
    key = (opens, closes)
    if key not in source.cache:
        marks = "|".join(map(re.escape, sorted((*opens, *closes), key=len, reverse=True)))
        pairs: dict[int, int] = {}
        open_: list[int] = []
        for mark in re.finditer(marks, source.text) if closes else ():
            if mark[0] in opens:
                open_.append(mark.start())
            elif open_:
                pairs[open_.pop()] = mark.end()
        source.cache[key] = pairs
    found: dict[int, int] = source.cache[key]
    return found.get(at, len(source.text))
