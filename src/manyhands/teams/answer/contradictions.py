"""Where two workers' findings contradict each other, and what a draft says against a report.

Invariant: a conflict is between findings about the same: all words of the one that mean something
are in the other, too, and they differ in one number of the same unit or in their polarity. A
contradiction may be missed; two statements about different things are not set against each other,
nor are findings of one worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from pydantic import BaseModel, ConfigDict

from manyhands.teams.answer.claims import Finding
from manyhands.teams.answer.lexicon import NEGATORS, SIDES, STOP
from manyhands.teams.answer.numbers_in_text import NUMBERS, VERSION, Quantity, quantities
from manyhands.teams.answer.polarity import clash
from manyhands.teams.answer.wording import content, read

#: The share of the longer finding's words that two findings about the same have in common.
SAME_SUBJECT = 0.6
#: And at least this many words.
LEAST_SHARED = 2
_ORDINALS = frozenset(["first", "second", "third", "fourth", "fifth", "last", "next", "previous"])


class Conflict(BaseModel):
    """Two statements that cannot both hold; ``about``: "number" or "polarity"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: tuple[str, str]
    texts: tuple[str, str]
    about: str
    why: str


def contradictions(findings_by_worker: Mapping[str, Sequence[Finding]]) -> tuple[Conflict, ...]:
    """Pairs of findings of different workers that contradict each other, in the workers' order."""
    return tuple(
        conflict
        for one, other in combinations(findings_by_worker, 2)
        for mine in findings_by_worker[one]
        for theirs in findings_by_worker[other]
        if (conflict := _conflict((one, other), mine.text, theirs.text))
    )


def denied(
    draft_findings: Sequence[Finding], reports: Mapping[str, Sequence[Finding]]
) -> tuple[Conflict, ...]:
    """What the draft says and a worker's report denies; the draft stands first, as "draft"."""
    return tuple(
        conflict
        for said in draft_findings
        for worker, findings in reports.items()
        for finding in findings
        if (conflict := _conflict(("draft", worker), said.text, finding.text))
    )


def _conflict(workers: tuple[str, str], one: str, other: str) -> Conflict | None:
    if not _same_subject(one, other):
        return None
    differing = list(_differing(one, other))
    # Which of the two is the claim makes no difference; either may be the shorter one.
    found = clash(one, [other]) or clash(other, [one])
    if len(differing) + bool(found) != 1:
        return None  # what differs in an amount and its year, too, is said of two cases
    if found:
        why = f"One says {found.said!r}, the other says {found.against!r}."
        return Conflict(workers=workers, texts=(one, other), about="polarity", why=why)
    mine, theirs = differing[0]
    why = f"{workers[0]} says {mine.text!r}, {workers[1]} says {theirs.text!r} of the same."
    return Conflict(workers=workers, texts=(one, other), about="number", why=why)


def _same_subject(one: str, other: str) -> bool:
    """Whether one says no more than the other, but for opposites and numbers. Where each has words
    of its own they may be about two things, such as the free plan and the paid one."""
    mine, theirs = _subject(one), _subject(other)
    shared, least = len(mine & theirs), min(len(mine), len(theirs))
    if least == 0 or shared < least or _labels(one) != _labels(other):
        return False
    return shared >= min(LEAST_SHARED, least) and shared >= SAME_SUBJECT * max(
        len(mine), len(theirs)
    )


def _subject(text: str) -> set[str]:
    """The keys of the words that mean something; words that are opposites go by their axis."""
    reading = read(text)
    found: set[str] = set()
    for token in reading.tokens:
        axis = SIDES.get(token.text)
        if axis:
            found.add(f"axis {axis[0]}")
        elif token.text in STOP and len(token.text) > 1:
            # "GET" is a name, "get" says nothing.
            found |= {token.text} if reading.plain[token.start : token.end].isupper() else set()
        elif token.text not in NUMBERS | NEGATORS:
            found.update(content([token]))
    return found


def _labels(text: str) -> set[str]:
    """The numbers that name a thing: the 2 of "version 2", the second of "the second release"."""
    reading = read(text)
    named = {token.text for token in reading.tokens} & _ORDINALS
    for quantity in quantities(reading.tokens, reading.plain):
        before = reading.tokens[max(quantity.at - 1, 0)]
        is_name = before.text not in STOP and reading.plain[before.start].isupper()
        if quantity.at and not quantity.dimension and (is_name or before.text in VERSION):
            named.add(quantity.text)
    return named


def _differing(one: str, other: str) -> Iterator[tuple[Quantity, Quantity]]:
    """Each number that only the one states, with one of its kind that only the other states."""
    mine, theirs = _firm_numbers(one), _firm_numbers(other)
    for a in mine:
        if any(a.equals(b) for b in theirs):
            continue
        found = (b for b in theirs if not any(b.equals(c) for c in mine) and _same_kind(a, b))
        rival = next(found, None)
        if rival:
            yield a, rival


def _firm_numbers(text: str) -> list[Quantity]:
    reading = read(text)
    return [q for q in quantities(reading.tokens, reading.plain) if not q.weak]


def _same_kind(a: Quantity, b: Quantity) -> bool:
    if a.dimension or b.dimension:
        return a.dimension == b.dimension
    return a.noun == b.noun
