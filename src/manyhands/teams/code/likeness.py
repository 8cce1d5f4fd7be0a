"""Whether two items of the context store say the same, or contradict each other, by their words.

Invariant: it is a hint for whoever decides, never a reason to drop an item; it takes time that
grows with the texts' length alone, and says the same in every process.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

#: Share of all words that two texts have in common: of the same subject, and saying the same.
SUBJECT, SAME = 0.7, 0.85
#: Words that two texts must share at least, and may have at most to contradict each other: two
#: plans that differ in a number are two versions.
LEAST, MOST = 2, 60

_PATH = re.compile(r"[\w.~-]*/[\w./~-]*\w|\b[\w-]+\.[a-z][a-z0-9]{0,4}\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*%?(?![\w])")
_WORD = re.compile(r"[^\W_](?:[\w']*[^\W_])?")
_NOT = frozenset(["not", "no", "never", "none", "cannot", "without", "neither", "nor", "nothing"])
_SIDES = {
    word: (axis, side)
    for axis, pair in enumerate(
        [
            ("passes passed pass succeeds succeeded", "fails failed fail failing"),
            ("true", "false"),
            ("enabled enable enables on", "disabled disable disables off"),
            ("exists present", "missing absent"),
            ("works working", "broken"),
            ("valid", "invalid"),
            ("supported supports", "unsupported"),
            ("required mandatory", "optional"),
            ("synchronous sync", "asynchronous async"),
            ("mutable", "immutable"),
            ("before", "after"),
            ("always", "sometimes"),
        ]
    )
    for side, words in enumerate(pair)
    for word in words.split()
}
_LITTLE = """a an and are as at be been by can do does for from has have if in is it its of or so
than that the their then there these this to was were when which will with"""
_STOP = frozenset(_LITTLE.split())


@dataclass(frozen=True, slots=True)
class Likeness:
    """How one text stands to another; ``why``: in words, one line."""

    kind: Literal["duplicate", "contradiction"]
    why: str


@dataclass(frozen=True, slots=True)
class _Reading:
    plain: str
    words: frozenset[str]
    numbers: frozenset[str]
    paths: frozenset[str]
    sides: frozenset[tuple[int, int]]
    negated: bool


def likeness(one: str, other: str) -> Likeness | None:
    """``one`` as seen from whoever has ``other``; None: they are about different things."""
    mine, theirs = _read(one), _read(other)
    if mine.plain == theirs.plain:
        return Likeness("duplicate", "the same content")
    shared, every = len(mine.words & theirs.words), len(mine.words | theirs.words)
    if shared < LEAST or shared < SUBJECT * every:
        return None
    difference = next(_differences(mine, theirs), "")
    if difference:
        short = max(len(mine.words), len(theirs.words)) <= MOST
        return Likeness("contradiction", difference) if short else None
    same = (mine.numbers, mine.paths, mine.sides) == (theirs.numbers, theirs.paths, theirs.sides)
    return (
        Likeness("duplicate", "nearly the same words") if same and shared >= SAME * every else None
    )


def _differences(mine: _Reading, theirs: _Reading) -> Iterator[str]:
    """What each says and the other does not; one that only says more is no contradiction."""
    for name, one, other in (
        ("number", mine.numbers, theirs.numbers),
        ("path", mine.paths, theirs.paths),
    ):
        if one - other and other - one:
            yield f"{name} {min(one - other)} against {min(other - one)}"
    opposed = {(axis, 1 - side) for axis, side in mine.sides} & theirs.sides
    if (mine.negated != theirs.negated) != bool(opposed):
        yield "one denies what the other says"


@lru_cache(maxsize=4096)
def _read(text: str) -> _Reading:
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    folded = folded.replace("n't", " not")
    paths = frozenset(found.strip("./") for found in _PATH.findall(folded))
    rest = _PATH.sub(" ", folded)
    numbers = frozenset(_NUMBER.findall(rest))
    words = _WORD.findall(_NUMBER.sub(" ", rest))
    return _Reading(
        plain=" ".join(re.findall(r"[^\W_]+|[^\w\s]", folded)).rstrip(" .!;"),
        words=frozenset(w for w in words if w not in _STOP | _NOT and w not in _SIDES),
        numbers=numbers,
        paths=paths,
        sides=frozenset(_SIDES[word] for word in words if word in _SIDES),
        negated=sum(word in _NOT for word in words) % 2 == 1,
    )
