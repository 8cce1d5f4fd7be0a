"""Steps of the agents of a run, read from its journal.

Invariant: what is read is what was journaled, event by event and in order, so that a run that goes
on gives the steps that it gave before and then more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from manyhands.agents.context import RECORD
from manyhands.agents.flagging import Policy
from manyhands.agents.request import Attempt
from manyhands.agents.stepcheck.records import Kind, Read, Result, Source, Step
from manyhands.agents.stepcheck.replies import kind_of, step_of
from manyhands.agents.stepcheck.watch import FLAG, RETRIED
from manyhands.agents.workspace.tree import Node, Tree
from manyhands.agents.workspace.workspace import Act
from manyhands.ports import ToolCall
from manyhands.runtime import Event
from manyhands.runtime.events import Type

_TURN = re.compile(r"(?P<agent>.+)/(?P<turn>turn/\d+|final)/(?P<rest>.+)")
_REQUEST = re.compile(r"(?:again-\d+/)?request/\d+")
_TOOL = re.compile(r"tool/(\d+)(/act)?")
_MARKED = re.compile(r"<(data|error) ([0-9a-f]{8})>\n(.*)\n</\1 \2>", re.DOTALL)


def from_journal(events: Iterable[Event], read_blob: Callable[[str], bytes]) -> Read:
    """The steps of every agent. ``read_blob`` gives the content of a blob by its name."""
    reader = _Reader(read_blob)
    for event in events:
        reader.take(event)
    return reader.read()


@dataclass(slots=True)
class _Agent:
    source: Source
    steps: int = 0
    attempt: Attempt | None = None
    at: str = ""
    given: list[str] = field(default_factory=list[str])
    later: list[str] = field(default_factory=list[str])
    results: dict[str, Result] = field(default_factory=dict[str, Result])
    acts: dict[int, Act] = field(default_factory=dict[int, Act])
    values: dict[int, Mapping[str, Any]] = field(default_factory=dict[int, Mapping[str, Any]])
    fault: str = ""
    tree: Tree = Tree()  # noqa: RUF009 - frozen
    changes: bool = False


class _Reader:
    def __init__(self, read_blob: Callable[[str], bytes]) -> None:
        self._read_blob = read_blob
        self._agents: dict[str, _Agent] = {}
        self._steps: list[Step] = []

    def take(self, event: Event) -> None:
        if event.type == Type.STEP_DONE and event.key.endswith("/begin"):
            self._begin(event)
        elif event.type == RECORD:
            agent = self._agents.get(event.data["agent"])
            if agent is not None:
                self._hear(agent, event)
                if not event.data["model"].startswith("person:"):  # it is not the next request
                    self._emit(event.data["agent"], agent)
        elif event.type == "agent:end":
            name = event.key.removesuffix("/end")
            if name in self._agents:
                self._emit(name, self._agents[name])
        elif event.type == FLAG:
            agent = self._agents.get(event.key.rpartition("/turn/")[0])
            if agent is not None and event.data["policy"] == Policy.RETRY:
                agent.later.append(RETRIED)
        else:
            self._turn(event)

    def read(self) -> Read:
        for name, agent in self._agents.items():
            self._emit(name, agent)
        sources = {name: agent.source for name, agent in self._agents.items()}
        return Read(tuple(self._steps), sources, "journal")

    def _value(self, event: Event) -> Any:
        text = event.value
        if text is None and event.ref is not None:
            text = self._read_blob(event.ref).decode()
        return None if text is None else json.loads(text)

    def _begin(self, event: Event) -> None:
        about = self._value(event)
        if isinstance(about, dict) and "role" in about and "completion" in about:
            found = cast(dict[str, Any], about)
            tools: dict[str, dict[str, Any]] = {str(name): {} for name in found["tools"]}
            source = Source(str(found["role"]), tools)
            self._agents[event.key.removesuffix("/begin")] = _Agent(source)

    def _turn(self, event: Event) -> None:
        found = _TURN.fullmatch(event.key)
        agent = self._agents.get(found["agent"]) if found else None
        if found is None or agent is None:
            return
        rest = found["rest"]
        if event.type == Type.STEP_DONE and _REQUEST.fullmatch(rest):
            attempt = Attempt.model_validate(self._value(event))
            if not attempt.error:
                agent.attempt, agent.at = attempt, f"{found['agent']}/{found['turn']}"
        elif event.type == Type.STEP_DONE and (tool := _TOOL.fullmatch(rest)):
            value = self._value(event)
            if tool[2]:
                agent.acts[int(tool[1])] = Act.model_validate(value)
            elif isinstance(value, dict):
                agent.values[int(tool[1])] = cast(dict[str, Any], value)
        elif event.type == "agent:nudge" and rest == "nudge":
            agent.fault = str(event.data["ending"])

    def _hear(self, agent: _Agent, event: Event) -> None:
        """What came into its context since: results of its calls, and all else that it reads."""
        for change in event.data["changes"]:
            if change["status"] != "added" or change["role"] == "assistant":
                continue
            message = json.loads(self._read_blob(change["blob"]))
            content = str(message.get("content") or "")
            if change["role"] == "tool" and not _handed_in(agent.attempt):
                told = _result(str(message["tool_call_id"]), content)
                agent.results[told.id] = told
            else:
                agent.later.append(content)

    def _emit(self, name: str, agent: _Agent) -> None:
        """The step whose reply came last, now that all that came of it is known; what was heard
        just now is given to the step that comes."""
        attempt, agent.attempt = agent.attempt, None
        if attempt is None:
            agent.given += agent.later
            agent.later = []
            return
        results = self._results(agent, attempt.calls)  # before the tree: it is that after them
        self._steps.append(
            step_of(
                attempt,
                agent=name,
                role=agent.source.role,
                index=agent.steps,
                at=agent.at,
                results=results,
                given=agent.given,
                fault=agent.fault,
                tree=agent.tree.hash if agent.changes else "",
            )
        )
        agent.steps += 1
        agent.given, agent.later = agent.later, []
        agent.results, agent.acts, agent.values, agent.fault = {}, {}, {}, ""

    def _results(self, agent: _Agent, calls: tuple[ToolCall, ...]) -> tuple[Result, ...]:
        told = list(agent.results.values())
        found: list[Result] = []
        for at, call in enumerate(calls):
            act, value = agent.acts.get(at), agent.values.get(at)
            if at < len(told):
                result = replace(told[at], id=call.id, name=call.name)
            elif act is not None:
                result = Result(call.name, act.text, act.ok, call.id)
            elif value is not None:
                text, ok = str(value.get("text", "")), bool(value.get("ok", True))
                result = Result(call.name, text, ok, call.id)
            else:
                break
            if act is not None:
                result = replace(result, ok=act.ok, code=act.code, changed=tuple(act.delta))
                self._change(agent, act.delta)
            found.append(result)
        return tuple(found)

    def _change(self, agent: _Agent, delta: Mapping[str, Node | None]) -> None:
        agent.changes = True
        if delta:
            agent.tree = agent.tree.after(delta)


def _handed_in(attempt: Attempt | None) -> bool:
    """Its call is its report: what answers it is no result, but said to the agent."""
    return attempt is not None and bool(attempt.calls) and kind_of(attempt, "") is Kind.REPORT


def _result(id: str, content: str) -> Result:
    """What a tool said stands between marks; what the harness says of a call does not."""
    found = _MARKED.fullmatch(content)
    if found is None:
        return Result("", content, False, id, refused=True)
    return Result("", found[3], found[1] == "data", id)
