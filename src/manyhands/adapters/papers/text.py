"""A stranger's text made inert, and cut.

Invariant: what leaves here moves no cursor, changes no colour and turns no text around.
"""

from __future__ import annotations

import re
from dataclasses import replace

from manyhands.ports import Paper, Passage

#: Characters of an abstract that are kept.
LONGEST_ABSTRACT = 6_000
_LONGEST_LINE = 400
_MOST_AUTHORS = 200

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
_LINE_END = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff"
    "\u200b\u200e\u200f\u061c\u202a-\u202e\u2060-\u2069\U000e0000-\U000e007f]"
)


def inert(text: str, limit: int = 0) -> str:
    """Lines stay lines. ``limit``: characters, the last an ellipsis (0: no limit)."""
    if limit:
        text = text[: 4 * limit]  # of what is cut off nothing need be looked at
    text = _UNSEEN.sub("", _LINE_END.sub("\n", _ESCAPES.sub("", text))).strip()
    return text if not limit or len(text) <= limit else text[: limit - 1].rstrip() + "…"


def line(text: str, limit: int = _LONGEST_LINE) -> str:
    """On one line."""
    return inert(" ".join(inert(text, 4 * limit).split()), limit)


def tidy(paper: Paper) -> Paper:
    return Paper(
        id=line(paper.id),
        title=line(paper.title),
        authors=tuple(line(name, 100) for name in paper.authors[:_MOST_AUTHORS]),
        date=line(paper.date, 20),
        abstract=inert(paper.abstract, LONGEST_ABSTRACT),
        url=line(paper.url, 1_000),
    )


def tidy_passage(passage: Passage) -> Passage:
    return replace(passage, title=line(passage.title), text=inert(passage.text))
