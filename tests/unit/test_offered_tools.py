"""Tools of servers as tools of agents: names, schemas, effects, arguments, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from manyhands.agents.now_tool import now
from manyhands.agents.offered import (
    MOST_DESCRIPTION,
    MOST_SCHEMA,
    OfferedTool,
    legal_name,
    offered_tools,
    unusable,
)
from manyhands.agents.tools import CallContext, Toolbox
from manyhands.errors import ConfigError, ToolError
from manyhands.ports import ToolOffer
from manyhands.runtime import Effect
from manyhands.testing import FakeToolServer
from manyhands.testing.tool_servers import PLAYED

CONTEXT = CallContext("run", "agent", "key", "idempotency")
EMPTY: dict[str, object] = {"type": "object"}


def never(offer: ToolOffer) -> bool:
    return False


def offer(name: str = "t", schema: Any = None, description: str = "") -> ToolOffer:
    return ToolOffer(name, description, EMPTY if schema is None else schema)


def refused(*offers: ToolOffer) -> dict[str, str]:
    return dict(offered_tools(FakeToolServer([]), offers, repeatable=never).dropped)


async def test_a_call_reaches_the_server_with_what_the_schema_says() -> None:
    server = FakeToolServer(PLAYED, name="my server")
    found = offered_tools(server, await server.offers(), repeatable=never)
    tools = Toolbox.of(*found.tools).tools
    assert list(tools) == [f"my_server_{each.offer.name}" for each in PLAYED]
    add = tools["my_server_add"]
    arguments, notes = add.parse('{"a": "2", "b": 3}')
    assert await add.call(CONTEXT, arguments) == "5"
    assert server.calls == [("add", {"a": 2, "b": 3})]
    assert notes == ('a: the text "2" as 2',)
    with pytest.raises(ToolError, match="'b' is missing"):
        add.parse('{"a": 1}')
    with pytest.raises(ToolError, match="why"):
        await tools["my_server_fail"].call(CONTEXT, {"why": "why"})


def test_the_model_sees_the_schema_as_it_was_given() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string", "title": "T"}}}
    made = OfferedTool.from_offer(FakeToolServer([]), offer(schema=schema), Effect.ONCE)
    function = json.loads(made.encoded)["function"]
    assert function == {"name": "fake_t", "description": "", "parameters": schema}


async def test_names_that_python_uses_itself_are_arguments_like_others() -> None:
    server = FakeToolServer(PLAYED)
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    made = OfferedTool.from_offer(server, offer("echo", schema), Effect.ONCE)
    arguments = {"self": "a", "text": "b", "offer": "c", "arguments": "d", "x-y z": "e"}
    found, _ = made.parse(json.dumps(arguments))
    assert await made.call(CONTEXT, found) == "b"
    assert server.calls == [("echo", arguments)]


def test_the_effect_is_the_users_word() -> None:
    offers = [each.offer for each in PLAYED]
    found = offered_tools(FakeToolServer(PLAYED), offers, repeatable=never)
    assert {each.effect for each in found.tools} == {Effect.ONCE}
    found = offered_tools(FakeToolServer(PLAYED), offers, repeatable=lambda o: o.name == "add")
    effects = {each.name: each.effect for each in found.tools}
    assert effects.pop("fake_add") is Effect.IDEMPOTENT
    assert set(effects.values()) == {Effect.ONCE}


def test_an_allow_list_leaves_the_others_out_and_must_be_right() -> None:
    offers = [offer("a"), offer("b")]
    found = offered_tools(FakeToolServer([]), offers, repeatable=never, allowed=["b"])
    assert [each.name for each in found.tools] == ["fake_b"]
    assert found.dropped == (("a", "not in `tools`"),)
    with pytest.raises(ConfigError, match="does not offer c; it offers: a, b"):
        offered_tools(FakeToolServer([]), offers, repeatable=never, allowed=["b", "c"])


DEEP: dict[str, Any] = {"type": "object"}
for _ in range(5000):
    DEEP = {"type": "object", "properties": {"a": DEEP}}

BAD: dict[str, tuple[Any, str]] = {
    "array": ({"type": "array"}, "of type 'array'"),
    "untyped": ({"properties": {}}, "of type None"),
    "broken": ({"type": "object", "properties": 3}, "no JSON schema"),
    "remote": (
        {"type": "object", "properties": {"a": {"$ref": "https://example.org/s"}}},
        "refers to 'https://example.org/s', and nothing is fetched",
    ),
    "file": ({"type": "object", "allOf": [{"$ref": "file:///etc/x"}]}, "nothing is fetched"),
    "astray": ({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}}, "not in it"),
    "huge": ({"type": "object", "description": "x" * MOST_SCHEMA}, "the limit is 16,384"),
    "deep": (DEEP, "no JSON schema"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_schema_that_cannot_be_used_drops_its_tool_with_the_reason(name: str) -> None:
    schema, reason = BAD[name]
    assert reason in refused(offer("good"), offer(name, schema))[name]
    with pytest.raises(ConfigError, match="its schema"):
        OfferedTool.from_offer(FakeToolServer([]), offer(name, schema), Effect.ONCE)


def test_references_within_a_schema_are_fine() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/a~1b"}, "l": {"$ref": "#/allOf/0"}},
        "allOf": [{}],
        "$defs": {"a/b": {"type": "integer"}},
    }
    assert unusable(schema) == ""
    made = OfferedTool.from_offer(FakeToolServer([]), offer(schema=schema), Effect.ONCE)
    assert made.parse('{"a": "7"}')[0] == {"a": 7}


def test_a_tool_offered_twice_is_taken_once() -> None:
    assert refused(offer("a"), offer("a")) == {"a": "offered twice; the first one is taken"}


def test_two_tools_that_would_have_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'a.b' and 'a_b' would both be called 'fake_a_b'"):
        refused(offer("a.b"), offer("a_b"))


def test_names_are_made_legal_and_stay_apart() -> None:
    assert legal_name("git", "tree/list files") == "git_tree_list_files"
    assert legal_name("1st", "a") == "_1st_a"
    long, other = legal_name("s", "x" * 200), legal_name("s", "x" * 199 + "y")
    assert len(long) == len(other) == 64
    assert long != other


def test_a_long_description_is_cut() -> None:
    made = OfferedTool.from_offer(FakeToolServer([]), offer(description="x" * 5000), Effect.ONCE)
    assert len(made.description) == MOST_DESCRIPTION
    assert made.description.endswith("…")


async def test_now() -> None:
    text = await now.call(CONTEXT, {})
    assert text.endswith("+00:00")
    assert len(text) == 25
    assert now.effect is Effect.IDEMPOTENT
