"""A text that comes in chunks.

Invariants: `StreamParser.finish` is `parse` of the whole text, by construction, wherever the chunks
were cut. What `StreamParser.feed` shows is never taken back, but for two things that no parser can
know. A model whose template opened its thinking in the prompt writes thinking that looks like an
answer until it closes it: until a think block was seen, content is therefore not ``settled``. And a
call in a think block is a thought until the text ends without closing it: what was shown as
reasoning is then a call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from manyhands.agents.dialects import harmony
from manyhands.agents.dialects.marks import ENDS, THINKING, THOUGHT, any_of, speech
from manyhands.agents.dialects.outcome import Parsed
from manyhands.agents.dialects.reading import check, parse
from manyhands.agents.dialects.walk import mention

Kind = Literal["content", "reasoning"]

#: What is held back while it is not known whether a line begins a call.
_MOST_WAIT = 4096
_LINE = r"^[ \t]*(?:`{3}|~{3}|[{\[]|Action:|to=)"
_LINE_BEGUN = re.compile(r"\n[ \t]*(?:`{0,2}|~{0,2}|A|Ac|Act|Acti|Actio|Action|t|to)\Z")


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be shown. ``settled``: False where it may still turn out to be reasoning."""

    kind: Kind
    text: str
    settled: bool


class StreamParser:
    """Feed chunks, show the pieces, and take the result at the end."""

    def __init__(self, tools: Mapping[str, Mapping[str, Any]], *, dialect: str = "") -> None:
        check(dialect)
        self._tools = tools
        self._dialect = dialect
        self._watch = _watch(dialect)
        self._chunks: list[str] = []
        self._tail = "\n"  # what is not shown yet, after the last character that was read
        self._held = False  # nothing more is certain before the end
        self._close: str = ""  # in a think block: the mark that ends it
        self._thought = False
        self._blank = True  # nothing but white space since the last mark
        self._spare: str = ""  # that white space, shown with what follows it
        self._code = False  # the line has a backtick, or a fence was passed
        self._reasoned = False

    def feed(self, chunk: str) -> list[Piece]:
        """The pieces that became certain; in amortised linear time."""
        self._chunks.append(chunk)
        pieces: list[Piece] = []
        if self._held:
            return pieces
        self._tail += chunk
        while not self._held and self._step(pieces):
            pass
        return _joined(pieces)

    def finish(self) -> Parsed:
        """The result for all that was fed. Call it once, at the end."""
        return parse("".join(self._chunks), self._tools, dialect=self._dialect)

    # The first character of the tail is always one that was read before: a line break, or any.

    def _step(self, pieces: list[Piece]) -> bool:
        """Goes on to the next thing that may matter; False: more text is needed."""
        found = self._watch.pattern(self._close).search(self._tail, 1)
        if found is None:
            keep = self._watch.begun(self._tail)
            self._show(pieces, keep)
            return False
        self._show(pieces, found.start())
        if self._held:
            return False
        word = self._tail[1 : 1 + found.end() - found.start()]
        return self._line(pieces, word) if not found["mark"] else self._mark(pieces, word)

    def _mark(self, pieces: list[Piece], word: str) -> bool:
        if self._close:
            if word != self._close:
                return self._hold()
            self._take_whole(len(word))
            self._close, self._blank, self._spare = "", True, ""
            return True
        if self._code:
            return self._hold()
        if word in THINKING:
            return self._open(pieces, word)
        if word in THOUGHT:
            return self._closed(pieces, word)
        if word in self._watch.wrappers:
            self._take_whole(len(word))
            self._blank, self._thought, self._spare = True, True, ""
            return True
        return self._hold()

    def _open(self, pieces: list[Piece], word: str) -> bool:
        token = word[:2] != "<t" and word != "<reasoning>"
        if not (token or self._blank or self._tail[0] == "\n"):
            return self._pass(pieces, len(word))
        self._take_whole(len(word))
        self._close, self._thought, self._spare = THINKING[word], True, ""
        self._blank = True
        return True

    def _closed(self, pieces: list[Piece], word: str) -> bool:
        """A closing mark that nothing opened: all that was shown was thinking."""
        if len(self._tail) == 1 + len(word):
            return False
        if self._thought or mention(self._tail, word, 1):
            return self._pass(pieces, len(word))
        self._take_whole(len(word))
        self._thought, self._blank, self._spare = True, True, ""
        return True

    def _line(self, pieces: list[Piece], word: str) -> bool:
        """A line that may begin a call without a mark."""
        verdict = self._watch.line(self._tail[1:], self._tools)
        if verdict is None and len(self._tail) < _MOST_WAIT:
            return False
        if verdict is not False:
            return self._hold()
        mark = self._tail[len(word) :]
        if self._watch.begins(mark):
            return False
        if len(word) > 1 and self._watch.whole(mark):
            return self._pass(pieces, len(word) - 1)
        if word.lstrip()[0] in "`~":
            self._code = True
        return self._pass(pieces, len(word))

    # ------------------------------------------------------------ the tail

    def _hold(self) -> bool:
        self._held = True
        self._tail = ""
        return False

    def _take_whole(self, size: int) -> None:
        """Past a mark after which thinking or the answer begins, as on a line of its own."""
        self._tail = "\n" + self._tail[1 + size :]

    def _pass(self, pieces: list[Piece], size: int) -> bool:
        self._show(pieces, 1 + size)
        return True

    def _show(self, pieces: list[Piece], end: int) -> None:
        """Shows the tail up to ``end``, keeping its last character for what follows."""
        text = self._tail[1:end]
        if not text:
            return
        if self._close:
            self._reasoning(pieces, text)
        else:
            self._content(pieces, text)
            line = text.rpartition("\n")
            self._code = "`" in line[2] or (self._code and not line[1]) or "\n```" in text
        self._held = self._held or len(self._spare) > _MOST_WAIT
        self._tail = self._tail[end - 1 :]

    def _content(self, pieces: list[Piece], text: str) -> None:
        if self._blank:
            text = text.lstrip() if self._thought and not self._spare else self._spare + text
            self._spare = "" if text.strip() else text
            self._blank = not text.strip()
        if text and not self._blank:
            pieces.append(Piece("content", text, self._thought))

    def _reasoning(self, pieces: list[Piece], text: str) -> None:
        """The white space around a block is no part of it; that inside waits for more text."""
        text = self._spare + text if not self._blank else text.lstrip()
        shown = text.rstrip()
        self._spare = text[len(shown) :]
        if not shown:
            return
        if self._blank and self._reasoned:
            pieces.append(Piece("reasoning", "\n\n", True))
        self._blank, self._reasoned = False, True
        pieces.append(Piece("reasoning", shown, True))


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of one kind as one piece."""
    found: list[Piece] = []
    for piece in pieces:
        last = found[-1] if found else None
        if last is not None and (last.kind, last.settled) == (piece.kind, piece.settled):
            found[-1] = Piece(last.kind, last.text + piece.text, last.settled)
        else:
            found.append(piece)
    return found


# ---------------------------------------------------------------- what to watch for


class _Watch:
    """The marks of one dialect, or of all, and the beginnings of them."""

    def __init__(self, dialect: str) -> None:
        heard = speech(dialect)
        self.bare = bool(heard.bare)
        self.wrappers = heard.wrappers
        marks = {*heard.forms, *THINKING, *THOUGHT, *heard.wrappers, *ENDS, *harmony.MARKS}
        self._content = re.compile(rf"(?P<mark>{any_of(marks)})|(?P<line>{_LINE})", re.M)
        inner = {*heard.forms, *ENDS, *harmony.MARKS}
        line = rf"|(?P<line>{_LINE})" if heard.bare else ""
        self._inside = {
            close: re.compile(rf"(?P<mark>{any_of({*inner, close})}){line}", re.M)
            for close in THOUGHT
        }
        self._begun = frozenset(mark[:size] for mark in marks for size in range(1, len(mark)))
        self._marks = re.compile(any_of(marks))
        self._longest = max(map(len, marks))

    def pattern(self, close: str) -> re.Pattern[str]:
        return self._inside[close] if close else self._content

    def begun(self, tail: str) -> int:
        """Where the end of ``tail`` may be the beginning of a mark or of a call's line."""
        line = _LINE_BEGUN.search(tail, max(0, len(tail) - 200))
        keep = line.start() + 1 if line else len(tail)
        for size in range(min(self._longest, len(tail) - 1), 0, -1):
            if tail[-size:] in self._begun:
                return max(1, min(keep, len(tail) - size))
        return max(1, keep)

    def begins(self, text: str) -> bool:
        """Whether ``text`` is the beginning of a mark."""
        return text in self._begun

    def whole(self, text: str) -> bool:
        """Whether a mark stands at the beginning of ``text``."""
        return self._marks.match(text) is not None

    def line(self, text: str, tools: Mapping[str, Any]) -> bool | None:
        """Whether a line may begin a call; None: not known yet."""
        text = text.lstrip(" \t")
        if text.startswith(("Action:", "to=")):
            return True
        if text[0] in "`~":
            body = re.match(r"(?:`{3,}|~{3,})[^\n`]*(\n\s*)?", text)
            if body is None:
                return False
            rest = text[body.end() :]
            if "tool_code" in body[0]:
                return True
            if not rest:
                return None
            return _may_call(rest, tools) if body[1] else False
        return _may_call(text, tools)


def _may_call(text: str, tools: Mapping[str, Any]) -> bool | None:
    """Whether a line's text may be JSON with a name, or functions."""
    inside = text[1:].lstrip()
    if text[0] == "{":
        return None if not inside else inside[0] in "\"'}" or inside[0].isalnum()
    if text[0] == "[":
        if not inside or inside[0] in "{]":
            return None if not inside else True
        text = inside
    word = re.match(r"[\w.\-/:]*", text)
    name = word[0] if word else ""
    if len(name) == len(text) and len(name) < 200:
        return None
    named = name in tools or name.rpartition(".")[2] in tools or name == "print"
    return named and text[len(name) :].lstrip()[:1] in ("(", "")


@lru_cache(maxsize=64)
def _watch(dialect: str) -> _Watch:
    return _Watch(dialect)
