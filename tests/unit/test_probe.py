"""What the probe finds out, of servers that are played by a script."""

from __future__ import annotations

import json

import pytest

from manyhands.adapters.models.probe import QUESTIONS, Found, Probe, probe
from manyhands.errors import ModelMalformed, ModelOverloaded, ModelRefused, ModelUnreachable
from manyhands.ports import ModelRequest
from manyhands.testing import ScriptedModel, calls, say
from manyhands.testing.models import Scripted


def asked(request: ModelRequest) -> str:
    return json.loads(request.messages[-1])["content"]


def strict(request: ModelRequest) -> Scripted:
    """A server that enforces everything, with a model that does as it is told."""
    if request.response_schema is not None:
        return say(json.dumps({"colour": "red"}))
    if request.tool_choice == "required":
        return calls(("add", {"a": 1, "b": 2}))
    if request.tool_choice == "weather":
        return calls(("weather", {"city": "Oslo"}))
    if "two calls" in asked(request):
        return calls(("weather", {"city": "Paris"}), ("weather", {"city": "Rome"}))
    if request.tools:
        return calls(("add", {"a": 17, "b": 25}))
    return say("one two three four five six seven")


def obedient(request: ModelRequest) -> Scripted:
    """A server that enforces nothing, with a model that does as the message says."""
    text = asked(request)
    if "exactly this JSON" in text:
        return say('{"colour": "blue", "size": 3}')
    if "hello" in text:
        return say("Hello!")
    if "two calls" in text:
        return calls(("weather", {"city": "Paris"}))
    if "add" in text:
        return calls(("add", {"a": 17, "b": 25}))
    return say("<think>well</think>ready or not", usage=None)


def found(result: Probe) -> dict[str, Found]:
    assert tuple(check.name for check in result.checks) == QUESTIONS
    return {check.name: check.found for check in result.checks}


async def test_a_server_that_enforces() -> None:
    seen: list[str] = []
    result = await probe(ScriptedModel(strict), on_question=seen.append)
    assert found(result) == {
        "chat": Found.WORKS,
        "stream": Found.WORKS,
        "usage in stream": Found.WORKS,
        "tool call": Found.WORKS,
        "tool call required": Found.ENFORCED,
        "tool call by name": Found.ENFORCED,
        "parallel calls": Found.WORKS,
        "JSON schema": Found.ENFORCED,
        "reasoning apart": Found.NO,
    }
    assert result.answered
    assert [q for q in QUESTIONS if q in seen] == seen


async def test_a_server_that_enforces_nothing_is_not_taken_for_one_that_does() -> None:
    result = await probe(ScriptedModel(obedient))
    assert found(result) == {
        "chat": Found.WORKS,
        "stream": Found.WORKS,
        "usage in stream": Found.NO,
        "tool call": Found.WORKS,
        "tool call required": Found.NOT_ENFORCED,
        "tool call by name": Found.NOT_ENFORCED,
        "parallel calls": Found.NO,
        "JSON schema": Found.NOT_ENFORCED,
        "reasoning apart": Found.NO,
    }
    details = {check.name: check.detail for check in result.checks}
    assert details["tool call by name"] == "called add"
    assert "blue" in details["JSON schema"]
    assert details["reasoning apart"] == "it thinks within the text"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ('{"colour": "red", "size": 3}', Found.NOT_ENFORCED),
        ('{"colour": "blue"}', Found.NOT_ENFORCED),
        ('```json\n{"colour": "red"}\n```', Found.NOT_ENFORCED),
        ('["red"]', Found.NOT_ENFORCED),
        ('{"colour": {"x": 1}}', Found.NOT_ENFORCED),
        ("[" * 100_000, Found.NOT_ENFORCED),
        ('{"colour": "green"}', Found.ENFORCED),
    ],
)
async def test_only_an_answer_within_the_schema_shows_that_it_is_enforced(
    answer: str, told: Found
) -> None:
    model = ScriptedModel(lambda r: say(answer) if r.response_schema else strict(r))
    assert found(await probe(model))["JSON schema"] is told


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (say('<tool_call>{"name": "add", "arguments": {"a": 17}}</tool_call>'), "came as text"),
        (say("It is 42."), "no call: 'It is 42.'"),
        (say("", finish="length"), "no call: empty, length"),
        (calls(("add", {"a": 17})), "called add with"),
        (calls(("add", "{broken")), "called add with {broken"),
        (calls(("multiply", {"a": 17, "b": 25})), "called multiply"),
    ],
)
async def test_a_call_that_is_none(reply: Scripted, detail: str) -> None:
    plain = "What is 17 + 25? Use the tool add."
    model = ScriptedModel(lambda r: reply if asked(r) == plain and not r.tool_choice else strict(r))
    result = await probe(model)
    check = next(check for check in result.checks if check.name == "tool call")
    assert check.found is Found.NO
    assert detail in check.detail


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModelUnreachable("model m at u: connection refused"), Found.UNREACHABLE),
        (ModelRefused("model m at u: HTTP 401: who are you"), Found.REFUSED),
        (ModelMalformed("model m at u: the answer is not JSON"), Found.FAILED),
        (ModelOverloaded("model m at u: HTTP 429"), Found.FAILED),
    ],
)
async def test_no_reply_to_the_first_request_ends_it(error: Exception, told: Found) -> None:
    model = ScriptedModel(lambda _: error)  # type: ignore[arg-type,return-value]
    result = await probe(model)
    assert not result.answered
    assert result.checks[0].found is told
    assert result.checks[0].detail in str(error)
    assert {check.found for check in result.checks[1:]} == {Found.NOT_TRIED}
    assert len(model.requests) == 1


async def test_what_goes_wrong_later_ends_nothing() -> None:
    def moody(request: ModelRequest) -> Scripted:
        if request.tool_choice == "required":
            return ModelRefused("model m at u: HTTP 400: tool_choice is not supported")
        if request.tool_choice == "weather":
            return ModelUnreachable("model m at u: HTTP 500: out of memory")
        if request.response_schema:
            return say("late", seconds=3600)
        return strict(request)

    result = await probe(ScriptedModel(moody), seconds=0.05)
    told = found(result)
    assert (told["tool call required"], told["tool call by name"], told["JSON schema"]) == (
        Found.REFUSED,
        Found.FAILED,
        Found.LATE,
    )
    assert told["parallel calls"] is Found.WORKS
    assert result.answered


async def test_details_are_cut_and_hold_one_line() -> None:
    model = ScriptedModel(lambda _: say("line\n" * 10_000))
    result = await probe(model)
    assert all(len(c.detail) <= 200 and "\n" not in c.detail for c in result.checks)
