"""Text as the mechanical checks read it: plain characters, tokens, sentences, clauses, word keys.

Invariant: two spellings of the same words give the same tokens; every function takes any text and
its time grows with the text's length alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from manyhands.teams.answer.lexicon import IRREGULAR, STOP, SYNONYMS

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′ʼ´", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–—―−﹣", "-"),
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", None),
        "`": " ",
    }
)
#: Scripts that put no space between words: each character is a token.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_TOKEN = re.compile(
    rf"[{_UNSPACED}]"
    r"|\d+(?:[.,]\d+)*"
    rf"|(?:(?![{_UNSPACED}])[^\W_])(?:(?![{_UNSPACED}])\w)*(?:'[^\W\d_]+)*"
    r"|[<>=!]=?|[%$€£+°\-]"
)
#: Not part of the words by which a quote is compared.
_SEPARATING = frozenset("-°")
_SENTENCE_END = re.compile(
    r"[.!?][\"')\]]*\s+(?=[\"'(\[]*[^\W_])|\n\s*\n|\n\s*(?:[-•]|\d+[.)])\s|。"
)
_ABBREVIATED = re.compile(
    r"(?:\b(?:e\.g|i\.e|[ap]\.m|vs|cf|dr|mr|mrs|fig|st|approx|ca|etc|al|max|min|no|eq|sec|incl|resp)|(?<=[a-z]\s)[a-z])\.\s+$",
    re.IGNORECASE,
)
_SUFFIXES = ("ments", "ment", "ies", "ied", "ing", "ed", "es", "ly", "s")


@dataclass(frozen=True, slots=True)
class Token:
    """``text`` in lower case; ``start`` and ``end`` in the plain text."""

    text: str
    start: int
    end: int

    @property
    def is_word(self) -> bool:
        return self.text[0].isalpha()


@dataclass(frozen=True, slots=True)
class Reading:
    """A text read once. ``sentences``: the span of each in ``plain``, in order, without a gap.

    ``words``: the tokens by which a quote is compared; ``line``: they, a space before and after
    each; ``starts``: where each starts in the line.
    """

    plain: str
    tokens: tuple[Token, ...]
    sentences: tuple[tuple[int, int], ...]
    words: tuple[Token, ...]
    line: str
    starts: tuple[int, ...]

    def around(self, start: int, end: int, neighbours: int = 0) -> tuple[int, int]:
        """The span of the sentences that ``start`` to ``end`` touches, and of their neighbours."""
        touched = [i for i, (a, b) in enumerate(self.sentences) if a < end and b > start]
        if not touched:
            return start, end
        low, high = max(touched[0] - neighbours, 0), touched[-1] + neighbours
        return self.sentences[low][0], self.sentences[min(high, len(self.sentences) - 1)][1]


@lru_cache(maxsize=256)
def read(text: str) -> Reading:
    plain_text = plain(text)
    found = tuple(tokens(plain_text))
    # A hyphen may be a line's end, so it is no part of the words.
    words = tuple(t for t in found if t.text not in _SEPARATING)
    return Reading(
        plain=plain_text,
        tokens=found,
        sentences=tuple(_sentence_spans(plain_text)),
        words=words,
        line=f" {' '.join(t.text for t in words)} ",
        starts=tuple(accumulate((len(t.text) + 1 for t in words[:-1]), initial=1)),
    )


def plain(text: str) -> str:
    """One way to write each character: quotes, dashes, ligatures, no emphasis, no soft hyphen."""
    shown = unicodedata.normalize("NFKC", text.translate(_CHARACTERS)).translate(_CHARACTERS)
    return shown.replace("n't", " not").replace("N'T", " not") if "'" in shown else shown


def tokens(plain_text: str) -> list[Token]:
    return [
        Token(m[0].casefold().strip("_"), m.start(), m.end())
        for m in _TOKEN.finditer(plain_text)
        if m[0].strip("_")
    ]


def _sentence_spans(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    start = 0
    for end in _SENTENCE_END.finditer(text):
        # The look-back is cut short so that the time stays linear.
        if _ABBREVIATED.search(text[max(end.start() - 8, 0) : end.end()]):
            continue
        spans.append((start, end.end()))
        start = end.end()
    if start < len(text):
        spans.append((start, len(text)))
    return spans


def sentences(text: str) -> list[str]:
    reading = read(text)
    return [reading.plain[a:b].strip() for a, b in reading.sentences if reading.plain[a:b].strip()]


@lru_cache(maxsize=8192)
def key(word: str) -> str:
    """What inflections and synonyms of ``word`` share."""
    base = _base(word.removesuffix("'s"))
    return SYNONYMS.get(base, _bare(base))[:6]


def _base(word: str) -> str:
    """``word`` without its ending: a known one, or else what all its forms share."""
    if word in SYNONYMS:
        return word
    if word in IRREGULAR:
        return IRREGULAR[word]
    if not word.isascii() or len(word) < 4 or word.endswith("ss"):
        return word
    for suffix in _SUFFIXES:
        stem = word.removesuffix(suffix)
        if stem == word or len(stem) < 3:
            continue
        if suffix in ("ies", "ied"):
            stem += "y"
        undoubled = stem[:-1] if stem[-1] == stem[-2] else stem
        known = (w for w in (stem, f"{stem}e", undoubled) if w in SYNONYMS or w in IRREGULAR)
        found = next(known, stem)
        return IRREGULAR.get(found, found)
    return word


def _bare(stem: str) -> str:
    if len(stem) > 3 and stem[-1] == stem[-2]:
        stem = stem[:-1]
    return stem[:-1] if len(stem) > 4 and stem[-1] in "ey" else stem


def content(found: Sequence[Token]) -> list[str]:
    """The keys of the words that carry meaning, in order, without numbers."""
    return [key(t.text) for t in found if t.is_word and t.text not in STOP and not _is_letter(t)]


def _is_letter(token: Token) -> bool:
    return len(token.text) == 1 and token.text.isascii()


def content_of(text: str) -> set[str]:
    return set(content(read(text).tokens))
