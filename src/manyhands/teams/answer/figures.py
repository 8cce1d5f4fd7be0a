"""Whether the numbers of a statement are those of what it cites.

Invariant: every number that a statement makes a point of occurs, with equal value and a unit that
does not contradict, in what is cited; of several that could be meant, the one said of the same
thing, nearest to the quote, decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from manyhands.teams.answer.claims import IssueKind
from manyhands.teams.answer.lexicon import MONTHS, STOP, WEEKDAYS
from manyhands.teams.answer.numbers_in_text import Quantity, quantities
from manyhands.teams.answer.wording import Reading, key, read

#: How much better another number must fit the words around before it is taken for the one meant.
#: In the quoted sentences, in their neighbours, in the rest: the farther off, the less is needed.
MARGINS = (2.0, 0.75, 0.0)
#: How well the words around a number beside the quote must fit before it can be rested on.
_AKIN = 0.5
_NAME_WITH_DIGITS = re.compile(r"[^\W\d_]+[\w]*\d\w*", re.ASCII)
_ISO_DATE = re.compile(r"\b\d{4}-(\d{2})-\d{2}\b")
_DIRECTIONS = frozenset(["from", "to", "by"])
_ARTICLES = frozenset(["a", "an", "only", "sole", "first", "once", "second"])
_TELLING = frozenset(["another", "further", "first", "last", "next", "each", "every"])
#: Of the numbers said in passing, those that can be wrong.
_MEANT = frozenset(["one", "single", "twice", "double", "triple", "both"])


@dataclass(frozen=True, slots=True)
class Wrong:
    span: str
    why: str
    kind: IssueKind


@dataclass(frozen=True, slots=True)
class _Stated:
    """A quantity with the keys of the words around it, the nearest first."""

    quantity: Quantity
    around: Mapping[str, float]


def wrong_figures(
    text: str, quoted: Sequence[str], near: Sequence[str], whole: Sequence[str], title: str = ""
) -> Iterator[Wrong]:
    """``quoted``: the sentences of the quotes; ``near``: with their neighbours; ``whole``: all.

    ``title``: of what is cited; a number in a name that it has is no claim.
    """
    names = {(q.lead, q.raw) for s in _stated(read(title)) for q in [s.quantity]}
    places = [_of_all(texts) for texts in (quoted, near, whole)]
    mine = _stated(read(text))
    for stated in mine:
        if (stated.quantity.lead, stated.quantity.raw) in names:
            continue
        if not stated.quantity.weak or _counts(stated, places[0]):
            why = _wrong(stated, mine, places)
            if why:
                yield why
    yield from _wrong_names(text, whole)
    yield from _wrong_dates(text, near, whole)


def _of_all(texts: Sequence[str]) -> list[_Stated]:
    return [stated for text in texts for stated in _stated(read(text))]


def _stated(reading: Reading) -> list[_Stated]:
    found = quantities(reading.tokens, reading.plain)
    return [_Stated(quantity, _around(reading, quantity)) for quantity in found]


def _around(reading: Reading, quantity: Quantity) -> dict[str, float]:
    """The words near a number; each next one on a side counts half as much."""
    tokens = reading.tokens
    before = reversed(tokens[max(quantity.at - 8, 0) : quantity.at])
    after = tokens[quantity.end : quantity.end + 8]
    weights: dict[str, float] = {}
    for side in (before, after):
        weight = 1.0
        for token in side:
            if token.is_word and token.text not in STOP:
                word = key(token.text)
                weights[word] = max(weights.get(word, 0.0), weight)
                weight /= 2
    return weights


def _counts(stated: _Stated, here: Sequence[_Stated]) -> bool:
    """Whether a number said in passing is meant: another is said of the same thing."""
    noun, text = stated.quantity.noun, stated.quantity.text
    return (
        bool(noun)
        and text in _MEANT
        and any(s.quantity.noun == noun and not s.quantity.weak for s in here)
    )


def _wrong(
    stated: _Stated, mine: Sequence[_Stated], places: Sequence[Sequence[_Stated]]
) -> Wrong | None:
    quantity, here = stated.quantity, places[0]
    for place, margin in zip(places, MARGINS, strict=True):
        equal = [s for s in place if quantity.equals(s.quantity) and _states(s, stated)]
        if place is not here:  # beside the quote it has to be about the same
            equal = [s for s in equal if _is_akin(stated, s)]
        if equal:
            rival = _rival(stated, equal, here, mine, margin)
            return _differs(stated, rival, IssueKind.CONTRADICTION) if rival else None
    numbers = [s for s in (here or places[1]) if not s.quantity.weak]
    closest = max(numbers, key=lambda s: _fit(stated, s), default=None)
    if closest is None:
        why = f"{quantity.text!r} is not in what is cited, which states no number."
        return Wrong(quantity.text, why, IssueKind.UNSUPPORTED)
    same = closest.quantity.dimension == quantity.dimension and _fit(stated, closest) > 0
    return _differs(stated, closest, IssueKind.CONTRADICTION if same else IssueKind.UNSUPPORTED)


def _is_akin(stated: _Stated, other: _Stated) -> bool:
    return stated.quantity.dimension == other.quantity.dimension and _fit(stated, other) >= _AKIN


def _states(source: _Stated, stated: _Stated) -> bool:
    """Whether it is a number to rest on: "a" and "first" are none for a 1 in digits."""
    return source.quantity.text not in _ARTICLES or not stated.quantity.text[0].isdigit()


def _differs(stated: _Stated, says: _Stated, kind: IssueKind) -> Wrong:
    shown = f"{says.quantity.text} {says.quantity.noun}".strip()
    why = f"It says {stated.quantity.text!r}; what is cited says {shown!r} there."
    return Wrong(stated.quantity.text, why, kind)


def _rival(
    stated: _Stated,
    equal: Sequence[_Stated],
    here: Sequence[_Stated],
    mine: Sequence[_Stated],
    margin: float,
) -> _Stated | None:
    """Another number of the quoted sentences that is clearly said of what this one is said of."""
    best = max(equal, key=lambda s: _fit(stated, s))
    for rival in here:
        quantity = rival.quantity
        if (quantity.weak and quantity.dimension != "times") or stated.quantity.equals(quantity):
            continue
        if quantity.dimension != stated.quantity.dimension:
            continue
        gain = _fit(stated, rival) - _fit(stated, best)
        # What the equal number counts may be left unsaid; then another's noun proves less.
        gain -= 1.5 * (not best.quantity.noun and bool(quantity.noun))
        # Where the statement has both numbers, both must fit better exchanged.
        also = [s for s in mine if s.quantity.equals(quantity)]
        if also:
            its = max(also, key=lambda s: _fit(s, rival))
            gain += _fit(its, best) - _fit(its, rival)
        if gain >= margin:
            return rival
    return None


def _fit(stated: _Stated, other: _Stated) -> float:
    """How much the words around two numbers are the same, the nearest counting most."""
    a, b = stated.quantity, other.quantity
    fit = 2.0 * bool(a.noun and a.noun == b.noun)
    fit += 1.0 * bool(a.dimension and a.dimension == b.dimension)
    if a.lead in _DIRECTIONS and b.lead in _DIRECTIONS:
        fit += 1.0 if a.lead == b.lead else -1.0
    fit += 2.0 * (a.lead in _TELLING and a.lead == b.lead)
    return fit + 2 * sum(w * other.around.get(word, 0.0) for word, w in stated.around.items())


def _wrong_names(text: str, whole: Sequence[str]) -> Iterator[Wrong]:
    """Names with digits in them, such as K9 or utf8, stand in what is cited."""
    known = {t.text for passage in whole for t in read(passage).tokens}
    for token in read(text).tokens:
        name = token.text
        if _NAME_WITH_DIGITS.fullmatch(name) and name not in known:
            alike = sorted(w for w in known if w.rstrip("0123456789") == name.rstrip("0123456789"))
            if alike:
                why = f"{name!r} is not in what is cited, which has {', '.join(alike[:3])}."
                yield Wrong(name, why, IssueKind.UNSUPPORTED)


def _wrong_dates(text: str, near: Sequence[str], whole: Sequence[str]) -> Iterator[Wrong]:
    """A month or weekday of the statement is one of those cited, where any is."""
    for names, cited in ((frozenset(MONTHS), near), (WEEKDAYS, near)):
        mine = _calendar(text, names)
        theirs = set[str]().union(*(_calendar(t, names) for t in cited))
        strange = mine - theirs - set[str]().union(*(_calendar(t, names) for t in whole))
        if theirs and strange:
            name, says = ", ".join(sorted(strange)), ", ".join(sorted(theirs))
            why = f"It says {name}; what is cited says {says}."
            yield Wrong(name, why, IssueKind.CONTRADICTION)


def _calendar(text: str, names: frozenset[str]) -> set[str]:
    plain = read(text).plain
    # "May" and "March" are months where a capital says so.
    words = {t.text for t in read(text).tokens if plain[t.start].isupper()}
    words |= {word.removesuffix("s") for word in words}
    months = {int(m) for m in _ISO_DATE.findall(plain)}
    return (words & names) | {n for n in names if MONTHS.get(n) in months}
