"""Foreign traces: each form is read into the same steps; what is no trace says why and where."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands.agents.stepcheck import Kind, Read, check_all, read_document, read_trace
from manyhands.errors import ConfigError

COMMAND = {"command": "pytest"}
FAILED = "1 failed, 2 passed"


def messages() -> list[dict[str, Any]]:
    function = {"name": "bash", "arguments": json.dumps(COMMAND)}
    return [
        {"role": "system", "content": "You are a coder."},
        {"role": "user", "content": [{"type": "text", "text": "Fix sums.py"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "a", "content": FAILED},
        {"role": "assistant", "content": "All tests pass."},
    ]


def turns() -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Fix sums.py"},
        {"agent": "coder", "content": "", "tool_calls": [{"name": "bash", "arguments": COMMAND}]},
        {"role": "terminal", "content": FAILED, "ok": False},
        {"agent": "coder", "content": "All tests pass.", "tokens": 4, "seconds": 0.5},
    ]


def attribute(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    if isinstance(value, list):
        values = [{"stringValue": each} for each in value]
        return {"key": key, "value": {"arrayValue": {"values": values}}}
    return {"key": key, "value": {"stringValue": value}}


def span(id: str, start: int, parent: str = "", **more: Any) -> dict[str, Any]:
    facts: dict[str, Any] = more.pop("facts")
    attributes = [attribute(f"gen_ai.{key}", value) for key, value in facts.items()]
    times = {"startTimeUnixNano": str(start * 10**9), "endTimeUnixNano": str((start + 1) * 10**9)}
    return {"spanId": id, "parentSpanId": parent, "attributes": attributes, **times, **more}


def document(*spans: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [attribute("service.name", "shop")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


def otlp() -> dict[str, Any]:
    """As the conventions have it now: messages as JSON in attributes."""
    call = {"type": "tool_call", "id": "a", "name": "bash", "arguments": COMMAND}
    told = {"type": "tool_call_response", "id": "a", "response": FAILED}
    asked = {"role": "user", "parts": [{"type": "text", "content": "Fix sums.py"}]}
    said = {"role": "assistant", "parts": [call], "finish_reason": "tool_calls"}
    done = {"role": "assistant", "parts": [{"type": "text", "content": "All tests pass."}]}
    again = json.dumps([asked, said, {"role": "tool", "parts": [told]}])
    return document(
        # Not in the order of time, as exporters give them.
        span(
            "s3",
            4,
            "root",
            facts={
                "operation.name": "chat",
                "input.messages": again,
                "output.messages": json.dumps([done]),
                "usage.output_tokens": 4,
                "response.finish_reasons": ["stop"],
            },
        ),
        span("root", 0, name="invoke_agent coder", facts={"operation.name": "invoke_agent"}),
        span(
            "s1",
            1,
            "root",
            facts={
                "operation.name": "chat",
                "input.messages": json.dumps([asked]),
                "output.messages": json.dumps([said]),
            },
        ),
        span(
            "s2",
            2,
            "root",
            status={"code": 2},
            facts={
                "operation.name": "execute_tool",
                "tool.name": "bash",
                "tool.call.id": "a",
                "tool.call.result": FAILED,
            },
        ),
    )


def older() -> dict[str, Any]:
    """Events of the older conventions, and OpenLLMetry's attributes."""
    said = {
        "content": None,
        "tool_calls": [{"id": "a", "function": {"name": "bash", "arguments": "{}"}}],
    }
    choice = [attribute("message", json.dumps(said)), attribute("finish_reason", "tool_calls")]
    told = [attribute("content", FAILED), attribute("id", "a")]
    return document(
        span(
            "s1",
            1,
            events=[
                {"name": "gen_ai.user.message", "attributes": [attribute("content", "Fix it")]},
                {"name": "gen_ai.choice", "attributes": choice},
            ],
            facts={"operation.name": "chat", "agent.name": "coder"},
        ),
        span(
            "s2",
            3,
            events=[{"name": "gen_ai.tool.message", "attributes": told}],
            facts={
                "agent.name": "coder",
                "completion.0.content": "All tests pass.",
                "completion.0.finish_reason": "stop",
            },
        ),
    )


@pytest.mark.parametrize(
    ("form", "given", "agent", "at"),
    [
        ("messages", messages(), "assistant", ["2", "4"]),
        ("messages", {"messages": messages(), "tools": []}, "assistant", ["2", "4"]),
        ("turns", turns(), "coder", ["1", "3"]),
        ("turns", {"history": turns()}, "coder", ["1", "3"]),
        ("otlp", otlp(), "coder", ["s1", "s3"]),
        ("otlp", older(), "coder", ["s1", "s2"]),
    ],
)
def test_every_form_gives_the_same_steps(
    form: str, given: Any, agent: str, at: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(given))
    read = read_trace(path)
    assert read.form == form
    first, last = read.steps
    assert [step.at for step in read.steps] == at
    assert {step.agent for step in read.steps} == {agent}
    assert [call.name for call in first.calls] == ["bash"]
    assert [result.text for result in first.results] == [FAILED]
    assert first.given[-1] in ("Fix sums.py", "Fix it")
    assert last.given == ()
    assert (last.text, last.kind, first.kind) == ("All tests pass.", Kind.REPORT, Kind.MODEL)
    flags = {(flag.check, flag.index) for flag in check_all(read)}
    assert ("claimed-test", 1) in flags


def test_documents_of_a_line_each_are_one_trace(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    whole = otlp()["resourceSpans"][0]["scopeSpans"][0]["spans"]
    path.write_text("\n".join(json.dumps(document(each)) for each in whole))
    assert read_trace(path).steps == read_document(otlp(), "otlp").steps


def test_agents_of_a_chat_hear_each_other() -> None:
    read = read_document(
        [
            {"role": "user", "content": "Count."},
            {"role": "planner", "content": "You count."},
            {"role": "worker", "content": "Seven."},
            {"role": "planner", "content": "So it is seven."},
        ],
        "chat",
    )
    assert [(s.agent, s.index, s.given) for s in read.steps] == [
        ("planner", 0, ("Count.",)),
        ("worker", 0, ("Count.", "You count.")),
        ("planner", 1, ("Seven.",)),
    ]


def test_results_come_to_the_calls_that_they_name() -> None:
    said = messages()
    said[2]["tool_calls"].append({"id": "b", "function": {"name": "ls", "arguments": "{}"}})
    said.insert(3, {"role": "tool", "tool_call_id": "b", "content": "two files"})
    (first, _) = read_document(said, "m").steps
    assert {(r.name, r.text) for r in first.results} == {("ls", "two files"), ("bash", FAILED)}


def test_spans_without_messages_still_tell_tokens_and_accuse_nobody() -> None:
    spans = [
        span(f"s{n}", n, facts={"operation.name": "chat", "usage.output_tokens": 40 + n})
        for n in range(12)
    ]
    big = span("big", 99, facts={"operation.name": "chat", "usage.output_tokens": 9000})
    read = read_document(document(*spans, big), "otlp")
    assert [(flag.check, flag.at) for flag in check_all(read)] == [("outlier", "big")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[]", "an empty list"),
        ("7", "a int: no trace"),
        ('{"rows": []}', "an object with rows: no trace"),
        ('[{"role": "user", "content": "x"}, 7]', "turn 1 is a int, not an object: '7'"),
        ('[{"content": "x"}]', "turn 0 has none of role, agent and name"),
        ('[{"role": 7, "agent": "x"}]', "turn 0 has role = '7', which is no text"),
        ('[{"agent": "x", "tool_calls": [{"id": 1}]}]', "turn 0 has a call without a name"),
        ('[{"agent": "x", "tool_calls": 5}]', "tool_calls that are a int"),
        ('{"resourceSpans": 5}', "resourceSpans is '5', not a list"),
        ('{"resourceSpans": [{"scopeSpans": 5}]}', r"resourceSpans\[0\]: scopeSpans is '5'"),
        ('{"resourceSpans": []}', "0 spans, and none with gen_ai.operation.name"),
    ],
)
def test_what_is_no_trace_says_why_and_where(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as raised:
        read_trace(path)
    assert str(path) in raised.value.what
    assert raised.value.next


@pytest.mark.parametrize("form", ["messages", "turns", "otlp", "older"])
def test_whatever_stands_in_a_field_it_is_read_or_refused(form: str) -> None:
    """One value at a random place is another: the trace is read, or the error names it."""
    whole = {"messages": messages, "turns": turns, "otlp": otlp, "older": older}[form]
    values: list[Any] = [None, 7, -1.5, "x", "", [], {}, [7], {"x": 7}, True, "[1]", "{}"]
    read = refused = 0
    for seed in range(600):
        dice = random.Random(f"{form}/{seed}")
        made = json.loads(json.dumps(whole()))
        places = list(_places(made))
        holder, key = dice.choice(places)
        holder[key] = json.loads(json.dumps(dice.choice(values)))
        told = _problem(made)
        assert told == "" or told.startswith("t.json")
        read += not told
        refused += bool(told)
    assert read > 100
    assert refused > 10


def _problem(document: Any) -> str:
    try:
        check_all(read_document(document, "t.json"))
    except ConfigError as error:
        return error.what
    return ""


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    found = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in list(found):
        yield value, key
        if isinstance(each, dict | list):
            yield from _places(each)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    for name in ("a", "b"):
        with pytest.raises(ConfigError, match=str(tmp_path / name)):
            read_trace(tmp_path / name)


def test_an_empty_read_has_no_flags() -> None:
    assert check_all(Read(())) == ()
