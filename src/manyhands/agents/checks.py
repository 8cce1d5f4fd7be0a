"""Reading a reply: an answer, calls to run, or something wrong that has a name.

Invariant: only what validates as the role's output type is an answer. Prose that announces a call,
an empty reply and a reply that was cut are faults, whatever the server calls them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from manyhands.agents.encoding import encode, loads, loads_object, schema_of
from manyhands.agents.report import Ending
from manyhands.agents.tools import Toolbox, encode_tool, explain
from manyhands.errors import MalformedAnswer, ToolError
from manyhands.ports import ToolCall

T = TypeVar("T", bound=BaseModel)

#: The terminal tool of a role with a typed output.
ANSWER = "answer"

_FENCE = re.compile(r"^```[\w-]*[ \t]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Output(Generic[T]):
    """What a role must answer with, as a type, as a schema and as the tool ``answer``."""

    type: type[T]

    @cached_property
    def schema(self) -> bytes:
        return encode(schema_of(self.type))

    @cached_property
    def tool(self) -> bytes:
        return encode_tool(
            ANSWER,
            "Hand in your final answer. Call this once, alone, when the work is done.",
            schema_of(self.type),
        )

    def instructions(self, *, as_tool: bool) -> str:
        if as_tool:
            return f"When the work is done, hand in your answer by calling the tool `{ANSWER}`."
        return (
            "Answer with one JSON object and nothing else. It must fit this JSON schema:\n"
            + self.schema.decode()
        )

    def from_arguments(self, arguments: str) -> T:
        """Raises `MalformedAnswer`, written for the model."""
        try:
            return self._validated(loads_object(arguments))
        except ToolError as error:
            raise MalformedAnswer(error.what) from error

    def from_text(self, text: str) -> T | None:
        """The answer in a reply's text: the whole of it, or its one fenced block, as JSON.

        None: there is no JSON object there. Raises `MalformedAnswer` for one that does not fit.
        """
        body = text.strip()
        fenced = _FENCE.findall(body)
        if not body.startswith("{") and len(fenced) == 1:
            body = fenced[0].strip()
        if not body.startswith("{"):
            return None
        try:
            found = loads(body)
        except ValueError as error:
            raise MalformedAnswer(f"the answer is not valid JSON: {error}") from error
        return self._validated(found)

    @property
    def _extra(self) -> Literal["forbid"] | None:
        """Unknown fields are refused, not dropped, unless the type asks for them."""
        return None if self.type.model_config.get("extra") == "allow" else "forbid"

    def _validated(self, found: Any) -> T:
        try:
            return self.type.model_validate(found, extra=self._extra)
        except ValidationError as error:
            raise MalformedAnswer(
                f"the answer does not fit the schema:\n{explain(error)}"
            ) from error


@dataclass(frozen=True, slots=True)
class Answered:
    """``value``: of the output's type; for a role that answers in plain text, the text."""

    value: BaseModel | str
    text: str


@dataclass(frozen=True, slots=True)
class Called:
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Faulty:
    """``message`` is what the model is told about it."""

    ending: Ending
    message: str


def read(
    text: str,
    calls: tuple[ToolCall, ...],
    finish_reason: str,
    output: Output[Any] | None,
    toolbox: Toolbox,
) -> Answered | Called | Faulty:
    """What a reply is. An ``answer`` beside other calls counts as one of the calls."""
    if finish_reason == "content_filter":
        return Faulty(Ending.FILTERED, "the server's content filter held the reply back")
    if len(calls) == 1 and calls[0].name == ANSWER and output is not None:
        found = _answer(lambda: output.from_arguments(calls[0].arguments), text)
        assert found is not None
        return found
    if calls:
        return Called(calls)
    if not text.strip():
        return Faulty(Ending.EMPTY, f"Your reply was empty. {_wanted(output, toolbox)}")
    if output is not None:
        found = _answer(lambda: output.from_text(text), text)
        if isinstance(found, Answered) or (found is not None and finish_reason != "length"):
            return found
    if finish_reason == "length":
        return Faulty(
            Ending.CUT, f"Your reply was cut: it was too long. Be brief. {_wanted(output, toolbox)}"
        )
    if output is None:
        return Answered(text, text)
    missing = f"Your reply held neither a call nor an answer. {_wanted(output, toolbox)}"
    return Faulty(Ending.UNANSWERED, missing)


def _answer(parse: Callable[[], BaseModel | None], text: str) -> Answered | Faulty | None:
    try:
        value = parse()
        return None if value is None else Answered(value, text)
    except MalformedAnswer as error:
        return Faulty(Ending.MALFORMED, f"Your answer was not accepted: {error.what}")


def _wanted(output: Output[Any] | None, toolbox: Toolbox) -> str:
    ways: list[str] = []
    if len(toolbox):
        ways.append(f"call one of the tools ({', '.join(toolbox.tools)})")
    if output is not None:
        ways.append(
            f"hand in your answer with the tool `{ANSWER}`"
            if len(toolbox)
            else "give your answer as one JSON object that fits the schema"
        )
    else:
        ways.append("give your answer as text")
    return f"Either {', or '.join(ways)}." if len(ways) > 1 else f"Now {ways[0]}."


class Repetition:
    """Notices a turn whose calls and results are those of the turn before, again and again."""

    def __init__(self) -> None:
        self._last = ""
        self.times = 0

    def seen(self, calls: tuple[ToolCall, ...], results: list[str]) -> int:
        """How many turns in a row have been the same, this one included."""
        told = encode([[c.name, c.arguments, r] for c, r in zip(calls, results, strict=True)])
        mark = hashlib.sha256(told).hexdigest()
        self.times = self.times + 1 if mark == self._last else 1
        self._last = mark
        return self.times
