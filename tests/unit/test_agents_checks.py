from __future__ import annotations

import json

import pytest
from pydantic import BaseModel, ConfigDict

from manyhands.agents.checks import Answered, Called, Faulty, Output, read
from manyhands.agents.report import Ending
from manyhands.agents.tools import Toolbox, tool
from manyhands.ports import ToolCall
from manyhands.runtime import Effect


class Finding(BaseModel):
    what: str
    count: int = 0


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


@tool(effect=Effect.PURE)
def look() -> str:
    """Look."""
    return ""


FINDING = Output(Finding)
TOOLS = Toolbox.of(look)
LOOK = ToolCall("1", "look", "{}")


def answer(text: str) -> ToolCall:
    return ToolCall("1", "answer", text)


@pytest.mark.parametrize(
    "text",
    [
        '{"what": "a"}',
        ' \n{"what": "a"}\n',
        '```json\n{"what": "a"}\n```',
        'Here it is:\n```\n{"what": "a"}\n```\nDone.',
    ],
)
@pytest.mark.parametrize("finish", ["stop", "length", "tool_calls", ""])
def test_a_typed_answer_as_text(text: str, finish: str) -> None:
    assert read(text, (), finish, FINDING, TOOLS) == Answered(Finding(what="a"), text)


def test_a_typed_answer_as_a_call() -> None:
    found = read("So:", (answer('{"what":"a","count":"3"}'),), "stop", FINDING, TOOLS)
    assert found == Answered(Finding(what="a", count=3), "So:")


@pytest.mark.parametrize(
    "text",
    [
        "I will now call the tool `look`.",
        "The answer is in the file.",
        '```json\n{"what": "a"}\n```\nor\n```json\n{"what": "b"}\n```',
        '[{"what": "a"}]',
        '"a"',
        "null",
    ],
)
def test_prose_is_no_typed_answer(text: str) -> None:
    found = read(text, (), "stop", FINDING, TOOLS)
    assert isinstance(found, Faulty)
    assert found.ending is Ending.UNANSWERED
    assert "look" in found.message
    assert "`answer`" in found.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"what": ', "not valid JSON"),
        ('{"what": "a"} {"what": "b"}', "not valid JSON"),
        ('{"what": NaN}', "NaN is not JSON"),
        ("{}", "what: Field required"),
        ('{"what": "a", "why": "b"}', "why: Extra inputs are not permitted (given: 'b')"),
        ('{"name": "look", "arguments": {}}', "what: Field required"),
    ],
)
def test_an_answer_that_does_not_fit_is_explained(text: str, said: str) -> None:
    for found in (
        read(text, (), "stop", FINDING, Toolbox()),
        read("", (answer(text),), "stop", FINDING, TOOLS),
    ):
        assert isinstance(found, Faulty)
        assert found.ending is Ending.MALFORMED
        assert said in found.message


def test_a_type_that_takes_further_fields_gets_them() -> None:
    found = read('{"a": 1}', (), "stop", Output(Open), Toolbox())
    assert isinstance(found, Answered)
    assert isinstance(found.value, Open)
    assert found.value.model_extra == {"a": 1}


def test_text_is_the_answer_where_nothing_else_is_asked_for() -> None:
    assert read("Hello.", (), "stop", None, TOOLS) == Answered("Hello.", "Hello.")


@pytest.mark.parametrize("output", [None, FINDING])
@pytest.mark.parametrize(
    ("text", "finish", "ending"),
    [
        ("", "stop", Ending.EMPTY),
        (" \n", "length", Ending.CUT),
        ("I was about to", "length", Ending.CUT),
        ('{"what": "I was', "length", Ending.CUT),
        ("Something", "content_filter", Ending.FILTERED),
    ],
)
def test_faults_have_names(
    text: str, finish: str, ending: Ending, output: Output[Finding] | None
) -> None:
    found = read(text, (), finish, output, TOOLS)
    assert isinstance(found, Faulty)
    assert found.ending is ending


@pytest.mark.parametrize(
    "calls",
    [(LOOK,), (LOOK, answer('{"what":"a"}')), (answer('{"what":"a"}'), answer('{"what":"b"}'))],
)
def test_calls_are_calls_and_an_answer_beside_one_is_none(calls: tuple[ToolCall, ...]) -> None:
    assert read("text", calls, "stop", FINDING, TOOLS) == Called(calls)


def test_without_an_output_there_is_no_tool_answer() -> None:
    calls = (answer('{"what":"a"}'),)
    assert read("", calls, "stop", None, TOOLS) == Called(calls)


def test_the_schema_is_shown_once_and_in_one_way() -> None:
    assert FINDING.schema.decode() in FINDING.instructions(as_tool=False)
    assert "answer" in FINDING.instructions(as_tool=True)
    function = json.loads(FINDING.tool)["function"]
    assert function["name"] == "answer"
    assert function["parameters"] == json.loads(FINDING.schema)
