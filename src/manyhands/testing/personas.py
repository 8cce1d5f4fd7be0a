"""Stubborn models, simulated: each has a habit that keeps it from doing its work, and a seed.

Invariants: what a persona says depends on the conversation and its seed alone; it hands in a right
answer only when its errand's tool has told it every part; being told off changes nothing about its
habits, but that it leaves a loop more easily. So an errand that cannot be done is never done, and
one that can is done by whoever keeps the persona at work. No real model was asked: the
probabilities are assumptions, stated in `PERSONAS`, and are per turn.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

from pydantic import BaseModel, Field, create_model

from manyhands.agents.tools import Tool, tool
from manyhands.ports import ModelReply, ModelRequest, Price, ToolCall, Usage
from manyhands.runtime import Effect

ANSWER = "answer"
FETCH = "fetch"

#: That a loop goes on for one more turn, and the same after a message in between.
STAY = 0.6
STAY_WHEN_TOLD = 0.3

_TOLD = re.compile(r"part (\d+) of \d+ is (\d+)")
_WRITTEN = re.compile(r'"arguments":\{"part":(\d+)\}')
_NOT_FOUND = "not found: "


class Habit(StrEnum):
    QUITS = "stops early, with prose"
    MUTE = "answers nothing"
    ASKS = "asks in place of acting"
    PROMISES = "promises a call and makes none"
    LOOPS = "makes its last call again"
    ALTERNATES = "goes back and forth between two calls"
    SLOPPY = "hands in an answer that does not fit"
    WRITES = "writes its call as text"


@dataclass(frozen=True, slots=True)
class Persona:
    """``habits``: each with the probability that a turn is lost to it."""

    name: str
    habits: Mapping[Habit, float]

    def draws(self, lot: float) -> Habit | None:
        """The habit that a number from 0 to 1 stands for; None: it does its work."""
        for habit, share in self.habits.items():
            lot -= share
            if lot < 0:
                return habit
        return None


PERSONAS: tuple[Persona, ...] = (
    Persona("diligent", {}),
    Persona("quitter", {Habit.QUITS: 0.30}),
    Persona("mute", {Habit.MUTE: 0.25}),
    Persona("asker", {Habit.ASKS: 0.30}),
    Persona("promiser", {Habit.PROMISES: 0.30}),
    Persona("looper", {Habit.LOOPS: 0.25}),
    Persona("swinger", {Habit.ALTERNATES: 0.25}),
    Persona("sloppy", {Habit.SLOPPY: 0.15}),
    Persona("scribe", {Habit.WRITES: 0.35}),
    Persona(
        "all of it",
        {
            Habit.QUITS: 0.05,
            Habit.MUTE: 0.05,
            Habit.ASKS: 0.03,
            Habit.PROMISES: 0.05,
            Habit.LOOPS: 0.05,
            Habit.ALTERNATES: 0.05,
            Habit.SLOPPY: 0.02,
            Habit.WRITES: 0.05,
        },
    ),
)


# -------------------------------------------------------------------- the errand


@dataclass(frozen=True)
class Errand:
    """Fetch ``parts`` numbers, one call each, and hand them in together.

    ``feasible`` False: the tool finds none of them, ever.
    """

    number: int
    parts: int = 3
    feasible: bool = True

    @property
    def text(self) -> str:
        return (
            f"Errand {self.number}: fetch the parts 1 to {self.parts} with the tool `{FETCH}`, "
            "then hand in all of their numbers, in order."
        )

    @property
    def numbers(self) -> list[int]:
        """The right answer."""
        return [self._number(part) for part in range(1, self.parts + 1)]

    def _number(self, part: int) -> int:
        return 1000 + _lot(f"{self.number}/{part}") % 9000

    @cached_property
    def output(self) -> type[BaseModel]:
        """The answer's type: as many numbers as there are parts, no fewer and no more."""
        count = self.parts
        numbers = (list[int], Field(min_length=count, max_length=count))
        return create_model(f"Parts{count}", numbers=numbers)

    @cached_property
    def tool(self) -> Tool:
        @tool(effect=Effect.PURE, name=FETCH)
        async def fetch(part: int) -> str:
            """Fetch one part.

            Args:
                part: which part, from 1
            """
            if not self.feasible or not 1 <= part <= self.parts:
                return f"{_NOT_FOUND}there is no part {part}"
            return f"part {part} of {self.parts} is {self._number(part)}"

        return fetch


# -------------------------------------------------------------------- the model


@dataclass
class StubbornModel:
    """``persona`` at work on ``errand``, as a `Model`. ``requests`` counts what it was asked."""

    persona: Persona
    errand: Errand
    seed: int = 0
    name: str = "simulated"
    price: Price | None = field(default_factory=lambda: Price(0.0, 0.0))
    context_length: int | None = None
    requests: int = 0
    lost: int = 0

    async def request(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        self.requests += 1
        said = _in_form(request, self._say(_Heard.of(request)))
        if on_text is not None and said.text:
            on_text(said.text)
        calls = tuple(
            ToolCall(f"call-{self.requests}", name, _json(arguments))
            for name, arguments in said.calls
        )
        size = sum(map(len, request.messages)) // 4
        return ModelReply(
            text=said.text,
            tool_calls=calls,
            finish_reason="tool_calls" if calls else "stop",
            usage=Usage(size, 32),
            raw=b"",
            seconds=0.0,
        )

    async def close(self) -> None: ...

    def _say(self, heard: _Heard) -> _Said:
        draw = random.Random(
            _lot(f"{self.seed}/{self.persona.name}/{self.errand.number}/{heard.length}")
        )
        good = self._good(heard)
        if heard.loop is not None:
            stays = draw.random() < (STAY_WHEN_TOLD if heard.told_off else STAY)
            self.lost += stays
            return _fetch(heard.loop) if stays else good
        habit = self.persona.draws(draw.random())
        bad = None if habit is None else _MISDEEDS[habit](heard, good)
        self.lost += bad is not None
        return bad or good

    def _good(self, heard: _Heard) -> _Said:
        """The next step of the work: the next part that is missing, or the answer."""
        parts = range(1, self.errand.parts + 1)
        missing = [part for part in parts if part not in heard.known]
        last = heard.fetched[-1] if heard.fetched else 0
        if missing:
            return _fetch(min((part for part in missing if part > last), default=missing[0]))
        numbers = [heard.known[part] for part in parts]
        return _Said(calls=((ANSWER, {"numbers": numbers}),))


@dataclass(frozen=True, slots=True)
class _Said:
    text: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()


def _in_form(request: ModelRequest, said: _Said) -> _Said:
    """A call as the request allows it: without tools, as the JSON that its schema asks for."""
    if request.tools or not said.calls:
        return said
    name, arguments = said.calls[0]
    if b'"tool":{"const":' in (request.response_schema or b""):
        return _Said(_json({"tool": name, "arguments": arguments}))
    return _Said(_json(arguments) if name == ANSWER else "I do not have all of the parts.")


@dataclass(frozen=True, slots=True)
class _Note:
    """One message: the parts and numbers that it tells, the parts that it asks for, and whether it
    is a word to the model rather than a result."""

    role: str
    told: tuple[tuple[int, int], ...]
    fetched: tuple[int, ...]
    told_off: bool


@lru_cache(maxsize=8192)
def _read(message: bytes) -> _Note:
    found: dict[str, Any] = json.loads(message)
    role, content = found["role"], str(found.get("content"))
    calls: list[dict[str, Any]] = [each["function"] for each in found.get("tool_calls") or ()]
    fetched = [_part(json.loads(each["arguments"])) for each in calls if each["name"] == FETCH]
    if role == "assistant":
        fetched += [int(part) for part in _WRITTEN.findall(content)]
    told = _TOLD.findall(content) if role != "assistant" else []
    return _Note(
        role,
        tuple((int(part), int(number)) for part, number in told),
        tuple(fetched),
        role == "user" and not told and _NOT_FOUND not in content,
    )


@dataclass(frozen=True, slots=True)
class _Heard:
    """A conversation as a persona sees it. ``fetched``: the parts that it has asked for."""

    length: int
    turns: int
    known: Mapping[int, int]
    fetched: Sequence[int]
    told_off: bool

    @classmethod
    def of(cls, request: ModelRequest) -> _Heard:
        notes = [_read(message) for message in request.messages]
        known = {part: number for note in notes for part, number in note.told}
        fetched = [part for note in notes for part in note.fetched]
        turns = sum(note.role == "assistant" for note in notes)
        return cls(len(notes), turns, known, fetched, notes[-1].told_off)

    @property
    def loop(self) -> int | None:
        """The part that a loop goes on with: of equal calls, or of two in turn."""
        last = self.fetched[-4:]
        if len(last) >= 2 and last[-1] == last[-2]:
            return last[-1]
        if len(last) == 4 and last[:2] == last[2:]:
            return last[0]
        return None


def _quit(heard: _Heard, _: _Said) -> _Said:
    return _Said(f"I have fetched {len(heard.known)} parts. The rest goes the same way. Done!")


def _mute(_: _Heard, __: _Said) -> _Said:
    return _Said()


def _ask(_: _Heard, __: _Said) -> _Said:
    return _Said("Before I go on: shall I really fetch all of the parts?")


def _promise(_: _Heard, __: _Said) -> _Said:
    return _Said(f"I will now call the tool `{FETCH}` for the next part.")


def _loop(heard: _Heard, _: _Said) -> _Said | None:
    return _fetch(heard.fetched[-1]) if heard.fetched else None


def _alternate(heard: _Heard, _: _Said) -> _Said | None:
    return _fetch(heard.fetched[-2]) if len(heard.fetched) >= 2 else None


def _slip(heard: _Heard, _: _Said) -> _Said:
    numbers: list[Any] = list(heard.known.values())
    wrong: list[Any] = numbers[:-1] if heard.turns % 2 else [*numbers[:-1], "the last one"]
    return _Said(calls=((ANSWER, {"numbers": wrong}),))


def _write(_: _Heard, good: _Said) -> _Said:
    name, arguments = good.calls[0]
    told = _json({"name": name, "arguments": arguments})
    return _Said(f"<tool_call>\n{told}\n</tool_call>")


#: Habit -> what it makes of a turn; None: there is nothing to do it with yet.
_MISDEEDS: Mapping[Habit, Callable[[_Heard, _Said], _Said | None]] = {
    Habit.QUITS: _quit,
    Habit.MUTE: _mute,
    Habit.ASKS: _ask,
    Habit.PROMISES: _promise,
    Habit.LOOPS: _loop,
    Habit.ALTERNATES: _alternate,
    Habit.SLOPPY: _slip,
    Habit.WRITES: _write,
}


def _fetch(part: int) -> _Said:
    return _Said(calls=((FETCH, {"part": part}),))


def _part(arguments: Mapping[str, Any]) -> int:
    found = arguments.get("part")
    return found if isinstance(found, int) else 0


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _lot(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
