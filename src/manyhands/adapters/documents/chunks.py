"""A document cut into passages.

Invariant: the passages of a part are slices of its text, in order; between them nothing is lost but
whitespace, and none is longer than `LONGEST`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from manyhands.adapters.documents.blocks import Block, blocks
from manyhands.adapters.documents.text import Document, Form, one_line

#: Characters that a passage is filled up to: some 300 tokens, of which a small context holds a few.
TARGET = 1_200
#: What a fence may take to stay in one piece.
LONGEST = 2_400
#: What a definition in code is shorter than to share a passage with the next one.
SMALL = 400

_SENTENCE = re.compile(r"[.!?…][\"”’»)\]]*(?=\s)|[。！？][”’」』）]*")
_MARKUP = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)|[`*]+")
#: Characters of one heading in a title, and of all of them.
_TITLE, _TITLES = 120, 400
#: How far a cut inside of a word gives way to what belongs to the letter before.
_MARKS = 16


@dataclass(frozen=True, slots=True)
class Chunk:
    title: str
    text: str


@dataclass(slots=True)
class _Open:
    start: int
    end: int
    bare: bool


def cut(document: Document, name: str) -> list[Chunk]:
    """All passages. ``name``: stands for a title where the document has none."""
    title = document.title or name
    return [
        Chunk(_joined([title, part.title, *path]), text)
        for part in document.parts
        for path, text in slices(part.text, part.form)
    ]


def slices(text: str, form: Form) -> Iterator[tuple[list[str], str]]:
    """Each passage's headings, outermost first, and its text."""
    path: list[tuple[int, str]] = []
    open_: _Open | None = None
    titles: list[str] = []
    for block in blocks(text, form):
        if block.level:
            if open_ and not open_.bare and (block.bare or open_.end - open_.start >= SMALL):
                yield titles, text[open_.start : open_.end]
                open_ = None
            path = [each for each in path if each[0] < block.level]
            path.append((block.level, plain_title(block.title)))
        if open_ is None or open_.bare or not titles:
            titles = [title for _, title in path if title]
        for start, end in _pieces(text, block):
            if open_ and end - open_.start > (LONGEST if open_.bare else TARGET):
                yield titles, text[open_.start : open_.end]
                open_ = None
            if open_ is None:
                open_ = _Open(start, end, block.bare)
                titles = [title for _, title in path if title]
            open_.end, open_.bare = end, open_.bare and block.bare
    if open_:
        yield titles, text[open_.start : open_.end]


def plain_title(text: str) -> str:
    """Without links and marks of code or emphasis."""
    return one_line(_MARKUP.sub(r"\1", text), _TITLE)


def _joined(titles: list[str]) -> str:
    kept = [title for at, title in enumerate(titles) if title and title not in titles[:at]]
    return one_line(" > ".join(kept), _TITLES)


def _pieces(text: str, block: Block) -> Iterator[tuple[int, int]]:
    """The block, or where it is too long its parts, without the whitespace around them."""
    start, end = _trimmed(text, block.start, block.end)
    if end - start > (LONGEST if block.whole else TARGET):
        while end - start > TARGET:
            at = _cut_at(text, start, start + TARGET, block.rows)
            yield _trimmed(text, start, at)
            start, _ = _trimmed(text, at, end)
    if start < end:
        yield start, end


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _cut_at(text: str, start: int, limit: int, rows: bool) -> int:
    """The best place after ``start`` and not after ``limit``: behind a sentence, a line, a word."""
    half = start + TARGET // 2
    sentence = max((found.end() for found in _SENTENCE.finditer(text, half, limit)), default=0)
    line = text.rfind("\n", half, limit + 1)
    for at in (line, sentence) if rows else (sentence, line):
        if at > half:
            return at
    for at in range(limit, start, -1):
        if text[at].isspace():
            return at
    return _whole_letter(text, start, limit)


def _whole_letter(text: str, start: int, limit: int) -> int:
    for at in range(limit, max(start, limit - _MARKS), -1):
        if not unicodedata.combining(text[at]) and text[at] not in "\u200d\ufe0e\ufe0f":
            return at
    return limit
