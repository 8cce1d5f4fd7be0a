"""A mark inside of a payload is payload, also where the call around it has no mark, and where no
call is around it at all: a JSON answer may hold anything.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from manyhands.agents.dialects import StreamParser, parse
from tests.property.dialect_renderers import DIALECTS

TOOLS: dict[str, dict[str, Any]] = {"note": {}, "wipe": {}}
#: What must never run: every dialect's call, as the text of a note.
CALLS = {name: each.render([("wipe", {})]) for name, each in DIALECTS.items()}
BARE = [name for name, each in DIALECTS.items() if each.bare]


@pytest.mark.parametrize("inner", CALLS)
@pytest.mark.parametrize("outer", DIALECTS)
def test_a_call_inside_of_a_call_is_its_text(outer: str, inner: str) -> None:
    """Between words: a text without escapes that ends with its own marks has two readings."""
    text = f"a {CALLS[inner]} b"
    rendered = DIALECTS[outer].render([("note", {"text": text})])
    found = parse(rendered, TOOLS)
    assert [(call.name, call.arguments) for call in found.calls] == [("note", {"text": text})]
    assert found.errors == ()


@pytest.mark.parametrize("inner", CALLS)
@pytest.mark.parametrize("outer", BARE)
def test_cut_off_it_does_not_run_either(outer: str, inner: str) -> None:
    rendered = DIALECTS[outer].render([("note", {"text": f"a {CALLS[inner]} b"})])
    for end in range(rendered.index("note") + 4, len(rendered)):
        found = parse(rendered[:end], TOOLS)
        assert all(call.name == "note" for call in found.calls), rendered[:end]


@pytest.mark.parametrize("inner", CALLS)
def test_a_json_answer_may_hold_a_call(inner: str) -> None:
    answer = json.dumps({"answer": f"a {CALLS[inner]} b", "sure": True}, ensure_ascii=False)
    for text in (answer, f"Here it is:\n{answer}", f"<think>hm</think>{answer}", answer[:-20]):
        found = parse(text, TOOLS)
        assert found.calls == ()


def test_thinking_that_ends_in_a_string_ends_nothing() -> None:
    text = '{"name": "note", "parameters": {"text": "a</think>b"}}'
    for given in (text, f"hm</think>{text}", f"<think>hm</think>\n{text}"):
        found = parse(given, TOOLS)
        assert [call.arguments for call in found.calls] == [{"text": "a</think>b"}]
        assert found.content == ""


def test_a_draft_in_thinking_hides_no_call_after_it() -> None:
    draft = '<think>x\n{"name": "note", "arguments": {"text": "x\n</think>\n'
    found = parse(draft + '<tool_call>{"name": "wipe", "arguments": {}}</tool_call>', TOOLS)
    assert [call.name for call in found.calls] == ["wipe"]


def test_a_call_right_after_a_think_mark_is_not_shown_as_thinking() -> None:
    text = '<think>{"name": "note", "parameters": {}}'
    parser = StreamParser(TOOLS)
    assert [piece for letter in text for piece in parser.feed(letter)] == []
    assert [call.name for call in parser.finish().calls] == ["note"]
