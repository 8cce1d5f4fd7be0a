from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from manyhands.agents.tools import CallContext, Tool, Toolbox, cut, delegation, text_of, tool
from manyhands.errors import ConfigError, ToolError
from manyhands.runtime import Effect, Run


class Place(BaseModel):
    title: str
    depth: int = 0


@tool(effect=Effect.PURE)
async def look(
    at: str,
    times: Annotated[int, Field(ge=1)] = 1,
    place: Place | None = None,
    mode: Literal["far", "near"] = "far",
) -> list[str]:
    """Look at something.

    Twice, if asked.

    Args:
        at: what to look at,
            in words
        times (int): how often
    Returns:
        what is seen
    """
    return [f"{at} {mode} {place.title if place else '-'}"] * times


CONTEXT = CallContext("run", "agent", "agent/turn/0/tool/0", "abc")


async def result(of: Tool, **arguments: Any) -> str:
    return await of.call(CONTEXT, of.parse(json.dumps(arguments))[0])


def test_the_schema_comes_from_hints_defaults_and_docstring() -> None:
    function = json.loads(look.encoded)["function"]
    assert function["name"] == "look"
    assert function["description"] == "Look at something.\n\nTwice, if asked."
    schema = function["parameters"]
    assert schema["required"] == ["at"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["at"] == {
        "type": "string",
        "description": "what to look at, in words",
    }
    assert schema["properties"]["times"] == {
        "type": "integer",
        "minimum": 1,
        "default": 1,
        "description": "how often",
    }
    assert schema["properties"]["mode"]["enum"] == ["far", "near"]
    # Pydantic's titles are gone; a field that is called so is not.
    assert schema["$defs"]["Place"]["properties"]["title"] == {"type": "string"}
    assert "title" not in schema["$defs"]["Place"]


async def test_arguments_are_validated_into_the_functions_types() -> None:
    assert await result(look, at="sky", times="2") == '["sky far -","sky far -"]'
    assert await result(look, at="sky", place={"title": "hill"}) == '["sky far hill"]'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{", "not valid JSON"),
        ('{"at": NaN}', "NaN is not JSON"),
        ("[1]", "are a list, not a JSON object"),
        ("", "at: Field required"),
        ('{"at": 3}', "at: Input should be a valid string (given: 3)"),
        ('{"at": "x", "tiems": 2}', "tiems: Extra inputs are not permitted (given: 2)"),
        ('{"at": "x", "times": 0}', "times: Input should be greater than or equal to 1"),
        ('{"at": "x", "place": {"title": "a", "depth": "b"}}', "place.depth: Input should be"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_arguments_that_do_not_fit_are_explained_to_the_model(arguments: str, said: str) -> None:
    with pytest.raises(ToolError) as caught:
        look.parse(arguments)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1000


async def test_arguments_may_have_names_that_pydantic_keeps_for_itself() -> None:
    @tool(effect=Effect.PURE)
    def odd(schema: str, model_config: int, _x: int, copy: int = 1) -> str:
        return f"{schema}{model_config}{_x}{copy}"

    properties = json.loads(odd.encoded)["function"]["parameters"]["properties"]
    assert list(properties) == ["schema", "model_config", "_x", "copy"]
    assert await result(odd, schema="s", model_config=1, _x=2) == "s121"


async def test_a_tool_that_wants_to_know_which_call_it_is() -> None:
    @tool(effect=Effect.ONCE)
    def send(call: CallContext, text: str) -> str:
        return f"{call.idempotency_key} {text}"

    assert list(json.loads(send.encoded)["function"]["parameters"]["properties"]) == ["text"]
    assert await result(send, text="hi") == "abc hi"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, "done"),
        (b"\xff!", "�!"),
        (Place(title="a"), '{"title":"a","depth":0}'),
        ([1, float("nan")], "[1,NaN]"),
        ({"a": object}, '{"a":"<class \'object\'>"}'),
    ],
)
def test_results_as_text(value: Any, text: str) -> None:
    assert text_of(value) == text


def test_what_is_cut_says_so() -> None:
    text = "ü" * 1000
    short = cut(text, 100, "sha256:abc")
    assert "1900 of 2000 bytes left out here; the whole is sha256:abc" in short
    assert len(short.encode()) < 200
    assert cut(text, 2000, "") == text


def test_functions_that_cannot_be_tools() -> None:
    def untyped(a) -> None: ...  # type: ignore[no-untyped-def]
    def variadic(*a: int) -> None: ...
    def keywords(**a: int) -> None: ...
    def positional(a: int, /) -> None: ...
    async def runs(run: Run) -> None: ...

    for fn in (untyped, variadic, keywords, positional):
        with pytest.raises(ConfigError, match=fn.__name__):
            Tool.from_function(fn, Effect.PURE)
    with pytest.raises(ConfigError, match="not allowed"):
        Tool.from_function(look.fn, Effect.PURE, name="look at")
    with pytest.raises(ConfigError, match="delegation"):
        Tool.from_function(runs, Effect.PURE)
    with pytest.raises(ConfigError, match="delegation"):
        delegation(look.fn)
    assert delegation(runs).takes is Run


def test_a_toolbox_hands_out_what_is_named_and_nothing_else() -> None:
    @tool(effect=Effect.PURE)
    def go() -> None: ...

    box = Toolbox.of(look, go)
    assert list(box.select(["go"]).tools) == ["go"]
    assert len(Toolbox().select([])) == 0
    with pytest.raises(ConfigError, match="there is no tool 'fly'; allowed: look, go"):
        box.select(["fly"])
    with pytest.raises(ConfigError, match="two tools are called 'go'"):
        Toolbox.of(go, go)
    assert box.encoded is box.encoded
