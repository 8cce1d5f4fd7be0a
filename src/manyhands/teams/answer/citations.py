"""Whether a finding rests on what it cites: five checks without a model.

Invariant: pure and total. Any text is checked without an exception; a sentence cited verbatim to
its own passage is never refused; each issue says what the passage says instead, so that a model
can repair the finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from manyhands.ports import Passage
from manyhands.teams.answer.claims import Citation, Finding, Issue, IssueKind
from manyhands.teams.answer.figures import wrong_figures
from manyhands.teams.answer.numbers_in_text import UNITS, Quantity, quantities
from manyhands.teams.answer.polarity import clash
from manyhands.teams.answer.quotes import Place, locate
from manyhands.teams.answer.wording import Reading, content, content_of, key, read

#: The share of a finding's words that must be in what it cites, near the quotes.
NEAR = 0.25
#: And in the cited passages as a whole.
WHOLE = 0.34
#: Of a very long sentence, the characters around the quote that are read.
REACH = 2000
#: Two clauses must be this much alike for their opposite polarity to be certain.
SURE = 0.7
_UNIT_KEYS = frozenset(key(unit) for unit in UNITS)
#: The letters at the start that two forms of a word share, at least.
_ALIKE = 4


@dataclass(frozen=True, slots=True)
class _Cited:
    """One citation whose quote was found. ``near``: the quote's sentences and their neighbours."""

    citation: Citation
    passage: Passage
    reading: Reading
    sentence: str
    near: str


def check_finding(finding: Finding, passages: Mapping[str, Passage | None]) -> tuple[Issue, ...]:
    """What is wrong with ``finding``, worst first; () where it rests on what it cites.

    ``passages``: what each cited id stands for; an id that is absent, or None, does not exist.
    """
    if not finding.citations:
        return (
            _issue("citation", finding.text, "It cites nothing. Cite a passage and its words."),
        )
    issues: list[Issue] = []
    cited: list[_Cited] = []
    for citation in finding.citations:
        found = _cited(citation, passages)
        if isinstance(found, _Cited):
            cited.append(found)
        else:
            issues.append(found)
    if cited and not issues and not any(_is_verbatim(finding.text, c.reading) for c in cited):
        issues.extend(_content_issues(finding.text, cited))
    return tuple(issues)


def _issue(check: str, span: str, why: str, kind: IssueKind = IssueKind.UNSUPPORTED) -> Issue:
    return Issue(kind=kind, span=span, why=why, by=f"check:{check}")


def _cited(citation: Citation, passages: Mapping[str, Passage | None]) -> _Cited | Issue:
    passage = passages.get(citation.passage)
    if passage is None:
        known = ", ".join(sorted(id for id, p in passages.items() if p is not None)[:8])
        why = f"There is no passage {citation.passage!r}. Known here: {known or 'none'}."
        return _issue("citation", citation.passage, why)
    if not content_of(citation.quote) and not _is_long(citation.quote):
        why = f"The quote {citation.quote!r} of {passage.id} is too short to support anything."
        return _issue("quote", citation.quote, why)
    reading = read(passage.text)
    place = locate(citation.quote, reading)
    if place is None:
        return _issue("quote", citation.quote, _not_there(citation, passage, reading))
    return _Cited(
        citation,
        passage,
        reading,
        _text(reading, place, 0),
        f"{_text(reading, place, 1)}",
    )


def _is_long(quote: str) -> bool:
    return len(read(quote).tokens) >= 4


def _text(reading: Reading, place: Place, neighbours: int) -> str:
    start, end = reading.around(place.start, place.end, neighbours)
    # A passage without a full stop is one sentence; what is far from the quote says nothing of it.
    return reading.plain[max(start, place.start - REACH) : min(end, place.end + REACH)]


def _not_there(citation: Citation, passage: Passage, reading: Reading) -> str:
    nearest = _nearest(citation.quote, reading)
    says = f" Nearest there: {nearest!r}." if nearest else ""
    return f"{passage.id} does not contain the words {citation.quote!r}.{says} Quote it verbatim."


def _nearest(quote: str, reading: Reading) -> str:
    """The sentence of the passage that is most like ``quote``, if one is like it at all."""
    wanted = content_of(quote)
    spans = [reading.plain[a:b].strip() for a, b in reading.sentences]
    # difflib is quadratic, so only the sentences that share most words are compared by it.
    likely = sorted(spans, key=lambda s: -len(wanted & content_of(s[:600])))[:3]
    scored = [(SequenceMatcher(None, quote[:300], s[:300]).ratio(), s) for s in likely]
    ratio, best = max(scored, default=(0.0, ""))
    return best[:240] if ratio > 0.3 else ""


def _is_verbatim(text: str, reading: Reading) -> bool:
    """Whether ``text`` is whole sentences of the passage: then there is nothing to compare."""
    place = locate(text, reading, elisions=False)
    if place is None:
        return False
    start, end = reading.around(place.start, place.end)
    return content(read(reading.plain[start:end]).tokens) == content(read(text).tokens) and (
        len(read(reading.plain[start:end]).tokens) == len(read(text).tokens)
    )


def _content_issues(text: str, cited: Sequence[_Cited]) -> Iterator[Issue]:
    uncovered = _uncovered(text, cited)
    if uncovered:
        yield uncovered
    near = [c.near for c in cited]
    whole = [f"{c.passage.title}\n{c.passage.text}" for c in cited]
    titles = ". ".join(c.passage.title for c in cited)
    names = ", ".join(dict.fromkeys(c.passage.id for c in cited))
    for wrong in wrong_figures(text, [c.sentence for c in cited], near, whole, titles):
        yield _issue("number", wrong.span, f"{wrong.why} (cited: {names})", wrong.kind)
    found = clash(text, [c.sentence for c in cited])
    if found:
        why = f"It says {found.said!r}; {names} says {found.against!r}. Say what the passage says."
        # Clauses that share little may be about different things: that is for the critic to tell.
        sure = found.shared >= SURE
        kind = IssueKind.CONTRADICTION if sure else IssueKind.VAGUE
        yield _issue("polarity", found.said, why, kind)


def _uncovered(text: str, cited: Sequence[_Cited]) -> Issue | None:
    wanted = _Weight.of([read(text)])
    titles = [read(f"{c.passage.title} {c.passage.source}") for c in cited]
    near = _Weight.of([*titles, *(read(c.near) for c in cited)])
    whole = _Weight.of([*titles, *(c.reading for c in cited)])
    if wanted.share_in(near) >= NEAR and wanted.share_in(whole) >= WHOLE:
        return None
    names = ", ".join(dict.fromkeys(c.passage.id for c in cited))
    missing = [
        token.text
        for token in read(text).tokens
        if (word := "".join(content([token]))) and not _among(word, near.words)
    ]
    why = (
        f"{names} does not speak of {', '.join(dict.fromkeys(missing[:6]))} where it is quoted: "
        f"it says {cited[0].sentence.strip()[:200]!r}. Cite the passage that says this."
    )
    return _issue("coverage", text, why)


@dataclass(frozen=True, slots=True)
class _Weight:
    """What a text is about: the keys of its words and its numbers."""

    words: tuple[str, ...]
    numbers: tuple[Quantity, ...]

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> _Weight:
        words = dict.fromkeys(w for r in readings for w in content(r.tokens))
        numbers = [q for r in readings for q in quantities(r.tokens, r.plain) if not q.weak]
        return cls(tuple(w for w in words if w not in _UNIT_KEYS), tuple(numbers))

    def share_in(self, there: _Weight) -> float:
        """0 to 1: how much of this is there, too."""
        found = [_among(word, there.words) for word in self.words]
        found += [any(q.equals(other) for other in there.numbers) for q in self.numbers]
        return sum(found) / len(found) if found else 1.0


def _among(word: str, there: Sequence[str]) -> bool:
    """Whether ``word`` is there, or another form of it."""
    return word in there or (
        len(word) >= _ALIKE and word.isalpha() and any(_alike(word, other) for other in there)
    )


def _alike(one: str, other: str) -> bool:
    least = max(_ALIKE, min(len(one), len(other)) - 1)
    return one[:least] == other[:least] and len(other) >= least
