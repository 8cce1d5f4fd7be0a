"""Calls whose parameters stand as plain text between tags, XML-like and without any escaping.

Invariant: a parameter ends at the one closing tag after which the call goes on as its form demands,
with whole calls inside of the value skipped. So a value may hold any tag, alone or in whole calls.
What then still has two readings (a value that holds the beginning of a call and not its end) is
reported and not guessed, and a call without its closing tags is cut off, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import Any, cast

from manyhands.agents.dialects.objects import begun
from manyhands.agents.dialects.outcome import Block, Call, Source, failed
from manyhands.agents.encoding import loads
from manyhands.agents.literals import Broken, loads_loosely, skip


@dataclass(frozen=True, slots=True)
class _Tag:
    """``kind``: block, call or param, in capitals where it opens."""

    kind: str
    start: int
    end: int
    name: str = ""
    type: str = ""


@dataclass(frozen=True)
class Tags:
    """``[BLOCK] (CALL (PARAM text param)* call)+ [block]``, as regular expressions.

    ``call_open`` has the group ``name``, ``param_open`` the groups ``key`` and perhaps ``type``.
    ``newlines``: the template puts one line break on each side of a value. ``begins``: the literal
    beginnings of what may follow a mark, to know a call that was cut off inside a tag.
    ``known_unwrapped``: without its block a call has to name a tool that exists.
    ``raw_types``: values of ``type`` that mean plain text; other values of it mean JSON.
    """

    dialect: str
    opens: tuple[str, ...]
    call_open: str
    param_open: str
    param_close: str
    call_close: str
    begins: tuple[str, ...]
    block_open: str = ""
    block_close: str = ""
    newlines: bool = False
    raw_types: frozenset[str] = frozenset()
    escaped: bool = False
    known_when_empty: bool = False
    known_unwrapped: bool = False
    partial: re.Pattern[str] = field(default_factory=lambda: re.compile(r"(?!)"))
    tag: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        parts = {
            "BLOCK": self.block_open,
            "CALL": self.call_open,
            "PARAM": self.param_open,
            "param": self.param_close,
            "call": self.call_close,
            "block": self.block_close,
        }
        joined = "|".join(f"(?P<{kind}>{part})" for kind, part in parts.items() if part)
        object.__setattr__(self, "tag", re.compile(joined))

    def read(self, source: Source, at: int) -> Block | None:
        tags = self._tags(source)
        index = _index(source, self, tags).get(at)
        if index is None:
            return self._unfinished(source, at, at)
        blocked = tags[index].kind == "BLOCK"
        first = index + 1 if blocked else index
        if self.known_unwrapped and not blocked and not self._known(source, tags[first]):
            return None
        if not self._follows(source, tags, first, index, blocked):
            return self._unfinished(source, at, tags[index].end)
        calls: list[Call] = []
        try:
            end = self._calls(source, tags, first, blocked, calls)
        except Broken as broken:
            end = self._resume(source, tags, index, blocked)
            return failed(self.dialect, source, at, end, broken, tuple(calls))
        return Block(self.dialect, at, end, tuple(calls))

    def _tags(self, source: Source) -> list[_Tag]:
        """All tags of the text, in order."""
        if self not in source.cache:
            found: list[_Tag] = []
            for match in self.tag.finditer(source.text):
                groups = match.groupdict()
                kind = next(kind for kind in _KINDS if groups.get(kind) is not None)
                name = groups.get("name" if kind == "CALL" else "key") or ""
                type_ = (groups.get("type") or "") if kind == "PARAM" else ""
                found.append(_Tag(kind, match.start(), match.end(), name, type_))
            source.cache[self] = found
        return source.cache[self]

    def _follows(
        self, source: Source, tags: list[_Tag], first: int, index: int, blocked: bool
    ) -> bool:
        """Whether a call begins where it must, and goes on with a parameter or its end."""
        if first + 1 >= len(tags) or tags[first].kind != "CALL":
            return False
        if blocked and not adjacent(source, tags[index], tags[first]):
            return False
        return self._begins(source, tags, first)

    def _begins(self, source: Source, tags: list[_Tag], at: int) -> bool:
        if at + 1 >= len(tags) or not adjacent(source, tags[at], tags[at + 1]):
            return False
        if tags[at + 1].kind == "call" and self.known_when_empty:
            return self._known(source, tags[at])
        return tags[at + 1].kind in ("PARAM", "call")

    def _unfinished(self, source: Source, at: int, end: int) -> Block | None:
        """A call that the text's end cuts off before its first parameter, or text."""
        text = source.text
        if len(text) - end > 200:
            return None
        rest = text[end:].strip()
        if not rest:
            mark = next((each for each in self.opens if text.startswith(each, at)), "")
            return begun(self.dialect, source, at, mark)
        cut = self.partial.fullmatch(text, at) or any(
            each.startswith(rest) or (rest.startswith(each) and ">" not in rest)
            for each in self.begins
        )
        if not cut:
            return None
        broken = Broken("it ends before its arguments", at=len(text), cut=True)
        return failed(self.dialect, source, at, len(text), broken)

    def _calls(
        self, source: Source, tags: list[_Tag], at: int, blocked: bool, calls: list[Call]
    ) -> int:
        """Reads the calls of one block into ``calls``; where the block ends in the text."""
        doubtful = False
        while True:
            begin = at
            call, at, guessed = self._call(source, tags, at)
            doubtful = doubtful or guessed
            held = at - begin != 2 * len(call.arguments) + 2  # a value holds tags
            end = tags[at - 1].end
            following = tags[at] if at < len(tags) else None
            close = following is not None and adjacent(source, tags[at - 1], following)
            kind = following.kind if following is not None and close else ""
            going_on = kind == "CALL" and self._begins(source, tags, at)
            if not (going_on or kind in ("block", "BLOCK")) and (blocked or doubtful):
                rest = source.text[end:].strip() if len(source.text) - end < 200 else "…"
                # Its closing tag may have stood inside of a value, and the rest was cut off.
                cut = rest[:1] in ("", "<")
                if rest or doubtful or held:
                    raise Broken("the closing tag of the block is missing", at=end, cut=cut)
            calls.append(call)
            if not going_on:
                return cast(_Tag, following).end if kind == "block" else end

    def _call(self, source: Source, tags: list[_Tag], at: int) -> tuple[Call, int, bool]:
        """The call whose opening tag is ``tags[at]``, the place after its closing tag, and whether
        only the end of its block shows that it ends there."""
        doubtful = False
        name = source.resolve(self._name(tags[at]))
        arguments: dict[str, Any] = {}
        held: list[_Tag] = []
        at += 1
        while tags[at].kind == "PARAM":
            key = unescape(tags[at].name) if self.escaped else tags[at].name.strip()
            if key in arguments:
                raise Broken(f"the parameter {key[:60]!r} is given twice", at=tags[at].start)
            close, guessed = self._close(source, tags, at)
            doubtful = doubtful or guessed
            held += self._held(source, tags, at, close)
            text = source.text[tags[at].end : tags[close].start]
            arguments[key] = self._value(text, tags[at].type, source.schema(name), key)
            at = close + 1
        properties: Any = source.schema(name).get("properties")
        for tag in held:
            key = tag.name.strip()
            if isinstance(properties, dict) and key in properties and key not in arguments:
                why = f"the parameter before {key[:60]!r} is not closed where it should be"
                raise Broken(why, at=tag.start)
        return Call(name, arguments, raw=True), at + 1, doubtful

    def _held(self, source: Source, tags: list[_Tag], param: int, close: int) -> Iterator[_Tag]:
        """The parameters that the value of ``tags[param]`` opens on lines of their own, as the
        templates do, but for those of whole calls."""
        inner = 0
        for tag in (tags[at] for at in range(param + 1, close)):
            inner = max(0, inner + (tag.kind == "CALL") - (tag.kind == "call"))
            line = source.text[max(0, tag.start - 40) : tag.start].rstrip(" \t")
            if tag.kind == "PARAM" and not inner and line.endswith("\n"):
                yield tag

    def _close(self, source: Source, tags: list[_Tag], param: int) -> tuple[int, bool]:
        """The tag that closes the parameter ``tags[param]``.

        True with it: the value holds the beginning of a call that never ends.
        """
        inner = 0
        for at in range(param + 1, len(tags)):
            kind = tags[at].kind
            if kind == "CALL" and self._begins(source, tags, at):
                inner += 1
            elif kind == "call" and inner:
                inner -= 1
            elif kind == "param" and not inner and self._ends(source, tags, at):
                return at, False
        at = self._close_after_pairs(source, tags, param)
        if at is not None:
            return at, True
        if inner:
            why = "the value of {!r} holds a call that does not end, or the call is cut off"
        else:
            why = "the parameter {!r} is not closed"
        name = tags[param].name[:60]
        raise Broken(why.format(name), at=len(source.text), cut=True)

    def _close_after_pairs(self, source: Source, tags: list[_Tag], param: int) -> int | None:
        """The tag that closes ``tags[param]`` where whole parameters stand in its value.

        It is asked where the value begins a call; where a whole call is in it and the text was cut
        off, the parameters are no pairs up to the end of that call.
        """
        depth, calls = 0, 0
        for at in range(param + 1, len(tags)):
            kind = tags[at].kind
            calls += kind == "CALL"
            if kind == "PARAM":
                depth += 1
            elif kind == "param" and depth:
                depth -= 1
            elif kind == "param":
                return at if calls and self._ends(source, tags, at) else None
        return None

    def _ends(self, source: Source, tags: list[_Tag], at: int) -> bool:
        """Whether the call goes on after ``tags[at]`` as it must if that closes a parameter.

        When the call ends there, no parameter may close after it without having been opened: that
        would be the real end of this one.
        """
        if at + 1 >= len(tags) or not adjacent(source, tags[at], tags[at + 1]):
            return False
        if tags[at + 1].kind == "PARAM":
            return True
        if tags[at + 1].kind != "call":
            return False
        after = at + 2
        while after < len(tags) and tags[after].kind in ("call", "block"):
            after += 1
        return after >= len(tags) or tags[after].kind not in ("param", "PARAM")

    def _value(self, text: str, type_: str, schema: Mapping[str, Any], key: str) -> Any:
        if self.newlines:
            text = text.removeprefix("\n").removesuffix("\n")
        if not type_ or type_ in self.raw_types or _is_text(schema, key):
            return text
        try:
            return loads_loosely(text) if text.strip()[:1] in ("{", "[") else _scalar(text)
        except Broken:
            return text

    def _known(self, source: Source, tag: _Tag) -> bool:
        return tag.kind == "CALL" and source.resolve(self._name(tag)) in source.tools

    def _name(self, tag: _Tag) -> str:
        return unescape(tag.name) if self.escaped else tag.name.strip()

    def _resume(self, source: Source, tags: list[_Tag], index: int, blocked: bool) -> int:
        """Past the closing tag that belongs to ``tags[index]``, else the end of the text."""
        opening, closing = ("BLOCK", "block") if blocked else ("CALL", "call")
        depth = 0
        for tag in (tags[at] for at in range(index, len(tags))):
            depth += (tag.kind == opening) - (tag.kind == closing)
            if depth == 0:
                return tag.end
        return len(source.text)


_KINDS = ("BLOCK", "CALL", "PARAM", "param", "call", "block")


def adjacent(source: Source, one: _Tag, other: _Tag) -> bool:
    """Whether only white space stands between two tags."""
    return skip(source.text, one.end) >= other.start


def _index(source: Source, form: Tags, tags: list[_Tag]) -> dict[int, int]:
    key = ("index", form)
    if key not in source.cache:
        source.cache[key] = {tag.start: i for i, tag in enumerate(tags)}
    return source.cache[key]


def _is_text(schema: Mapping[str, Any], key: str) -> bool:
    """Whether the schema says that this parameter is a string and nothing else."""
    properties: Any = schema.get("properties")
    known: Any = cast(Any, properties).get(key) if isinstance(properties, dict) else None
    return isinstance(known, dict) and cast(dict[str, Any], known).get("type") == "string"


def _scalar(text: str) -> Any:
    """The JSON scalar that ``text`` is, or the text."""
    try:
        return loads(text)
    except ValueError:
        return text
