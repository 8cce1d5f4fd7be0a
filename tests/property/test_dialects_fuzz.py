"""No text raises, no cut changes the result, and what a renderer wrote comes back."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from manyhands.agents.dialects import DIALECTS, Parsed, Piece, StreamParser, parse
from manyhands.agents.dialects.marks import ENDS, THINKING, THOUGHT, speech
from manyhands.agents.dialects.walk import IN_THINKING
from tests.property import dialect_renderers

SPOKEN = dialect_renderers.DIALECTS
TOOLS: dict[str, dict[str, Any]] = {
    "f": {
        "type": "object",
        "properties": {
            "s": {"type": "string"},
            "n": {"type": "integer"},
            "x": {"type": "number"},
            "b": {"type": "boolean"},
            "o": {"type": "object"},
            "l": {"type": "array"},
        },
        "additionalProperties": False,
    },
    "g": {},
}
WHOLE = [
    ("f", {"s": "a", "n": 1, "o": {"k": [True, None, "z"]}}),
    ("g", {"any": "thing"}),
]
RENDERED = [each.render(WHOLE) for each in SPOKEN.values()]
RENDERED += [render(WHOLE) for _, render in dialect_renderers.VARIANTS.values()]
MARKS = sorted({*speech("").forms, *THINKING, *THOUGHT, *ENDS, *speech("").wrappers})
SCRAPS = [
    *("{", "}", "[", "]", "(", ")", '"', "'", "\\", ",", ":", "=", "\n", "\n\n", " ", "`", "```"),
    *('{"name": "f", "arguments": {', '"arguments":', "```json\n", "```tool_code\n", "~~~", "f("),
    *("</parameter>", "<parameter=s>", "</function>", "</invoke>", "<arg_key>s</arg_key>"),
    *("<arg_value>", "</arg_value>", "<|message|>", "<|constrain|>json", "to=functions.f", '<|"|>'),
    *("[ARGS]", "[CALL_ID]", "Action Input: ", "Observation:", "functools", "print(", "true"),
    *("\ud800", "\udfff", "\x00", "é", "🏔️", "\u2028", "-1e999", "12345", "NaN", "'''", '"""'),
]


@st.composite
def mutants(draw: st.DrawFn) -> str:
    """A rendered call, or two, with pieces taken out, doubled, or put in."""
    text = "".join(draw(st.lists(st.sampled_from(RENDERED), min_size=1, max_size=2)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        to = min(len(text), at + draw(st.integers(0, 30)))
        put = draw(st.sampled_from(["", "", text[at:to] * 2, *SCRAPS, *MARKS]))
        text = text[:at] + put + text[to:]
    return text


scrambled = st.lists(
    st.one_of(st.sampled_from([*MARKS, *SCRAPS]), st.sampled_from(RENDERED), st.text(max_size=6)),
    max_size=24,
).map("".join)
fuzzed = st.one_of(mutants(), scrambled, st.text(st.characters(), max_size=80))
quiet = {"deadline": None, "suppress_health_check": list(HealthCheck)}
#: The same examples each time: a change of the parser is what should turn these red.
known = {**quiet, "derandomize": True}


def check_whole(found: Parsed) -> None:
    """The result can be sent on and journaled: it is JSON, and its calls name something."""
    for call in found.calls:
        assert call.name
        json.dumps(call.arguments, allow_nan=False, ensure_ascii=False).encode()
    assert found.dialect in {"", *DIALECTS}
    assert bool(found.dialect) or not found.calls
    assert all(error.strip() for error in found.errors)


def check_shown(pieces: list[Piece], whole: Parsed) -> None:
    shown = "".join(piece.text for piece in pieces if piece.kind == "content")
    settled = "".join(p.text for p in pieces if p.kind == "content" and p.settled)
    thought = "".join(piece.text for piece in pieces if piece.kind == "reasoning")
    if not whole.content.startswith(shown):
        assert whole.content.startswith(settled)
        assert whole.reasoning.startswith(shown.removesuffix(settled).strip())
    # A think block that never ends may hold a call, or the wreck of one, that was shown as thought.
    unended = any(IN_THINKING in call.notes for call in whole.calls) or bool(whole.errors)
    if settled == shown and not unended:
        assert whole.reasoning.startswith(thought)


def fuzz(text: str, dialect: str, cuts: list[int]) -> tuple[list[Piece], Parsed]:
    whole = parse(text, TOOLS, dialect=dialect)
    check_whole(whole)
    parser = StreamParser(TOOLS, dialect=dialect)
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [piece for a, b in pairwise(edges) for piece in parser.feed(text[a:b])]
    assert parser.finish() == whole
    return pieces, whole


names = st.sampled_from(["", "", *DIALECTS])
cuts_in = st.lists(st.integers(0, 2000), max_size=8)


@settings(max_examples=2500, **known)
@given(fuzzed, names, cuts_in)
def test_nothing_raises(text: str, dialect: str, cuts: list[int]) -> None:
    check_shown(*fuzz(text, dialect, cuts))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_nothing_raises_on_100_000_texts(part: int) -> None:
    @seed(part)
    @settings(max_examples=20_000, database=None, **quiet)
    @given(fuzzed, names, cuts_in)
    def run(text: str, dialect: str, cuts: list[int]) -> None:
        fuzz(text, dialect, cuts)

    run()


@settings(max_examples=300, **known)
@given(fuzzed, names)
def test_one_character_at_a_time_gives_the_whole(text: str, dialect: str) -> None:
    check_shown(*fuzz(text, dialect, list(range(len(text)))))


@settings(max_examples=400, **known)
@given(mutants(), st.integers(0, 1000))
def test_a_text_cut_off_has_no_call_that_the_whole_has_not(text: str, cut: int) -> None:
    """Of the calls of a cut text, all but those that the rest of it explains are the whole's."""
    end = cut % (len(text) + 1)
    whole = parse(text, TOOLS)
    found = parse(text[:end], TOOLS)
    same = [call.arguments for call in found.calls if call.name == "f"]
    for arguments in same:
        strings = [value for value in arguments.values() if isinstance(value, str)]
        assert all(string in text for string in strings)
    check_whole(found)
    check_whole(whole)


# ---------------------------------------------------------------- round trips

words = st.text(st.characters(codec="utf-8"), max_size=12)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    words,
)
keys = st.text("abcdefgh_", min_size=1, max_size=5)
nested = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)


def strings(name: str) -> st.SearchStrategy[str]:
    """Any string, with the dialect's marks in it; in a dialect without escapes between words."""
    marks = st.sampled_from(SPOKEN[name].markers)
    if not SPOKEN[name].raw:
        return st.lists(st.one_of(words, marks), max_size=4).map("".join)
    letters = st.text("abc é京\n\t{}\"'", max_size=6).map(lambda each: f"a{each}b")
    return st.lists(st.one_of(letters, marks.map(lambda mark: f"a {mark} b")), max_size=4).map(
        "".join
    )


def arguments(name: str) -> st.SearchStrategy[dict[str, Any]]:
    inner = st.dictionaries(keys, nested, max_size=3)
    if SPOKEN[name].raw and SPOKEN[name].plain_keys:
        plain = st.one_of(st.booleans(), st.integers(-999, 999), strings(name))
        inner = st.dictionaries(st.text("abc", min_size=1, max_size=3), plain, max_size=3)
        many: st.SearchStrategy[list[Any]] = st.lists(plain, max_size=3)
    else:
        many = st.lists(nested, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "s": strings(name),
            "n": st.integers(-(2**60), 2**60),
            "x": st.floats(allow_nan=False, allow_infinity=False),
            "b": st.booleans(),
            "o": inner,
            "l": many,
        },
    )


@pytest.mark.parametrize("name", SPOKEN)
@settings(max_examples=40, **known)
@given(st.data())
def test_what_was_written_comes_back(name: str, data: st.DataObject) -> None:
    dialect = SPOKEN[name]
    calls = [("f", each) for each in data.draw(st.lists(arguments(name), min_size=1, max_size=3))]
    text = dialect.render(calls)
    found = parse(text, TOOLS, dialect=name)
    assert found.errors == ()
    assert [(call.name, call.arguments) for call in found.calls] == calls
