"""Steps from conversations in JSON: messages of the OpenAI chat API, and plain lists of turns.

Invariant: nothing is guessed about a field that is there and has another form: it is an error that
names its position. ``at`` of a step is the position of its turn in the list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from manyhands.agents.stepcheck.records import Call, Kind, Read, Result, Source, Step
from manyhands.errors import ConfigError

SHAPES = (
    "give a JSON list of {role or agent, content} turns, OpenAI messages (bare, or with `messages` "
    "and `tools`), or OTLP JSON"
)
_SYSTEM = frozenset({"system", "developer"})
_USER = frozenset({"user", "human", "task"})
_TOOLISH = re.compile(r"tool|function|environment|observation|terminal|executor|computer", re.I)
_FINAL = frozenset({"answer", "finish", "final_answer", "submit", "done", "complete_task"})


def from_messages(
    messages: Sequence[Any], tools: Any = None, *, agent: str = "assistant", where: str = "messages"
) -> Read:
    """OpenAI chat messages; ``tools``: as in a request. Raises `ConfigError` with the position."""
    talk = _Talk(where)
    for at, message in enumerate(messages):
        talk.message(at, talk.object(at, message), agent)
    known = _schemas(cast(list[Any], tools)) if isinstance(tools, list) else None
    sources = {name: Source(name, known) for name in talk.agents}
    return Read(talk.steps(), sources, "messages")


def from_turns(turns: Sequence[Any], *, where: str = "turns") -> Read:
    """A list of ``{role | agent, content, …}``, of any number of agents that hear each other."""
    talk = _Talk(where)
    for at, turn in enumerate(turns):
        found = talk.object(at, turn)
        role = talk.text(at, found, "role")
        name = talk.text(at, found, "agent") or talk.text(at, found, "name") or role
        if not name:
            raise talk.error(at, "has none of role, agent and name")
        content = content_of(found.get("content"))
        speaks = (role or name).lower()
        if speaks in _SYSTEM | _USER and not found.get("agent"):
            talk.give("", content)
        elif _TOOLISH.search(speaks) and "tool_calls" not in found:
            talk.result(Result(name, content, _ok(found)))
        else:
            talk.say(name, at, content, calls_of(talk, at, found), found)
            talk.give(name, content)
    return Read(talk.steps(), {name: Source(name) for name in talk.agents}, "turns")


@dataclass(slots=True)
class _Draft:
    agent: str
    at: int
    text: str
    calls: tuple[Call, ...]
    given: tuple[str, ...]
    finish_reason: str
    tokens: int | None
    seconds: float | None
    results: list[Result] = field(default_factory=list[Result])


class _Talk:
    """Turns as they come, made into steps: a result belongs to the reply before it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._drafts: list[_Draft] = []
        self._given: dict[str, list[str]] = {}
        self._all: list[str] = []

    @property
    def agents(self) -> Iterable[str]:
        """In the order in which they first spoke."""
        return self._given.keys()

    def error(self, at: int, what: str) -> ConfigError:
        return ConfigError(f"{self._where}: turn {at} {what}", next=SHAPES)

    def object(self, at: int, turn: Any) -> dict[str, Any]:
        if not isinstance(turn, dict):
            raise self.error(at, f"is a {type(turn).__name__}, not an object: {str(turn)[:80]!r}")
        return cast(dict[str, Any], turn)

    def text(self, at: int, turn: Mapping[str, Any], key: str) -> str:
        value = turn.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(at, f"has {key} = {str(value)[:80]!r}, which is no text")
        return value or ""

    def message(self, at: int, message: dict[str, Any], agent: str) -> None:
        role = self.text(at, message, "role")
        content = content_of(message.get("content"))
        if role == "assistant":
            name = self.text(at, message, "name") or agent
            self.say(name, at, content, calls_of(self, at, message), message)
        elif role in ("tool", "function"):
            id = str(message.get("tool_call_id") or "")
            self.result(Result(str(message.get("name") or ""), content, _ok(message), id))
        elif role in _SYSTEM | _USER:
            self.give("", content)
        else:
            raise self.error(at, f"has role = {role!r}")

    def give(self, by: str, text: str) -> None:
        """Everybody but ``by`` hears it."""
        self._all.append(text)
        for name, given in self._given.items():
            if name != by:
                given.append(text)

    def say(
        self, agent: str, at: int, text: str, calls: tuple[Call, ...], turn: Mapping[str, Any]
    ) -> None:
        given = self._given.setdefault(agent, list(self._all))
        tokens = turn.get("tokens", _object(turn.get("usage")).get("completion_tokens"))
        seconds = turn.get("seconds", turn.get("duration"))
        self._drafts.append(
            _Draft(
                agent,
                at,
                text,
                calls,
                tuple(given),
                str(turn.get("finish_reason") or ""),
                tokens if isinstance(tokens, int) else None,
                float(seconds) if isinstance(seconds, int | float) else None,
            )
        )
        given.clear()

    def result(self, result: Result) -> None:
        if not self._drafts:
            self.give("", result.text)
            return
        draft = self._drafts[-1]
        draft.results.append(result)
        for name, given in self._given.items():
            if name != draft.agent:
                given.append(result.text)

    def steps(self) -> tuple[Step, ...]:
        found: list[Step] = []
        counts: dict[str, int] = {}
        shown = False
        for draft in self._drafts:
            index = counts[draft.agent] = counts.get(draft.agent, -1) + 1
            shown = shown or bool(draft.results or draft.calls)
            found.append(_step(draft, index, shown=shown))
        return tuple(found)


def _step(draft: _Draft, index: int, *, shown: bool) -> Step:
    """A reply without calls, after something was done, is taken for a report."""
    calls = draft.calls
    final = len(calls) == 1 and calls[0].name in _FINAL and not draft.results
    silent = not calls and not draft.results and shown and bool(draft.text.strip())
    names = {call.id: call.name for call in calls}
    results = [
        replace(r, name=names.get(r.id) or r.name or (calls[i].name if i < len(calls) else ""))
        for i, r in enumerate(draft.results)
    ]
    return Step(
        agent=draft.agent,
        role=draft.agent,
        index=index,
        text=draft.text,
        kind=Kind.REPORT if final or silent else Kind.MODEL,
        at=str(draft.at),
        calls=calls,
        results=tuple(results),
        given=draft.given,
        finish_reason=draft.finish_reason,
        tokens=draft.tokens,
        seconds=draft.seconds,
    )


def _ok(turn: Mapping[str, Any]) -> bool | None:
    """What a turn says of itself: ``ok``, ``is_error``, ``error``, or nothing."""
    if isinstance(turn.get("ok"), bool):
        return bool(turn["ok"])
    if isinstance(turn.get("is_error"), bool):
        return not turn["is_error"]
    return False if turn.get("error") else None


def content_of(content: Any) -> str:
    """A message's text: as it is, of its parts, or as JSON."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = cast(list[Any], content)
        return "\n".join(
            str(cast(Any, p).get("text", cast(Any, p).get("content", "")))
            if isinstance(p, dict)
            else str(p)
            for p in parts
        )
    return json.dumps(content, ensure_ascii=False)


def calls_of(talk: _Talk, at: int, turn: Mapping[str, Any]) -> tuple[Call, ...]:
    """Calls in the form of the chat API, flat ones, and the older ``function_call``."""
    listed: Any = turn.get("tool_calls") or turn.get("calls") or []
    if turn.get("function_call"):
        listed = [turn["function_call"]]
    if not isinstance(listed, list):
        raise talk.error(at, f"has tool_calls that are a {type(listed).__name__}, not a list")
    found: list[Call] = []
    for each in cast(list[Any], listed):
        call = _object(each)
        inner = _object(call.get("function", call))
        name = inner.get("name")
        if not isinstance(name, str):
            raise talk.error(at, f"has a call without a name: {str(call or each)[:80]!r}")
        given = inner.get("arguments", inner.get("args", {}))
        arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        found.append(Call(name, arguments, str(call.get("id") or "")))
    return tuple(found)


def _schemas(tools: list[Any]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        inner = _object(_object(tool).get("function", tool))
        if isinstance(inner.get("name"), str):
            found[inner["name"]] = _object(inner.get("parameters", inner.get("input_schema")))
    return found


def _object(value: Any) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
