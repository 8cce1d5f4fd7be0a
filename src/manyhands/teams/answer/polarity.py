"""Whether one text says what another denies.

Invariant: each word stands in its clause as affirmed or as denied; a clause conflicts with a text
where most of the words that they share are affirmed by the one and denied by the other. What is not
shared has no vote, so two texts about different things never conflict. The rules are of English:
without its words there is no conflict.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise, takewhile

from manyhands.teams.answer.lexicon import (
    AUXILIARIES,
    BETWEEN,
    COMPARING,
    FIRM,
    NEGATORS,
    SIDES,
    SOFT,
    UN,
)
from manyhands.teams.answer.numbers_in_text import quantities
from manyhands.teams.answer.phrases import in_other_words
from manyhands.teams.answer.wording import Token, content, key, read

_BREAKING_WORDS = """
and but because if when while where which unless although though whereas so otherwise else who
except nor that whose
"""
_BREAKING = frozenset(_BREAKING_WORDS.split())
_PUNCTUATION = re.compile(r"[,;:()\[\]]|\s--?\s")
_CONDITIONS = frozenset(["if", "when", "whenever", "unless", "while", "with"])
_ELSE = frozenset(["otherwise", "else"])
_ALTERNATIVES = _ELSE | {"unless"}
_UNTRUE = re.compile(
    r"\bit (?:is|was) (?:not true|false|untrue|wrong|not the case|incorrect) that\b", re.IGNORECASE
)
_NOT_ONLY = re.compile(r"\b(?:not|n't|cannot) only\b", re.IGNORECASE)
_ONLY = re.compile(r"\b(?:may|can|must|is|are|be|allowed|permitted) only\b", re.IGNORECASE)
#: What is only said beside a denial: a statement with it and without "not" has lost it.
_BESIDE_NOT = re.compile(r"\bat all\b|\b(?:yet|any (?:more|longer))\b(?=\W*$)", re.IGNORECASE)
_FIRM_KEYS = frozenset(map(key, FIRM))
_COMPARATIVE = re.compile(r"\w+er|more|less|worse")
_PREFIXES = ("un", "in", "im", "dis", "non", "ir", "il", "a")
#: Negators that stand before what they deny.
_LEADING = frozenset(["not", "never", "cannot", "no"])
#: What a word counts that a negator bears on: a verb, the noun of a "no"; what those before it and
#: after it count, and those of a "that …"; all others count 1.
_PREDICATE, _FOCUS, _BEFORE, _AFTER, _SAID = 4.0, 2.0, 0.5, 0.75, 0.25
#: A clause whose words speak less than this against it is only against it with the others.
_FIRMLY = 1.0


@dataclass(frozen=True, slots=True)
class Clash:
    """``said`` and ``against`` cannot both hold; ``shared``: 0 to 1, how alike they are."""

    said: str
    against: str
    shared: float


@dataclass(frozen=True, slots=True)
class _Side:
    """A word of an axis of opposites, and the words on its two sides in the sentence.

    ``turns``: the other side says the same with the two exchanged.
    """

    axis: int
    side: int
    turns: bool
    left: frozenset[str]
    right: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Word:
    """``sign``: -1 where a negator denies it; ``weight``: how much it says about its clause.

    ``predicate``: whether it stands after the first verb that is known as one.
    """

    text: str
    key: str
    sign: int
    weight: float
    predicate: bool
    side: _Side | None = None


@dataclass(frozen=True, slots=True)
class _Clause:
    """``words``: its own and those that it leaves to the clause before; ``own``: keys of the first.

    ``focus``: what a negator bears on; ``denying``: words that deny, or may, by themselves.
    """

    text: str
    words: tuple[_Word, ...]
    keys: frozenset[str]
    own: frozenset[str]
    focus: frozenset[str]
    denying: frozenset[str]

    @property
    def opening(self) -> str:
        return self.text.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class _Text:
    clauses: tuple[_Clause, ...]
    keys: frozenset[str]
    denying: frozenset[str]
    alternatives: bool

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Text:
        clauses = tuple(c for text in texts for c in _clauses(text))
        words = {t.text for text in texts for t in read(text).tokens}
        return cls(
            clauses=clauses,
            keys=frozenset[str]().union(*(c.keys for c in clauses)),
            denying=frozenset[str]().union(*(c.denying for c in clauses)),
            alternatives=bool(words & _ALTERNATIVES),
        )


def clash(claim: str, evidence: Sequence[str]) -> Clash | None:
    """Where ``claim`` says the opposite of the sentences of ``evidence``; None: nowhere."""
    untrue = _UNTRUE.search(claim)
    if untrue:
        rest = claim[untrue.end() :]
        # Who calls false what the evidence does not deny contradicts it.
        return None if clash(rest, evidence) else Clash(claim, " ".join(evidence)[:200], 1.0)
    turned = _turned(claim, " ".join(evidence))
    if turned:
        return turned
    mine, theirs = _Text.of([claim]), _Text.of(evidence)
    # "If A, then X; otherwise Y": Y holds when not A, which no clause says.
    alternatives = mine.alternatives != theirs.alternatives
    there = [c for c in theirs.clauses if c.opening not in _ELSE]
    here = [c for c in mine.clauses if not alternatives or c.opening not in _CONDITIONS | _ELSE]
    if not here or not there:
        return None
    answered = _answered(mine, there)
    verdicts: list[tuple[float, _Clause, _Clause]] = []
    for clause in here:
        nearest = sorted(there, key=lambda other: _nearness(clause, other), reverse=True)
        verdicts.append((_balance(clause, nearest, answered, mine, theirs), clause, nearest[0]))
    balance, clause, other = min(verdicts, key=lambda verdict: verdict[0])
    if balance <= -_FIRMLY or (balance < 0 and sum(verdict[0] for verdict in verdicts) < 0):
        return Clash(clause.text, other.text, _likeness(clause.keys, other.keys))
    return None


def _turned(claim: str, told: str) -> Clash | None:
    """Turns of phrase that say by themselves on which side they are."""
    widened = _NOT_ONLY.search(claim) and _ONLY.search(told) and not _NOT_ONLY.search(told)
    lost = _BESIDE_NOT.search(claim) and not _denies(claim) and _denies(told)
    if widened or lost:
        return Clash(claim, told[:200], 1.0)
    return None


def _denies(text: str) -> bool:
    return any(token.text in NEGATORS for token in read(text).tokens)


def _nearness(one: _Clause, other: _Clause) -> tuple[int, float]:
    alike = _likeness(one.keys, other.keys) + _likeness(one.own, other.own)
    return len(one.keys & other.keys), alike


def _likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """0 to 1: how many words that mean something the two share."""
    shared = len(one & other)
    return shared / (len(one) * len(other)) ** 0.5 if shared else 0.0


# ------------------------------------------------ voting


def _balance(
    clause: _Clause,
    nearest: Sequence[_Clause],
    answered: Sequence[_Clause],
    mine: _Text,
    theirs: _Text,
) -> float:
    """Below 0: most of what ``clause`` shares with the others stands there with the other sign."""
    balance, opposites = 0.0, 0
    for word in clause.words:
        met = _counterpart(word, clause, nearest)
        if met:
            there, other = met
            sign = 1 if word.sign > 0 and other in answered else word.sign * there.sign
            balance += sign * word.weight * there.weight
            opposites += _kinship(word, there) < 0
    if opposites % 2:
        return -balance
    return 0.0 if balance < 0 and _excused(clause, nearest, mine, theirs) else balance


def _counterpart(
    word: _Word, clause: _Clause, nearest: Sequence[_Clause]
) -> tuple[_Word, _Clause] | None:
    """What stands for ``word`` in the others: itself where it is denied as directly, or else itself
    or its opposite in the nearest clause that has it."""
    if word.weight >= _FOCUS:
        alike = ((w, c) for c in nearest for w in c.words if w.key == word.key)
        found = next((pair for pair in alike if pair[0].weight >= _FOCUS), None)
        if found:
            return found
    for other in nearest:
        akin = [w for w in other.words if _kinship(word, w)]
        same = [w for w in akin if w.key == word.key]
        if same or (akin and clause.keys & other.keys):
            return (same or akin)[0], other
    return None


def _answered(mine: _Text, there: Sequence[_Clause]) -> list[_Clause]:
    """The clauses whose denial the claim has, too: they do not speak against its other clauses."""
    denied = [{w.key for w in c.words if w.sign < 0 and w.key in c.own} for c in mine.clauses]
    return [
        other
        for other in there
        for keys in denied
        if keys & other.focus
        or (keys and len(keys & {w.key for w in other.words if w.sign < 0}) >= min(2, len(keys)))
    ]


def _excused(clause: _Clause, nearest: Sequence[_Clause], mine: _Text, theirs: _Text) -> bool:
    """Whether each side denies something that the other does not speak of: then it is taken to be
    the same in other words."""
    if not clause.focus:
        return bool(clause.denying - theirs.denying)
    lone = nearest[0].denying - mine.denying
    if clause.focus & theirs.keys:
        return bool(lone & _FIRM_KEYS)
    return bool(lone) or any(c.focus and not c.focus & mine.keys for c in nearest)


def _kinship(one: _Word, other: _Word) -> int:
    """1: they mean the same; -1: the opposite; 0: they have nothing to do with each other."""
    if one.side and other.side and one.side.axis == other.side.axis:
        opposed = one.side.side != other.side.side
        return -1 if opposed != _exchanged(one.side, other.side) else 1
    if one.key == other.key:
        return 1
    return -1 if _undoes(one, other) or _undoes(other, one) else 0


def _undoes(one: _Word, other: _Word) -> bool:
    """Whether it is "inexact" and the other "exact"."""
    rests = (one.text.removeprefix(p) for p in _PREFIXES if one.text.startswith(p))
    return any(len(rest) > 3 and key(rest) == other.key for rest in rests)


def _exchanged(a: _Side, b: _Side) -> bool:
    """Whether what stands on one side in ``a`` stands on the other in ``b``."""
    if not (a.turns and b.turns and a.left and a.right and b.left and b.right):
        return False
    crossed = len(a.right & b.left - b.right) + len(a.left & b.right - b.left)
    straight = 2 * len((a.right & b.right) - a.left - b.left)
    return crossed > straight


# ------------------------------------------------ reading


@lru_cache(maxsize=512)
def _clauses(text: str) -> tuple[_Clause, ...]:
    reading = read(text)
    found: list[_Clause] = []
    asked: _Clause | None = None
    for start, end in reading.sentences:
        words = in_other_words(reading.plain[start:end])
        tokens = read(words).tokens
        if not tokens:
            continue
        clauses: list[_Clause] = []
        for a, b in pairwise([*_clause_starts(tokens, words), len(tokens)]):
            clauses.append(_clause(tokens, words, a, b, clauses[-1] if clauses else asked))
        # A question states nothing, but "they are not" takes it up.
        asks = words.rstrip().endswith("?")
        asked = clauses[-1] if asks else None
        found += [] if asks else clauses
    return tuple(clause for clause in found if clause.words)


def _clause_starts(tokens: Sequence[Token], words: str) -> list[int]:
    starts = [0]
    for i in range(1, len(tokens)):
        following = tokens[i + 1].text if i + 1 < len(tokens) else ""
        word = tokens[i].text
        # "Because of" is no clause; nor is what "it does not follow that" denies, nor "tabs and".
        breaks = word in _BREAKING and following != "of"
        breaks = breaks and not (word == "that" and i > 1 and tokens[i - 2].text in NEGATORS)
        breaks = breaks and tokens[i - 1].text != "not"
        breaks = breaks and not (word == "and" and len(content(tokens[starts[-1] : i])) < 2)
        if breaks or _PUNCTUATION.search(words[tokens[i - 1].end : tokens[i].start]):
            starts.append(i)
    return starts


def _clause(
    tokens: Sequence[Token], words: str, begin: int, end: int, before: _Clause | None
) -> _Clause:
    inside = tokens[begin:end]
    texts = [t.text for t in inside]
    lacking = _lacking(inside)
    found = _words(tokens, words, begin, end, lacking)
    own = frozenset(w.key for w in found)
    if before and _is_elliptic(texts):
        if texts[-1] in ("not", "cannot"):  # "but water is not": it is what is denied
            found = [replace(w, weight=_FOCUS) for w in found]
        found += _taken_up(own, before, texts)
    return _Clause(
        text=words[inside[0].start : inside[-1].end],
        words=tuple(found),
        keys=frozenset(w.key for w in found),
        own=own,
        focus=frozenset(w.key for w in found if w.weight >= _FOCUS),
        denying=frozenset(
            key(t) for t in texts if t in FIRM | SOFT or t == "non" or UN.fullmatch(t)
        ),
    )


def _words(
    tokens: Sequence[Token], words: str, begin: int, end: int, lacking: Sequence[int]
) -> list[_Word]:
    """The words that mean something, each with its sign and what it says about the clause."""
    inside = tokens[begin:end]
    texts = [t.text for t in inside]
    negators = [i for i, t in enumerate(texts) if t in NEGATORS - {"without"} and i not in lacking]
    verb = next((i for i, t in enumerate(texts) if t in AUXILIARIES), 0)
    numbers = {q.at: f"#{q.raw}" for q in quantities(inside, words) if not q.weak}
    named = {i: numbers.get(i) or "".join(content([token])) for i, token in enumerate(inside)}
    kept = [i for i, t in enumerate(texts) if (named[i] or t in SIDES) and t not in NEGATORS]
    weights = _weights(texts, kept, lacking, negators[0] if negators else None)
    return [
        _Word(
            text=texts[i],
            key=named[i] or texts[i],
            sign=-1 if i in lacking else (-1) ** len(negators),
            weight=weight,
            predicate=i > verb,
            side=_side(tokens, begin + i) if texts[i] in SIDES else None,
        )
        for i, weight in zip(kept, weights, strict=True)
    ]


def _weights(
    texts: Sequence[str], kept: Sequence[int], lacking: Sequence[int], negator: int | None
) -> list[float]:
    """What each of the words ``kept`` says about its clause, whose first negator is given."""
    said = texts.index("that") if "that" in texts[1:] else len(texts)
    # "No" bears on a noun and what is said of it; the others on the verb.
    due = [_FOCUS, _FOCUS] if negator is not None and texts[negator] == "no" else [_PREDICATE]
    found: list[float] = []
    for i in kept:
        if i in lacking:
            # "Without asking the doctor": both; "without parents": only the first.
            verbal = texts[lacking[0]].endswith("ing")
            found.append(_PREDICATE if verbal or i == lacking[0] else _AFTER)
        elif i > said:
            found.append(_SAID)
        elif negator is None:
            found.append(1.0)
        elif due and i > negator and not texts[i].endswith("ly"):
            found.append(due.pop())
        else:
            found.append(_BEFORE if i < negator else _AFTER)
    at_end = len(due) == 1 and negator is not None and texts[negator] in _LEADING
    if at_end and found and texts[-1] not in AUXILIARIES | {"not"}:
        found[-1] = _FOCUS
    return found


def _is_elliptic(texts: Sequence[str]) -> bool:
    """Whether it leaves its verb to the clause before: "… but not there", "water is"."""
    rest = [t for t in texts if t not in ("but", "and")]
    return bool(rest) and (
        rest[0] in ("not", "nor", "never") or rest[-1] in AUXILIARIES | {"not", "cannot"}
    )


def _taken_up(own: frozenset[str], before: _Clause, texts: Sequence[str]) -> list[_Word]:
    """What an elliptic clause leaves to the one before: the predicate, or all but what differs."""
    sign = (-1) ** sum(t in NEGATORS for t in texts)
    weight = _BEFORE if sign < 0 else 1.0
    whole = texts[-1] not in AUXILIARIES | {"not", "cannot"}
    words = [w for w in before.words if w.key not in own and (whole or w.predicate)]
    return [replace(w, sign=sign, weight=weight) for w in words]


def _lacking(inside: Sequence[Token]) -> list[int]:
    """Where the words stand that a "without" denies: two at most, and none after a verb."""
    found: list[int] = []
    for at, token in enumerate(inside):
        if token.text == "without":
            rest = takewhile(
                lambda i: inside[i].text not in AUXILIARIES, range(at + 1, len(inside))
            )
            found += [i for i in rest if content([inside[i]])][:2]
    return found


def _side(tokens: Sequence[Token], at: int) -> _Side:
    word = tokens[at].text
    axis, side = SIDES[word]
    than = _than(tokens, at) if axis in COMPARING else None
    pivot = at if than is None else than
    return _Side(
        axis=axis,
        side=side,
        turns=than is not None or word in BETWEEN,
        left=frozenset(content(tokens[max(at - 12, 0) : at])[-5:])
        | frozenset(content(tokens[at + 1 : pivot])),
        right=frozenset(content(tokens[pivot + 1 : pivot + 12])[:4]),
    )


def _than(tokens: Sequence[Token], at: int) -> int | None:
    """The "than" that belongs to the comparative at ``at``."""
    for i in range(at + 1, min(at + 10, len(tokens))):
        if tokens[i].text == "than":
            return i
        if SIDES.get(word := tokens[i].text, (-1, 0))[0] in COMPARING and _COMPARATIVE.fullmatch(
            word
        ):
            return None
    return None
