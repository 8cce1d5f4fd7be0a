"""A step of an agent in one form, wherever it was written down, and what a check says of it.

Invariant: a record holds what was said and done, and no judgement; a check reads these records and
nothing else, so that our own journal and somebody else's trace are checked alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, cast

Severity = Literal["low", "medium", "high"]

#: Of a quote in a flag's evidence.
MOST_QUOTED = 200
_DEEPEST = 40


class Kind(StrEnum):
    """``model``: on the way. ``report``: what the agent hands in, or says to others, as its end.
    ``tool``: its reply is not in the trace; what its calls came to may be."""

    MODEL = "model"
    REPORT = "report"
    TOOL = "tool"


@dataclass(frozen=True)
class Call:
    """``arguments``: as JSON text, however broken."""

    name: str
    arguments: str = "{}"
    id: str = ""

    @cached_property
    def parsed(self) -> Mapping[str, Any] | None:
        """None: the arguments are no JSON object."""
        try:
            found: object = json.loads(self.arguments) if self.arguments.strip() else {}
        except (ValueError, RecursionError):
            return None
        return cast(dict[str, Any], found) if isinstance(found, dict) else None


@dataclass(frozen=True, slots=True)
class Result:
    """Of one call, in the order of the calls.

    ``ok`` None: the trace does not say. ``refused``: it was not run, its arguments or its name
    were wrong. ``code``: exit status of a command. ``changed``: files that are different since
    (None: the trace does not say).
    """

    name: str
    text: str
    ok: bool | None = None
    id: str = ""
    refused: bool = False
    code: int | None = None
    changed: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Step:
    """One reply of a model and what came of it.

    ``index``: 0, 1, … of this agent. ``at``: where it stands in its source (a key of the journal, a
    position in a list, a span). ``given``: what the agent was shown since its step before, but for
    results of its own calls. ``fault``: what its own runtime found wrong with the reply. ``tokens``
    of the reply, ``seconds`` it took; ``tree``: hash of the workspace after it ('': not known).
    """

    agent: str
    index: int
    text: str = ""
    role: str = ""
    kind: Kind = Kind.MODEL
    at: str = ""
    calls: tuple[Call, ...] = ()
    results: tuple[Result, ...] = ()
    given: tuple[str, ...] = ()
    finish_reason: str = ""
    fault: str = ""
    tokens: int | None = None
    seconds: float | None = None
    tree: str = ""

    @cached_property
    def told(self) -> str:
        """What it says in words: its text and, of a report that is a call, every text in it."""
        if self.kind is not Kind.REPORT:
            return self.text
        parts = [self.text] if not self.text.lstrip().startswith("{") else []
        for value in self.answers:
            parts += [text for _, text in texts(value)]
        return "\n".join(parts) if parts else self.text

    @cached_property
    def answers(self) -> tuple[Mapping[str, Any], ...]:
        """A report's values, where it has a form: arguments of its call, or a JSON text."""
        if self.kind is not Kind.REPORT:
            return ()
        found = [call.parsed for call in self.calls]
        if self.text.lstrip().startswith("{"):
            found.append(Call("", self.text).parsed)
        return tuple(value for value in found if value is not None)


def texts(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every text inside of a JSON value, with the name of the field that it stands in; what is
    nested deeper than any tool's arguments are is left out."""
    if isinstance(value, str):
        yield key, value
    elif depth > _DEEPEST:
        return
    elif isinstance(value, Mapping):
        for name, each in cast(Mapping[str, Any], value).items():
            yield from texts(each, str(name), depth + 1)
    elif isinstance(value, list):
        for each in cast(list[Any], value):
            yield from texts(each, key, depth + 1)


@dataclass(frozen=True, slots=True)
class Evidence:
    """``where``: ``text``, ``call N``, ``result N``, ``finish``, ``step``; of step ``step``."""

    step: int
    where: str
    quote: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"step": self.step, "where": self.where, "quote": self.quote}


@dataclass(frozen=True, slots=True)
class Flag:
    """Step ``index`` of ``agent`` is plausibly broken: no more than that."""

    check: str
    agent: str
    index: int
    reason: str
    evidence: Evidence
    severity: Severity = "medium"
    at: str = ""
    role: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "verdict": "plausibly broken",
            "agent": self.agent,
            "role": self.role,
            "step": self.index,
            "at": self.at,
            "severity": self.severity,
            "reason": self.reason,
            "evidence": self.evidence.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of an agent before its first step.

    ``tools``: name -> JSON schema of the arguments ({}: not known); None: its tools are not known.
    """

    role: str = ""
    tools: Mapping[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """What a reader found: the steps in order of their time, and what is known of the agents."""

    steps: tuple[Step, ...]
    sources: Mapping[str, Source] = field(default_factory=dict[str, Source])
    form: str = ""


def quoted(text: str) -> str:
    """A piece of text for evidence, on one line."""
    line = " ".join(text[: MOST_QUOTED * 2].split())
    return line if len(line) <= MOST_QUOTED else line[: MOST_QUOTED - 1] + "…"
