"""`ScriptedModel`: the same request hears the same, and what was not written down is an error."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import ConfigError, ModelOverloaded, ModelTimeout, ModelUnreachable
from manyhands.ports import ModelReply, ModelRequest, Price, Usage
from manyhands.testing import Reply, ScriptedModel, answer, call, calls, say

TOOL = b'{"type":"function","function":{"name":"answer","parameters":{}}}'


def request(*said: str, role: str = "planner", tools: tuple[bytes, ...] = ()) -> ModelRequest:
    """The task, then assistant and user in turn."""
    messages: list[dict[str, str]] = [{"role": "system", "content": f"Role: {role}\n\nPlan."}]
    for at, text in enumerate(said):
        messages.append({"role": "assistant" if at % 2 else "user", "content": text})
    return ModelRequest(messages=[json.dumps(m).encode() for m in messages], tools=tools)


def script(tmp_path: Path, *rules: dict[str, Any], **settings: Any) -> ScriptedModel:
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"rules": rules, **settings}))
    return ScriptedModel.from_file(path)


async def test_replies_in_order_and_then_an_error() -> None:
    model = ScriptedModel(
        ["a", call("look", at="x"), ModelUnreachable("gone"), say("", usage=None)]
    )
    first = await model.request(request("t"))
    assert (first.text, first.finish_reason) == ("a", "stop")
    second = await model.request(request("t"))
    assert (second.tool_calls[0].name, second.tool_calls[0].arguments) == ("look", '{"at":"x"}')
    with pytest.raises(ModelUnreachable):
        await model.request(request("t"))
    assert (await model.request(request("t"))).usage is None
    with pytest.raises(ConfigError, match=r"has 4 replies, all used.*'what next\?'"):
        await model.request(request("t", "a", "what next?"))
    assert len(model.requests) == 5


async def test_an_answer_takes_the_form_that_the_request_asks_for() -> None:
    model = ScriptedModel(lambda _: answer({"what": "ü"}))
    assert (await model.request(request("t"))).text == '{"what":"ü"}'
    reply = await model.request(request("t", tools=(TOOL,)))
    assert (reply.text, reply.tool_calls[0].name) == ("", "answer")
    assert reply.tool_calls[0].arguments == '{"what":"ü"}'


async def test_usage_is_honest_unless_told_otherwise() -> None:
    asked = request("t" * 400)
    model = ScriptedModel(["b" * 40, Reply("b", usage=Usage(10**9, 0))])
    honest = (await model.request(asked)).usage
    assert honest == Usage(sum(map(len, asked.messages)) // 4 + 1, 11)
    assert (await model.request(asked)).usage == Usage(10**9, 0)


async def test_failures_come_once_for_each_attempt_at_the_same_request() -> None:
    errors = (ModelOverloaded("busy", retry_after=1), ModelTimeout("late"))
    model = ScriptedModel(lambda _: say("at last", fails=errors))

    async def attempt(text: str) -> str:
        try:
            return (await model.request(request(text))).text
        except (ModelOverloaded, ModelTimeout) as error:
            return error.what

    assert [await attempt("a") for _ in range(3)] == ["busy", "late", "at last"]
    assert await attempt("b") == "busy"


async def test_a_file_answers_by_role_task_and_last_message(tmp_path: Path) -> None:
    model = script(
        tmp_path,
        {
            "role": "planner",
            "task": r"at most (?P<count>\d+)",
            "replies": [
                "I think of ${count}, ${unknown}, $count.",
                {"answer": {"ideas": ["${count}", {"n": 1}]}},
            ],
        },
        {"last": "(?i)what is the (?P<thing>time|day)", "reply": {"text": "the ${thing}"}},
        {
            "role": "worker",
            "replies": [
                {
                    "calls": [
                        {"name": "look", "arguments": {"at": "x"}},
                        {"name": "go", "arguments": "{"},
                    ],
                    "finish": "stop",
                    "usage": {"input": 1, "output": 2},
                },
                {"text": "b", "usage": None, "fails": ["unreachable"]},
            ],
        },
        name="demo",
        price=[1, 2],
        context_length=99,
    )
    assert (model.name, model.price, model.context_length) == ("demo", Price(1, 2), 99)

    async def text(*said: str, role: str) -> str:
        return (await model.request(request(*said, role=role))).text

    assert await text("at most 3", role="planner") == "I think of 3, ${unknown}, $count."
    assert json.loads(await text("at most 3", "x", "y", role="planner")) == {
        "ideas": ["3", {"n": 1}]
    }
    assert await text("a", "b", "What is the time", role="planner") == "the time"
    reply = await model.request(request("a", role="worker"))
    assert [(c.name, c.arguments) for c in reply.tool_calls] == [
        ("look", '{"at":"x"}'),
        ("go", "{"),
    ]
    assert (reply.finish_reason, reply.usage) == ("stop", Usage(1, 2))
    with pytest.raises(ModelUnreachable):
        await text("a", "b", "c", role="worker")
    assert await text("a", "b", "c", role="worker") == "b"
    with pytest.raises(ConfigError, match="rule 2 has 2 replies and is asked for number 3"):
        await text("a", "b", "c", "d", "e", role="worker")
    with pytest.raises(ConfigError, match="no rule fits role 'judge', task 'hm'"):
        await text("hm", role="judge")


async def test_agents_at_once_hear_what_they_would_hear_alone(tmp_path: Path) -> None:
    model = script(tmp_path, {"task": r"number (?P<n>\d+)", "replies": ["${n}a", "${n}b", "${n}c"]})

    async def talk(n: int) -> list[str]:
        said = [f"number {n}"]
        for _ in range(3):
            reply: ModelReply = await model.request(request(*said))
            await asyncio.sleep(0.001 * (n % 3))
            said += [reply.text, "go on"]
        return said[1::2]

    heard = await asyncio.gather(*(talk(n) for n in range(20)))
    assert heard == [[f"{n}a", f"{n}b", f"{n}c"] for n in range(20)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("{", "Invalid JSON"),
        ('{"rules": []}', "rules: "),
        ('{"rules": [{"reply": "a", "rol": "b"}]}', "rules.0.rol: "),
        ('{"rules": [{"role": "b"}]}', "either 'reply' or 'replies'"),
        ('{"rules": [{"reply": "a", "replies": ["b"]}]}', "either 'reply' or 'replies'"),
        ('{"rules": [{"reply": "a", "last": "("}]}', "rules.0.last: "),
        ('{"rules": [{"reply": {"fails": ["sometimes"]}}]}', "fails.0: "),
    ],
)
def test_files_that_are_no_scripts(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "script.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        ScriptedModel.from_file(path)
    assert str(path) in caught.value.what
    assert said in caught.value.what


async def test_how_many_were_asked_at_once() -> None:
    model = ScriptedModel(lambda _: calls(("look", {})), delay=0.01)
    await asyncio.gather(*(model.request(request(str(n))) for n in range(5)))
    assert model.most_at_once == 5
