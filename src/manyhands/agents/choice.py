"""Tool calls as an answer to a schema: for endpoints whose tool calls fail again and again.

A JSON schema for the whole reply is what good servers enforce token by token, where
``tool_choice: required`` often is not. Invariant: the schema admits exactly one object, which names
one of the tools and holds arguments that fit it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from manyhands.agents.encoding import encode, loads
from manyhands.errors import ToolError
from manyhands.ports import ToolCall


@dataclass(frozen=True)
class Choice:
    """One call of one of ``tools`` (name -> JSON schema of its arguments), written as JSON."""

    tools: Mapping[str, Mapping[str, Any]]

    @cached_property
    def schema(self) -> bytes:
        shared: dict[str, Any] = {}
        options = [_option(name, schema, shared) for name, schema in self.tools.items()]
        return encode({"anyOf": options, **({"$defs": shared} if shared else {})})

    @property
    def instructions(self) -> str:
        lines = [f"- {name}: {encode(schema).decode()}" for name, schema in self.tools.items()]
        return (
            "From now on, make your calls like this. Answer with one JSON object and nothing else: "
            '{"tool": NAME, "arguments": {…}}. The tools, and the schema of their arguments:\n'
            + "\n".join(lines)
        )

    def read(self, text: str) -> ToolCall | None:
        """The call in a reply; None: there is no such object. Raises `ToolError` for a bad one."""
        body = text.strip()
        if not body.startswith("{"):
            return None
        try:
            found = loads(body)
        except ValueError as error:
            raise ToolError(
                f"the reply is not valid JSON: {error}", next="send one JSON object"
            ) from error
        told = cast(dict[str, Any], found)
        name, arguments = told.get("tool"), told.get("arguments", {})
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None
        return ToolCall("", name, encode(arguments).decode())


def _option(name: str, schema: Mapping[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """A schema's own definitions move to the root, where its references can find them."""
    moved = cast(dict[str, Any], _moved(dict(schema), name))
    for key, value in moved.pop("$defs", {}).items():
        shared[f"{name}.{key}"] = value
    return {
        "type": "object",
        "properties": {"tool": {"const": name}, "arguments": moved},
        "required": ["tool", "arguments"],
        "additionalProperties": False,
    }


def _moved(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        found = cast(dict[str, Any], value)
        return {
            key: f"#/$defs/{name}.{each.removeprefix('#/$defs/')}"
            if key == "$ref" and isinstance(each, str) and each.startswith("#/$defs/")
            else _moved(each, name)
            for key, each in found.items()
        }
    if isinstance(value, list):
        return [_moved(each, name) for each in cast(list[Any], value)]
    return value
