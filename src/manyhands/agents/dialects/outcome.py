"""What a parse gives, and how a call that could not be read is told to the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from manyhands.agents.literals import Broken

#: What a tool may be called; an explicit mark may name an unknown one, in any alphabet.
NAME = r"[^\W\d][\w.\-/:]{0,127}"

_EXCERPT = 240


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """``notes``: every repair or coercion that was made; ``id``: as the dialect wrote it, or ""."""

    name: str
    arguments: dict[str, Any]
    id: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parsed:
    """A model's text, taken apart.

    ``dialect``: the one of its calls, or of the one that failed; "" when there was none.
    ``content``: the text around calls and think blocks, unchanged. ``errors``: written for the
    model, one for each call that was begun and could not be read or does not fit its tool.
    """

    dialect: str
    reasoning: str
    content: str
    calls: tuple[ParsedCall, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A call as a form read it. ``raw``: its arguments are text, to be typed by the schema."""

    name: str
    arguments: dict[str, Any]
    id: str = ""
    notes: tuple[str, ...] = ()
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """``text[start:end]`` is a call, or several, or the wreck of one.

    ``cut``: it goes to the end of the text without being complete.
    """

    dialect: str
    start: int
    end: int
    calls: tuple[Call, ...] = ()
    errors: tuple[str, ...] = ()
    cut: bool = False


class Source:
    """One text and the tools that it may call. ``cache``: what forms compute once per text."""

    def __init__(self, text: str, tools: Mapping[str, Mapping[str, Any]]) -> None:
        self.text = text
        self.tools = tools
        self.cache: dict[object, Any] = {}

    @cached_property
    def known(self) -> str:
        """A regular expression of the tools' names; of nothing, without tools."""
        return "|".join(map(re.escape, sorted(self.tools, key=len, reverse=True))) or r"(?!)"

    def resolve(self, name: str) -> str:
        """The tool's own name, without the namespace that some dialects put before it."""
        name = name.strip()
        for prefix in ("functions.", "default_api.", "tools."):
            short = name.removeprefix(prefix)
            if name not in self.tools and short != name:
                return short
        return name

    def schema(self, name: str) -> Mapping[str, Any]:
        return self.tools.get(name, {})


class Form(Protocol):
    """How one dialect writes calls after one of its marks."""

    @property
    def dialect(self) -> str: ...

    @property
    def opens(self) -> tuple[str, ...]: ...

    def read(self, source: Source, at: int) -> Block | None:
        """The block that begins at the mark at ``at``; None: not in this form, so it is text."""
        ...


def failed(
    dialect: str,
    source: Source,
    start: int,
    end: int,
    broken: Broken,
    calls: tuple[Call, ...] = (),
) -> Block:
    """The block of a call that could not be read, after ``calls`` that could."""
    if broken.cut:
        end = len(source.text)
    given = excerpt(source.text, start, end)
    names = ", ".join(f"`{call.name}`" for call in calls[:10])
    kept = f"the call of {names}" if len(calls) == 1 else f"the {len(calls)} calls of {names}"
    if calls:
        not_run = f"Only {kept} before that was read; the rest was not run. Write only the rest"
    else:
        not_run = "It was not run. Write"
    if broken.cut:
        whole = "again" if calls else "the whole call again"
        error = (
            f"A tool call ({dialect}) is truncated: {broken.why}. There was: {given} "
            f"{not_run} {whole}; if it was too long, do less in one call."
        )
    else:
        what = "again" if calls else "it again"
        error = (
            f"A tool call ({dialect}) cannot be read: {broken.why}. It was: {given} "
            f"{not_run} {what}, with its name and one valid set of arguments."
        )
    return Block(dialect, start, end, calls, (error,), broken.cut)


def excerpt(text: str, start: int, end: int) -> str:
    """The beginning and the end of ``text[start:end]``, and how long it is."""
    if end - start <= _EXCERPT:
        return f"«{text[start:end]}»"
    head, tail = _EXCERPT * 3 // 4, _EXCERPT // 4
    return f"«{text[start : start + head]} … {text[end - tail : end]}» ({end - start} characters)."
