"""Every case of the corpus in tests/dialects, whole, split in two at every place, and cut at
every place. The cases were written from the published formats, without the parser in view.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest

from manyhands.agents.dialects import DIALECTS, Parsed, StreamParser, parse
from tests.dialects.corpus import (
    ANY,
    KINDS,
    OR,
    REQUIRED,
    WITH_MARKERS,
    WITHOUT_MARKERS,
    Case,
    cases,
)
from tests.dialects.corpus import CASES as CASES_DIR

CASES = cases()
FILES = {file: tuple(group) for file, group in groupby(CASES, key=lambda case: case.file)}
#: Cases that fail, each with the reason: a fix has to take its entry out, as they are strict.
KNOWN: dict[str, str] = json.loads((CASES_DIR.parent / "known.json").read_text(encoding="utf-8"))
PROSE = tuple(case for case in CASES if case.kind == "prose")
#: The short suite looks at one split, and one cut, in so many. Primes: no pattern is missed twice.
SPLIT_STRIDE, CUT_STRIDE = 13, 7


def _wire(calls: Any) -> list[str]:
    """Name and arguments, so that 1, 1.0 and true differ."""
    return [json.dumps([name, arguments], sort_keys=True) for name, arguments in calls]


def _found(parsed: Parsed) -> list[str]:
    return _wire((call.name, call.arguments) for call in parsed.calls)


def _expected(case: Case) -> list[str]:
    return _wire((call["name"], call["arguments"]) for call in case.calls)


def _same_words(got: str, expected: str) -> bool:
    """Equal but for the whitespace that the calls between them leave."""
    return got.split() == expected.split()


def _compare(case: Case, parsed: Parsed) -> None:
    if case.errors == OR and not parsed.calls:
        assert parsed.errors, "neither a call nor an error: the model would never know"
        return
    assert _found(parsed) == _expected(case), case.why
    for call, expected in zip(parsed.calls, case.calls, strict=True):
        assert call.id == expected.get("id", call.id)
    if case.content is not None and case.calls:
        assert _same_words(parsed.content, case.content), (parsed.content, case.content)
    elif case.content is not None:
        assert parsed.content.strip() == case.content.strip()
    if case.reasoning is not None:
        assert _same_words(parsed.reasoning, case.reasoning), (parsed.reasoning, case.reasoning)
    for call in parsed.calls:
        assert call.name
        json.dumps(call.arguments, allow_nan=False, ensure_ascii=False).encode()
    if case.errors in (0, OR):
        assert not parsed.errors
    elif case.errors == "some":
        assert parsed.errors, "what cannot be read is reported, never dropped"


def _marked(chosen: tuple[Case, ...] | list[Case]) -> list[Any]:
    """The cases as parameters, with the known failures marked as such."""
    return [
        pytest.param(
            case,
            id=case.id,
            marks=[pytest.mark.xfail(strict=True, reason=KNOWN[case.id])]
            if case.id in KNOWN
            else [],
        )
        for case in chosen
    ]


@pytest.mark.parametrize("case", _marked(CASES))
def test_without_a_dialect_named(case: Case):
    parsed = parse(case.text, case.tools)
    _compare(case, parsed)
    if case.dialect != ANY:
        assert parsed.dialect == case.dialect


@pytest.mark.parametrize("case", _marked([c for c in CASES if c.named]))
def test_with_the_dialect_named(case: Case):
    _compare(case, parse(case.text, case.tools, dialect=case.named))


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_prose_gives_no_call_in_any_dialect(dialect: str):
    found = {c.name: _found(parse(c.text, c.tools, dialect=dialect)) for c in PROSE}
    assert {name: calls for name, calls in found.items() if calls} == {}


def _streamed(text: str, tools: dict[str, Any], at: int, dialect: str) -> Parsed:
    parser = StreamParser(tools, dialect=dialect)
    parser.feed(text[:at])
    parser.feed(text[at:])
    return parser.finish()


def _differing_splits(case: Case, dialect: str, places: range) -> Iterator[str]:
    whole = parse(case.text, case.tools, dialect=dialect)
    for at in places:
        if (split := _streamed(case.text, case.tools, at, dialect)) != whole:
            yield f"{case.id} at {at} (dialect {dialect!r}): {split} instead of {whole}"


def _bad_cuts(case: Case, dialect: str, places: range) -> Iterator[str]:
    full = _expected(case)
    for at in places:
        found = _found(parse(case.text[:at], case.tools, dialect=dialect))
        if found != full[: len(found)]:
            yield f"{case.id} cut at {at} (dialect {dialect!r}): {found}"


def _cuttable(case: Case) -> bool:
    """Whether a part of the text can only mean a part of the calls; in damaged text it may not."""
    return bool(case.calls) and case.kind != "closed-think-call" and case.errors != OR


@pytest.mark.parametrize("file", FILES)
def test_some_two_chunk_splits_give_the_same(file: str):
    wrong = [
        line
        for turn, case in enumerate(FILES[file])
        for dialect in {"", case.named}
        for line in _differing_splits(
            case, dialect, range(turn % SPLIT_STRIDE, len(case.text), SPLIT_STRIDE)
        )
    ]
    assert wrong == []


@pytest.mark.parametrize("file", FILES)
def test_some_cuts_give_no_other_call(file: str):
    wrong = [
        line
        for turn, case in enumerate(FILES[file])
        if _cuttable(case)
        for line in _bad_cuts(case, "", range(turn % CUT_STRIDE, len(case.text), CUT_STRIDE))
    ]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_two_chunk_split_gives_the_same(file: str):
    wrong = [
        line
        for case in FILES[file]
        for dialect in {"", case.named}
        for line in _differing_splits(case, dialect, range(len(case.text) + 1))
    ]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_cut_gives_no_other_call(file: str):
    wrong = [
        line
        for case in FILES[file]
        if _cuttable(case)
        for dialect in {"", case.named}
        for line in _bad_cuts(case, dialect, range(len(case.text)))
    ]
    assert wrong == []


def _dense(text: str) -> str:
    return "".join(text.split())


def _shown_too_much(case: Case, size: int) -> Iterator[str]:
    """What a stream showed before its end has to be in the result, in order, and as that kind.

    Content that is not settled may become reasoning: the template had opened the thinking.
    """
    parser = StreamParser(case.tools)
    pieces = [
        piece
        for at in range(0, len(case.text), size)
        for piece in parser.feed(case.text[at : at + size])
    ]
    parsed = parser.finish()
    content = _dense("".join(p.text for p in pieces if p.kind == "content"))
    reasoning = _dense("".join(p.text for p in pieces if p.kind == "reasoning"))
    settled = _dense("".join(p.text for p in pieces if p.kind == "content" and p.settled))
    doubtful = content.removesuffix(settled)
    thinking = _dense(parsed.reasoning)
    if not thinking.startswith((reasoning, doubtful + reasoning)):
        # In thinking that never ends, a fence turns out to be a call only at the very end.
        fenced = reasoning.removeprefix(thinking).startswith("```")
        if not (parsed.calls or parsed.errors) or not fenced:
            yield f"{case.id} in {size}s: reasoning {reasoning!r} of {parsed.reasoning!r}"
    if not _dense(parsed.content).startswith(content):
        became = thinking.startswith(doubtful)
        if not (became and _dense(parsed.content).startswith(settled)):
            yield f"{case.id} in {size}s: content {content!r} of {parsed.content!r}"


@pytest.mark.parametrize("size", [1, 5, 64])
def test_a_stream_shows_nothing_that_the_result_takes_back(size: int):
    wrong = [line for case in CASES[size % 3 :: 3] for line in _shown_too_much(case, size)]
    assert wrong == []


def test_the_corpus_covers_every_dialect_and_kind():
    kinds: dict[str, set[str]] = {}
    for case in CASES:
        kinds.setdefault(case.named, set()).add(case.kind)
    kinds.pop("")
    complete = [
        dialect
        for dialect, seen in kinds.items()
        if seen >= REQUIRED and (seen >= WITH_MARKERS or seen >= WITHOUT_MARKERS)
    ]
    assert set(complete) == set(kinds), "a dialect lacks a kind of case"
    assert len(complete) >= 20
    assert set(kinds) <= set(DIALECTS)


def test_the_corpus_is_well_formed():
    assert set(KNOWN) <= {case.id for case in CASES}
    assert {case.kind for case in CASES} <= KINDS
    assert [i for i, n in Counter(case.id for case in CASES).items() if n > 1] == []
    assert {case.id for case in CASES if case.errors not in (0, "some", OR, None)} == set()
    assert [c.id for c in CASES if c.kind == "truncated" and c.errors == 0] == []
    assert [c.id for c in CASES if c.kind == "repaired" and not c.why] == []
    assert sum(case.file == "prose" for case in CASES) >= 40
    assert {call["name"] for case in CASES for call in case.calls if case.kind != "unknown"} & {
        "get_weather",
        "search",
    }
