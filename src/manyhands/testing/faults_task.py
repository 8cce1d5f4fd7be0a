"""The one task of the failure table, and the model that would do it well.

Invariants: the number that is asked for comes from one call of the tool `look` with exactly the
right arguments and from nowhere else, so an answer that holds it proves the call; a call with a
payload that was cut or changed finds another number, and a model that trusts its tools then answers
with that one: nothing that was guessed passes for right.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

KEY = "Grün-7-öst"
FLOOR = 2
#: What there is to find; the others are what a cut key turns into.
KEYS = (KEY, "Grün-7", "Grün")
FLOORS = range(10)

LOOK = "look"
TASK = (
    f"Find the number of the key {KEY} on floor {FLOOR}: call the tool `{LOOK}`. "
    "Then answer with that number."
)
ARGUMENTS: Mapping[str, Any] = {"floor": FLOOR, "key": KEY}

#: The names that harnesses give to the tool that hands an answer in.
TERMINAL = ("answer", "final_answer", "final_result")

_TOLD = re.compile(r"has the number (\d{6})\b")
_ASKED = re.compile(rf"{re.escape(KEY)} on floor {FLOOR} has the number (\d{{6}})\b")


class Lookup:
    """The tool's own side. ``seed``: other numbers for every other seed."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.called: list[tuple[str, int]] = []

    def look(self, key: str, floor: int) -> str:
        """The number of a key on a floor, or that there is none."""
        self.called.append((key, floor))
        if key not in KEYS or floor not in FLOORS:
            return f"there is no key {key!r} on floor {floor}"
        return f"{key} on floor {floor} has the number {self.number(key, floor)}"

    def number(self, key: str, floor: int) -> int:
        mark = hashlib.sha256(f"{self.seed}/{key}/{floor}".encode()).digest()
        return 100_000 + int.from_bytes(mark[:6], "big") % 900_000

    @property
    def secret(self) -> int:
        """What a right answer holds."""
        return self.number(KEY, FLOOR)


def encode(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Talk:
    """A request, as the model that answers it sees it. ``count``: faults before this one."""

    body: Mapping[str, Any]
    count: int = 0

    @property
    def found(self) -> int | None:
        """The number that was asked for, or else the last one that a tool has told."""
        messages: list[dict[str, Any]] = self.body["messages"]
        heard = [m for m in messages if m["role"] not in ("assistant", "system", "developer")]
        text = "\n".join(text_of(message.get("content")) for message in heard)
        told = _ASKED.findall(text) or _TOLD.findall(text)
        return int(told[-1]) if told else None

    @property
    def tools(self) -> dict[str, dict[str, Any]]:
        """Name -> the schema of its arguments."""
        functions: list[dict[str, Any]] = [
            each["function"] for each in self.body.get("tools") or ()
        ]
        return {each["name"]: each.get("parameters") or {} for each in functions}

    @property
    def schema(self) -> dict[str, Any] | None:
        asked: dict[str, Any] = self.body.get("response_format") or {}
        form: dict[str, Any] = asked.get("json_schema") or {}
        return form.get("schema")

    @property
    def forced(self) -> bool:
        """The request leaves nothing but to answer: it forbids the call, or has no room for it."""
        choice = self.body.get("tool_choice")
        if isinstance(choice, dict):
            named = cast(dict[str, Any], choice).get("function", {}).get("name")
            return named in TERMINAL
        offered = LOOK in self.tools or f'"{LOOK}"' in encode(self.schema)
        return choice == "none" or not offered

    def well(self) -> tuple[dict[str, Any], str]:
        """What a good model does now: a message, and the reason of its end."""
        if self.found is not None:
            return self.answer(self.found)
        if LOOK in self.tools and not self.forced:
            return call(LOOK, encode(ARGUMENTS), at=len(self.body["messages"])), "tool_calls"
        if not self.forced:
            return say(encode(fit(self.schema or {}, LOOK, ARGUMENTS))), "stop"
        return say("I have not found the number."), "stop"

    def answer(self, number: Any) -> tuple[dict[str, Any], str]:
        """The final answer in the form that this request asks for."""
        for name, parameters in self.tools.items():
            if name in TERMINAL:
                told = encode(fit(parameters, name, {"number": number}, number))
                return call(name, told, at=len(self.body["messages"])), "tool_calls"
        return say(self.answer_text(number)), "stop"

    def answer_text(self, number: Any) -> str:
        """The final answer as text: JSON where the answer has a type, or else a sentence."""
        for name, parameters in self.tools.items():
            if name in TERMINAL:
                return encode(fit(parameters, name, {"number": number}, number))
        if self.schema is not None:
            return encode(fit(self.schema, TERMINAL[0], {"number": number}, number))
        return f"The number is {number}."


def say(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def call(name: str, arguments: Any, *, at: int = 0) -> dict[str, Any]:
    """A message of one call; its id differs from those of other turns."""
    function = {"name": name, "arguments": arguments}
    made = [{"id": f"call_{at}", "type": "function", "function": function}]
    return {"role": "assistant", "content": None, "tool_calls": made}


def text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = cast(list[Any], content) if isinstance(content, list) else []
    return "\n".join(
        str(cast(dict[str, Any], part).get("text") or "")
        for part in parts
        if isinstance(part, dict)
    )


# -------------------------------------------------------------------- a value for any schema


def fit(
    schema: Mapping[str, Any], name: str, values: Mapping[str, Any], other: Any = ""
) -> dict[str, Any]:
    """An object that fits ``schema`` and means ``name(**values)``.

    Of alternatives, the one that names ``name`` is taken; ``other`` fills what has no value.
    """
    return cast(dict[str, Any], _Fit(schema, name, values, other).value(schema, ""))


@dataclass(frozen=True, slots=True)
class _Fit:
    root: Mapping[str, Any]
    name: str
    values: Mapping[str, Any]
    other: Any

    def value(self, schema: Mapping[str, Any], field: str) -> Any:
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if field in self.values:
            return self.values[field]
        if "enum" in schema:
            return self.name if self.name in schema["enum"] else schema["enum"][0]
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self.value(self._branch(schema[key]), field)
        if schema.get("properties"):
            return {key: self.value(each, key) for key, each in schema["properties"].items()}
        if schema.get("type") == "array":
            return [self.value(schema.get("items") or {}, field)]
        return self.other if schema.get("type") in ("integer", "number") else str(self.other)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        found: Any = schema
        while "$ref" in found:
            path = found["$ref"].removeprefix("#/").split("/")
            found = self.root
            for part in path:
                found = found[part]
        return found

    def _branch(self, branches: list[Mapping[str, Any]]) -> Mapping[str, Any]:
        resolved = [self._resolved(each) for each in branches]
        named = (each for each in resolved if f'"{self.name}"' in json.dumps(each))
        return next(named, resolved[0])
