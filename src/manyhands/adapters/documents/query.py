"""Any text to a query of FTS5, and the words that are indexed beside a text's own.

Invariant: what goes to FTS5 is quoted terms joined by OR; no text of a user's is an operator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from manyhands.adapters.documents.text import clean, words

#: Terms of one query: who pastes a page asks with the beginning of it.
MOST_TERMS = 64
MOST_TEXT = 10_000

STOP_WORDS = words(
    "a about all also an and any are as at be been but by can could did do does for from had has "
    "have how i if in into is it its me my no not of on or our should so such than that the their "
    "them then there these they this to us was we were what when where which who why will with "
    "would you your"
)

# FTS5's unicode61 takes a run of letters for one word, which finds nothing in scripts that put no
# spaces between words. So pairs of characters are indexed in a column of their own.
_CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]+")
_CAMEL = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9]*?(?:[a-z0-9][A-Z]|[A-Z]{2}[a-z])[A-Za-z0-9]*"
)
_HUMP = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
_BETWEEN = re.compile(r'[\x00-\x1f\x7f-\x9f"]')
_PART = re.compile(r"[^\W_]+")


def expression(text: str) -> str:
    """The query; empty: there is no word in the text."""
    cleaned = clean(_BETWEEN.sub(" ", text[:MOST_TEXT]))
    found = [word for word in cleaned.split() if any(c.isalnum() for c in word)]
    kept = [word for word in found if not _is_stop(word)]
    terms: dict[str, None] = {}
    for word in kept or found:
        for term in _terms(word):
            terms.setdefault(term.lower())
            if len(terms) >= MOST_TERMS:
                return _joined(terms)
    return _joined(terms)


def _joined(terms: dict[str, None]) -> str:
    return " OR ".join(f'"{term}"' for term in terms)


def _is_stop(word: str) -> bool:
    return word.lower().strip(".,;:!?'()[]{}") in STOP_WORDS


def _terms(word: str) -> Iterator[str]:
    """The word as it stands (a phrase, if the index cuts it in several), and its parts."""
    yield word
    parts = _PART.findall(word)
    if len(parts) > 1:
        yield from (part for part in parts if part.lower() not in STOP_WORDS)
    for name in _CAMEL.findall(word):
        yield " ".join(_HUMP.findall(name))
    for run in _CJK.findall(word):
        yield from _pairs(run)


def beside(text: str) -> str:
    """Words to index with ``text``: the humps of its names, and pairs of its characters."""
    names = dict.fromkeys(_CAMEL.findall(text))
    found = [" ".join(_HUMP.findall(name)) for name in names]
    found += [" ".join(_pairs(run)) for run in _CJK.findall(text)]
    return " ".join(found)


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(max(1, len(run) - 1))]
