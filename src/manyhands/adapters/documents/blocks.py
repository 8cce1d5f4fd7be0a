"""A text's blocks: paragraphs, fences, headings.

Invariant: blocks are slices of the text in order that do not overlap, and what lies between them is
whitespace. Scanning is linear in the text's length, whatever is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from manyhands.adapters.documents.text import Form

_FENCE = re.compile(r"[ \t]*(`{3,}(?=[^`]*$)|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_SETEXT = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
_ROW = re.compile(r"[ \t]*(?:[-*+|>]|\d{1,9}[.)])")
_FRONT_LINES = 200
#: A heading of more lines than that is a paragraph above a rule.
_HEADING_LINES = 2

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{2,}[ \t]*$")
_DEFINITION = re.compile(
    r"(?:(?:export|default|public|private|protected|pub|static|async|abstract|final)\s+)*"
    r"(?:def|class|func|fn|function|struct|enum|interface|trait|impl|module|namespace)\s+"
    r"([A-Za-z_$][\w$]*)"
)


@dataclass(frozen=True, slots=True)
class Block:
    """``text[start:end]``. ``level`` 1 and deeper: it begins a section named ``title``.

    ``bare``: it is the heading alone. ``rows``: it is better cut between lines than between
    sentences; ``whole``: better not at all.
    """

    start: int
    end: int
    level: int = 0
    title: str = ""
    bare: bool = False
    rows: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    text: str


def blocks(text: str, form: Form) -> list[Block]:
    scan = {Form.MARKDOWN: _markdown, Form.PLAIN: _plain, Form.CODE: _code}[form]
    return list(scan(_lines(text)))


def _lines(text: str) -> list[_Line]:
    found: list[_Line] = []
    start = 0
    for line in text.split("\n"):
        found.append(_Line(start, start + len(line), line))
        start += len(line) + 1
    return found


def _paragraph(lines: list[_Line]) -> Iterator[Block]:
    """A block of these lines, which are emptied; none if there are none."""
    if lines:
        rows = all(_ROW.match(line.text) for line in lines[:2])
        yield Block(lines[0].start, lines[-1].end, rows=rows)
        lines.clear()


# ------------------------------------------------------------------ Markdown


def _markdown(lines: list[_Line]) -> Iterator[Block]:
    body = iter(lines)
    front = _front_matter(lines)
    if front:
        yield Block(0, lines[front].end, rows=True)
        body = iter(lines[front + 1 :])
    open_: list[_Line] = []
    for line in body:
        fence, atx = _FENCE.match(line.text), _ATX.match(line.text)
        if not line.text.strip():
            yield from _paragraph(open_)
        elif fence:
            yield from _paragraph(open_)
            yield _fenced(line, fence[1], body)
        elif atx:
            yield from _paragraph(open_)
            title = line.text[atx.end() :].strip().rstrip("#").strip()
            yield Block(line.start, line.end, level=len(atx[1]), title=title, bare=True)
        elif _SETEXT.match(line.text) and _can_be_heading(open_):
            title = " ".join(each.text.strip() for each in open_)
            level = 1 if "=" in line.text else 2
            yield Block(open_[0].start, line.end, level=level, title=title, bare=True)
            open_.clear()
        else:
            open_.append(line)
    yield from _paragraph(open_)


def _front_matter(lines: list[_Line]) -> int:
    """The number of its last line; 0: there is none."""
    if lines[0].text.rstrip() != "---":
        return 0
    for number, line in enumerate(lines[1:_FRONT_LINES], 1):
        if line.text.rstrip() in ("---", "..."):
            return number
    return 0


def _fenced(first: _Line, fence: str, rest: Iterator[_Line]) -> Block:
    """Up to the line that closes it; one that is left open goes to the end."""
    last = first
    for line in rest:
        last = line
        mark = line.text.strip()
        if len(mark) >= len(fence) and not mark.strip(fence[0]):
            break
    return Block(first.start, last.end, rows=True, whole=True)


def _can_be_heading(lines: list[_Line]) -> bool:
    if not 0 < len(lines) <= _HEADING_LINES:
        return False
    return not any(_ROW.match(line.text) or line.text.startswith("    ") for line in lines)


# ------------------------------------------------------------------ plain text, reStructuredText


def _plain(lines: list[_Line]) -> Iterator[Block]:
    levels: list[tuple[str, bool]] = []
    open_: list[_Line] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        heading = _underlined(lines, at) if line.text.strip() and not open_ else None
        if heading:
            yield from _paragraph(open_)
            last, title, style = heading
            if style not in levels:
                levels.append(style)
            level = levels.index(style) + 1
            yield Block(line.start, lines[last].end, level=level, title=title, bare=True)
            at = last
        elif line.text.strip():
            open_.append(line)
        else:
            yield from _paragraph(open_)
        at += 1
    yield from _paragraph(open_)


def _underlined(lines: list[_Line], at: int) -> tuple[int, str, tuple[str, bool]] | None:
    """The last line, the title and the style of a heading that begins at line ``at``."""
    over = _ADORNMENT.match(lines[at].text)
    title_at = at + 1 if over else at
    if title_at + 1 >= len(lines):
        return None
    title, under = lines[title_at].text, _ADORNMENT.match(lines[title_at + 1].text)
    if not under or not title.strip() or len(under[0].rstrip()) < len(title.strip()):
        return None
    if (over and over[1] != under[1]) or (not over and title[0].isspace()):
        return None
    return title_at + 1, title.strip(), (under[1], bool(over))


# ------------------------------------------------------------------ code


def _code(lines: list[_Line]) -> Iterator[Block]:
    """Paragraphs; one that defines something at the left margin begins a section."""
    for paragraph in _paragraphs(lines):
        found = (_DEFINITION.match(line.text) for line in paragraph)
        defined = next((each[1] for each in found if each), "")
        start, end = paragraph[0].start, paragraph[-1].end
        yield Block(start, end, level=1 if defined else 0, title=defined, rows=True)


def _paragraphs(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    open_: list[_Line] = []
    for line in lines:
        if line.text.strip():
            open_.append(line)
        elif open_:
            yield open_
            open_ = []
    if open_:
        yield open_
