"""Coercions are lossless, noted, and made only where the schema refuses the value as it is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.agents.arguments import fit, schema_problem
from manyhands.errors import ToolError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "x": {"type": "number"},
        "b": {"type": "boolean"},
        "s": {"type": "string"},
        "either": {"type": ["integer", "string"]},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "one": {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}]},
        "many": {"type": "array", "items": {"type": "integer"}},
        "pick": {"enum": [1, 2, None]},
        "small": {"type": "integer", "maximum": 5},
    },
    "required": ["n"],
    "additionalProperties": False,
    "$defs": {
        "Point": {
            "type": "object",
            "properties": {"x": {"type": "integer"}},
            "required": ["x"],
        }
    },
}


@pytest.mark.parametrize(
    ("given", "fitted"),
    [
        ({"n": "3"}, {"n": 3}),
        ({"n": " -3 "}, {"n": -3}),
        ({"n": "3.0"}, {"n": 3}),
        ({"n": 1, "x": "2.50"}, {"n": 1, "x": 2.5}),
        ({"n": 1, "b": "true"}, {"n": 1, "b": True}),
        ({"n": 1, "b": "False"}, {"n": 1, "b": False}),
        ({"n": 1, "maybe": "null"}, {"n": 1, "maybe": None}),
        ({"n": 1, "maybe": "7"}, {"n": 1, "maybe": 7}),
        ({"n": 1, "one": '{"x": "4"}'}, {"n": 1, "one": {"x": 4}}),
        ({"n": 1, "one": {"x": "4"}}, {"n": 1, "one": {"x": 4}}),
        ({"n": 1, "many": "[1, 2]"}, {"n": 1, "many": [1, 2]}),
        ({"n": 1, "many": ["1", 2]}, {"n": 1, "many": [1, 2]}),
        ({"n": 1, "pick": "2"}, {"n": 1, "pick": 2}),
    ],
)
def test_what_text_writes_down_is_read_and_noted(
    given: dict[str, Any], fitted: dict[str, Any]
) -> None:
    before = copy.deepcopy(given)
    found = fit(given, SCHEMA)
    assert found.arguments == fitted
    assert found.notes
    assert given == before
    assert fit(found.arguments, SCHEMA).notes == ()


@pytest.mark.parametrize(
    "given",
    [
        {"n": "3.5"},
        {"n": "007"},
        {"n": "+3"},
        {"n": "1e3"},
        {"n": "three"},
        {"n": ""},
        {"n": True},
        {"n": None},
        {"n": 1, "x": "0.30000000000000000001"},
        {"n": 1, "x": "1e999"},
        {"n": 1, "x": "nan"},
        {"n": 1, "b": "yes"},
        {"n": 1, "b": 1},
        {"n": 1, "s": 3},
        {"n": 1, "many": 1},
        {"n": 1, "many": "1, 2"},
        {"n": 1, "many": '["1", "x"]'},
        {"n": 1, "small": "6"},
        {"n": 1, "other": 1},
        {},
    ],
)
def test_what_would_lose_or_invent_something_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ToolError):
        fit(given, SCHEMA)


def test_text_stays_text_where_text_is_allowed() -> None:
    arguments = {"n": 1, "s": "3", "either": "7"}
    found = fit(arguments, SCHEMA)
    assert (found.arguments, found.notes) == (arguments, ())


def test_every_violation_is_listed_for_the_model() -> None:
    with pytest.raises(ToolError) as raised:
        fit({"x": "much", "b": "yes", "other": 1, "one": {"x": "far"}}, SCHEMA)
    told = str(raised.value)
    for part in ("'n' is missing", 'x: "much"', 'b: "yes"', "'other'", "one"):
        assert part in told


def test_a_long_value_is_shown_by_its_beginning() -> None:
    with pytest.raises(ToolError) as raised:
        fit({"n": "x" * 100_000}, SCHEMA)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"type": "nonsense"},
        {"$ref": "#"},
        {"properties": {"a": {"$ref": "#/$defs/None"}}},
    ],
)
def test_a_schema_that_cannot_be_used_checks_nothing_and_says_so(schema: dict[str, Any]) -> None:
    found = fit({"a": 1}, schema)
    assert found.arguments == {"a": 1}
    assert found.notes
    assert "not checked" in found.notes[0]


def test_schemas_are_told_apart() -> None:
    assert schema_problem(SCHEMA) == ""
    assert "nonsense" in schema_problem({"type": "nonsense"})


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(list(SCHEMA["properties"])), values))
def test_it_fits_and_stays_or_is_refused(arguments: dict[str, Any]) -> None:
    try:
        found = fit(arguments, SCHEMA)
    except ToolError:
        return
    assert found.arguments.keys() == arguments.keys()
    again = fit(found.arguments, SCHEMA)
    assert (again.arguments, again.notes) == (found.arguments, ())
    changed = [key for key, value in arguments.items() if found.arguments[key] != value]
    assert all(any(note.startswith(key) for note in found.notes) for key in changed)
