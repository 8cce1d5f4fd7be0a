"""Bytes of a document to text, and what a document is once it is read.

Invariant: text holds no control character but tab and line feed, no half of a surrogate pair, and
only ``\\n`` ends a line. What is no text is `Unreadable`, with the reason.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from enum import StrEnum

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark its own begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: Who says latin-1 (or nothing) means Windows's superset of it, as browsers know.
_LATIN = frozenset({"iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii"})
#: Of the bytes of a text that is not UTF-8, how many may be controls before it is taken for data.
_MOST_CONTROLS = 0.02

_LINE_END = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_BYTE_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


class Unreadable(Exception):
    """A document that is left out; the message is the reason."""


class Form(StrEnum):
    """How headings are written. Plain text has those of reStructuredText: a line, underlined."""

    MARKDOWN = "markdown"
    PLAIN = "plain"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Part:
    """A text with headings of its own; ``title`` stands above them ("page 3")."""

    title: str
    text: str
    form: Form


@dataclass(frozen=True, slots=True)
class Document:
    """``title`` is empty where the document does not say."""

    title: str
    parts: tuple[Part, ...]


def words(text: str) -> frozenset[str]:
    """For tables of words, written as a text."""
    return frozenset(text.split())


def clean(text: str) -> str:
    """The text without what cannot be shown. A control is nothing; a form feed ends a line."""
    return _CONTROL.sub("", _LINE_END.sub("\n", text))


def one_line(text: str, longest: int = 200) -> str:
    """For titles: on one line, and not longer than that."""
    found = " ".join(clean(text).split())
    return found if len(found) <= longest else found[: longest - 1].rstrip() + "…"


def decode(data: bytes, charset: str | None = None) -> str:
    """By its mark, by ``charset``, as UTF-8, as Windows's latin-1: the first that fits.

    Raises `Unreadable` for what is no text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return clean(data[len(mark) :].decode(encoding, "replace"))
    if b"\x00" in data:
        raise Unreadable("binary: it holds NUL bytes; convert it to text, Markdown, HTML or PDF")
    said = "cp1252" if charset and charset.lower() in _LATIN else charset
    for encoding in (said, "utf-8"):
        found = _strictly(data, encoding)
        if found is not None:
            return clean(found)
    controls = len(_BYTE_CONTROL.findall(data))
    if controls > _MOST_CONTROLS * len(data):
        raise Unreadable(f"binary: not UTF-8, and {controls} of its {len(data)} bytes are controls")
    return clean(_strictly(data, "cp1252") or data.decode("latin-1"))


def _strictly(data: bytes, encoding: str | None) -> str | None:
    if not encoding:
        return None
    try:
        # Codecs that are not for text ("hex", "zip") raise LookupError here.
        return data.decode(encoding)
    except (LookupError, ValueError):
        return None
