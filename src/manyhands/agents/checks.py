"""Reading a reply: an answer, calls to run, or something wrong that has a name.

Invariant: only what validates as the role's output type is an answer. Prose that announces a call,
an empty reply and a reply that was cut are faults, whatever the server calls them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from manyhands.agents.contract import stopped_by
from manyhands.agents.encoding import encode, loads, loads_object, schema_of
from manyhands.agents.report import Ending
from manyhands.agents.tools import Toolbox, encode_tool, explain
from manyhands.errors import MalformedAnswer, ToolError
from manyhands.ports import ToolCall

T = TypeVar("T", bound=BaseModel)

#: The terminal tool of a role with a typed output, and that of one which answers in plain text.
ANSWER = "answer"
FINISH = "finish"

_FENCE = re.compile(r"^```[\w-]*[ \t]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)


class Finished(BaseModel):
    """What a role that answers in plain text hands in with ``finish``."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1)


@dataclass(frozen=True)
class Output(Generic[T]):
    """What a role must answer with, as a type, as a schema and as the terminal tool ``name``."""

    type: type[T]
    name: str = ANSWER

    @cached_property
    def parameters(self) -> dict[str, Any]:
        return schema_of(self.type)

    @cached_property
    def schema(self) -> bytes:
        return encode(self.parameters)

    @cached_property
    def tool(self) -> bytes:
        return encode_tool(
            self.name,
            "Hand in your final answer. Call this once, alone, when the work is done.",
            self.parameters,
        )

    def instructions(self, *, as_tool: bool) -> str:
        if as_tool:
            return f"When the work is done, hand in your answer by calling the tool `{self.name}`."
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
    errors: tuple[str, ...] = (),
) -> Answered | Called | Faulty:
    """What a reply is. An ``answer`` beside other calls counts as one of the calls.

    ``errors``: of calls in the text that could not be read.
    """
    if finish_reason == "content_filter":
        return Faulty(Ending.FILTERED, "the server's content filter held the reply back")
    if len(calls) == 1 and output is not None and calls[0].name == output.name:
        found = _answer(lambda: output.from_arguments(calls[0].arguments), text)
        assert found is not None
        return found
    if calls:
        return Called(calls)
    if errors:
        told = "Your call could not be read, and was not run:\n- " + "\n- ".join(errors)
        return Faulty(Ending.CUT if finish_reason == "length" else Ending.BAD_CALL, told)
    if not text.strip() and finish_reason == "length":
        told = "Your reply was cut before it said anything: think less at once."
        return Faulty(Ending.CUT, f"{told} {_wanted(output, toolbox)}")
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
    ending = stopped_by(text)
    return Faulty(ending, f"{_STOPPED[ending]} {_wanted(output, toolbox)}")


_STOPPED = {
    Ending.REFUSED: "This is your task, and within the rules; if a part of it cannot be done, say "
    "so in your answer.",
    Ending.QUESTION: "Nobody is there to answer: decide yourself, and state what you assumed.",
    Ending.UNANSWERED: "Your reply held neither a call nor an answer: announcing a call does not "
    "make it.",
}


def _answer(parse: Callable[[], BaseModel | None], text: str) -> Answered | Faulty | None:
    try:
        value = parse()
        return None if value is None else Answered(value, text)
    except MalformedAnswer as error:
        return Faulty(Ending.MALFORMED, f"Your answer was not accepted: {error.what}")


def missing_tools(names: Sequence[str]) -> Faulty | None:
    """An answer that came before the tools that its role requires; None: none is missing."""
    if not names:
        return None
    told = ", ".join(f"`{name}`" for name in names)
    return Faulty(
        Ending.UNANSWERED,
        f"Your answer came too early and was not accepted: first use {told}, with success.",
    )


def _wanted(output: Output[Any] | None, toolbox: Toolbox) -> str:
    ways: list[str] = []
    if len(toolbox):
        ways.append(f"call one of the tools ({', '.join(toolbox.tools)})")
    if output is not None:
        ways.append(
            f"hand in your answer with the tool `{output.name}`"
            if len(toolbox)
            else "give your answer as one JSON object that fits the schema"
        )
    else:
        ways.append("give your answer as text")
    return f"Either {', or '.join(ways)}." if len(ways) > 1 else f"Now {ways[0]}."
