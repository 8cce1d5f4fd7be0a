"""Every dialect: one call, several, nested and unicode arguments, its own marks in strings, cut
off everywhere, in two chunks, in prose.
"""

from __future__ import annotations

from typing import Any

import pytest

from manyhands.agents.dialects import DIALECTS, Parsed, Piece, StreamParser, parse
from tests.property import dialect_renderers
from tests.property.dialect_renderers import VARIANTS, Dialect

SPOKEN = dialect_renderers.DIALECTS
TOOLS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "metric": {"type": "boolean"},
            "options": {"type": "object"},
            "hours": {"type": "array", "items": {"type": "number"}},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
    "note": {"type": "object", "properties": {"text": {"type": "string"}}},
    "ping": {"type": "object", "properties": {}},
}
ONE = [("get_weather", {"city": "Paris", "days": 3})]
SEVERAL = [*ONE, ("note", {"text": "x"}), ("get_weather", {"city": "Oslo", "metric": True})]
NESTED = [
    (
        "get_weather",
        {
            "city": "Zürich 🏔️ 京都 \u202e\u0301",
            "days": -7,
            "options": {"a": {"b": [1, {"c": "é"}]}, "ok": False, "none": None},
            "hours": [0, 1.5, 24],
        },
    )
]
QUOTES = [("note", {"text": 'He said "hi", it\'s {a}: [1, 2] \\ back\nnew line\ttab'})]
EMPTY = [("ping", {})]


def calls_of(found: Parsed) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, call.arguments) for call in found.calls]


def check_shown(pieces: list[Piece], whole: Parsed) -> None:
    """What was shown is how the result begins; unsettled content may have become reasoning."""
    shown = "".join(piece.text for piece in pieces if piece.kind == "content")
    settled = "".join(p.text for p in pieces if p.kind == "content" and p.settled)
    thought = "".join(piece.text for piece in pieces if piece.kind == "reasoning")
    if not whole.content.startswith(shown):
        assert whole.content.startswith(settled)
        unsettled = shown.removesuffix(settled)
        assert whole.reasoning.startswith(unsettled.strip())
    assert whole.reasoning.startswith(thought) or not thought


def marked(dialect: Dialect) -> list[tuple[str, dict[str, Any]]]:
    """Strings with the dialect's own marks: each alone between words, and all together."""
    each = [("note", {"text": f"a {mark} b"}) for mark in dialect.markers]
    return [*each, ("get_weather", {"city": " - ".join((*dialect.markers, "end")), "days": 1})]


def test_every_dialect_is_rendered_here() -> None:
    assert set(SPOKEN) == set(DIALECTS)
    assert len(DIALECTS) >= 20


@pytest.mark.parametrize("named", [True, False], ids=["named", "detected"])
@pytest.mark.parametrize("name", SPOKEN)
def test_calls_come_back(name: str, named: bool) -> None:
    dialect = SPOKEN[name]
    for calls in (ONE, SEVERAL, NESTED, QUOTES, EMPTY, marked(dialect)):
        found = parse(dialect.render(calls), TOOLS, dialect=name if named else "")
        assert (found.errors, calls_of(found)) == ((), calls)
        assert found.content == ""
        assert found.dialect in ({name} if named else {dialect.detected or name, "llama-pythonic"})


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_forms_of_a_dialect_come_back(variant: str) -> None:
    name, render = VARIANTS[variant]
    for calls in (ONE, SEVERAL, NESTED):
        for given in (name, ""):
            found = parse(render(calls), TOOLS, dialect=given)
            assert (found.errors, calls_of(found)) == ((), calls)
            assert found.dialect == name


@pytest.mark.parametrize("name", SPOKEN)
def test_text_around_calls_is_content_unchanged(name: str) -> None:
    dialect = SPOKEN[name]
    before = "I'll look it up:  two  spaces, <b>tags</b>, {braces}.\n\n"
    found = parse(before + dialect.render(ONE), TOOLS)
    if name == "harmony":
        assert found.reasoning == before.strip()  # its head was taken away by the server
    else:
        assert found.content == before
    assert calls_of(found) == ONE
    if not dialect.bare and name not in ("harmony", "react"):
        found = parse(before + dialect.render(ONE) + "\nThat's all.", TOOLS)
        assert found.content == before + "\nThat's all."
        assert calls_of(found) == ONE


@pytest.mark.parametrize("name", SPOKEN)
def test_a_closed_think_block_is_kept_apart(name: str) -> None:
    dialect = SPOKEN[name]
    thought = f"I could write {dialect.render(EMPTY)} here"
    if name == "harmony":
        text = f"<|channel|>analysis<|message|>hm<|end|><|start|>assistant{dialect.render(ONE)}"
        found = parse(text, TOOLS)
        assert (found.reasoning, calls_of(found)) == ("hm", ONE)
        return
    for opening in ("<think>\n", ""):
        found = parse(f"{opening}{thought}\n</think>\n\n{dialect.render(ONE)}", TOOLS)
        assert found.reasoning == thought
        assert calls_of(found) == ONE
        assert found.errors == ()
        assert found.content == ""


@pytest.mark.parametrize("name", [name for name, each in SPOKEN.items() if name != "harmony"])
def test_a_call_in_a_think_block_that_does_not_end_is_found(name: str) -> None:
    found = parse(f"<think>I need the weather.\n{SPOKEN[name].render(ONE)}", TOOLS)
    assert calls_of(found) == ONE
    assert found.reasoning == "I need the weather."
    assert any("think block" in note for note in found.calls[0].notes)


@pytest.mark.parametrize("name", SPOKEN)
def test_cut_off_anywhere_it_gives_whole_calls_or_an_error(name: str) -> None:
    """At every position: a prefix of the true calls, never a changed one; and a lost call is told
    once its mark and its tool's name were there."""
    dialect = SPOKEN[name]
    calls = [*ONE, ("note", {"text": f"a {dialect.markers[0]} b"})]
    text = dialect.render(calls)
    whole = parse(text, TOOLS, dialect=name)
    for end in range(len(text)):
        found = parse(text[:end], TOOLS, dialect=name)
        got = calls_of(found)
        assert got == calls[: len(got)], text[:end]
        lost = max(0, text[:end].count("get_weather") + text[:end].count("note") - len(got))
        told = bool(found.errors) or (dialect.bare and text[:end].endswith(("note", "weather")))
        assert told or not lost or found.content, text[:end]
    assert calls_of(whole) == calls


@pytest.mark.parametrize("name", SPOKEN)
def test_one_call_cut_off_is_never_another_call(name: str) -> None:
    dialect = SPOKEN[name]
    for calls in (NESTED, QUOTES):
        text = "Yes.\n" + dialect.render(calls)
        for end in range(len(text)):
            got = calls_of(parse(text[:end], TOOLS))
            assert got in ([], calls), text[:end]


@pytest.mark.parametrize("name", SPOKEN)
def test_two_chunks_give_what_the_whole_gives(name: str) -> None:
    dialect = SPOKEN[name]
    text = f"<think>hm\n\nso</think>\n\nWell, {{so}} `be` it.\n\n{dialect.render(ONE)}"
    whole = parse(text, TOOLS, dialect=name)
    for cut in range(len(text) + 1):
        parser = StreamParser(TOOLS, dialect=name)
        check_shown([*parser.feed(text[:cut]), *parser.feed(text[cut:])], whole)
        if cut % 20 == 0:
            assert parser.finish() == whole


@pytest.mark.parametrize("name", SPOKEN)
def test_an_unknown_tool_is_a_call_only_behind_a_mark(name: str) -> None:
    dialect = SPOKEN[name]
    found = parse(dialect.render([("no_such_tool", {"a": "x"})]), TOOLS)
    assert calls_of(found) == ([] if dialect.bare else [("no_such_tool", {"a": "x"})])
    assert found.errors == ()


@pytest.mark.parametrize("name", SPOKEN)
def test_talking_about_a_dialect_is_no_call(name: str) -> None:
    dialect = SPOKEN[name]
    sample = dialect.render(ONE)
    line = sample.replace("\n", " ")
    texts = [
        f"The model writes `{line}` to call a tool.",
        f"The model writes ``{line}`` to call a tool, like `{line}`.",
        f"The form is\n\n~~~~text\n{sample}\n~~~~\n\nand nothing else.",
        f"Marks such as {' or '.join(f'`{mark.strip()}`' for mark in dialect.markers)} are text.",
        *(f"It ends with {mark.strip()} and so on." for mark in dialect.markers),
    ]
    for text in texts:
        for given in (name, ""):
            found = parse(text, TOOLS, dialect=given)
            assert found.calls == ()
            assert found.errors == ()
            assert found.content + found.reasoning == text


def hermes(arguments: str, beside: str = "") -> str:
    return f'<tool_call>\n{{"name": "get_weather", "arguments": {arguments}{beside}}}\n</tool_call>'


@pytest.mark.parametrize(
    "text",
    [
        hermes('{"city": "x", "hours": [1 2]}'),
        hermes('{"city": "x", "hours": [1 200]}'),
        hermes('{"city": "x"}', ', "days": 3'),
        hermes('{"city": "\\ud800"}'),
        hermes('{"city": "a", "x": """b\nc"""}'),
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": {"x": 1], "days": 2}}]',
        '<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "x"}}}}\n</tool_call>',
        "[TOOL_CALLS]get_weather and so on",
        "<tool_call>the weather, please</tool_call>",
        "```tool_code\nfor city in cities:\n    get_weather(city=city)\n```",
    ],
)
def test_what_has_two_readings_or_none_is_an_error(text: str) -> None:
    found = parse(text, TOOLS)
    assert (found.calls, len(found.errors)) == ((), 1)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "get_weather", "arguments": {"city": "Oslo"}, "result": "sunny"}',
        '{"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {}}}}',
        "[get_weather(city)](https://example.org) explains it.",
        f"> {hermes('{}')}\n\nis what you sent.",
        '<invoke name="job"><parameter name="x">1</parameter></invoke>',
        "<tool_call>the weather</tool_call> is how it begins.",
    ],
)
def test_data_and_examples_are_content(text: str) -> None:
    found = parse(text, TOOLS)
    assert (found.calls, found.errors, found.content) == ((), (), text)


def test_an_error_after_calls_says_which_were_read() -> None:
    call = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
    found = parse(f'functools[{call}, {{"name": "note", "arguments": {{"text": oops}}}}]', TOOLS)
    assert calls_of(found) == [("get_weather", {"city": "Oslo"})]
    assert "It was not run" not in found.errors[0]
    assert "Only the call of `get_weather` before that was read" in found.errors[0]


def test_a_repetition_costs_a_bounded_number_of_attempts() -> None:
    unit = '{"name": "get_weather", "arguments": {"city": 1\n'
    found = parse(unit * 500, TOOLS)
    assert (found.calls, found.content) == ((), "")
    assert len(found.errors) <= 64


def test_without_its_outer_end_a_call_whose_values_hold_tags_is_cut_off() -> None:
    whole = "<seed:tool_call><function=note><parameter=text>a</parameter></function>"
    assert calls_of(parse(whole, TOOLS)) == [("note", {"text": "a"})]
    doubt = whole.replace(">a<", "><parameter=q>a</parameter> b<")
    found = parse(doubt, TOOLS)
    assert (found.calls, len(found.errors)) == ((), 1)
