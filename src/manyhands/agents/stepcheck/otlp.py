"""Steps from traces in OTLP JSON, by the semantic conventions for generative AI.

Read are spans of ``gen_ai.operation.name`` chat, text_completion and generate_content (a step
each), execute_tool (results) and invoke_agent (which agent's they are); messages as
``gen_ai.input.messages`` and ``gen_ai.output.messages``, as events of the older conventions
(``gen_ai.choice``, ``gen_ai.*.message``), and as OpenLLMetry's ``gen_ai.completion.N.…``. What
the journal knew of a reply is read of our own exports: ``manyhands.kind``, ``manyhands.fault``.

Invariant: an agent's steps are in the order in which its spans began; a trace that was exported
without its messages still gives its tokens, its times and its errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from manyhands.agents.stepcheck.chat import content_of
from manyhands.agents.stepcheck.records import Call, Kind, Read, Result, Source, Step
from manyhands.agents.stepcheck.spans import NEXT, Span, spans_of
from manyhands.errors import ConfigError

_MODEL = frozenset({"chat", "text_completion", "generate_content"})
#: Where a reply stands; a mark of one whose messages were not exported.
_SAID, _UNREAD = "gen_ai.output.messages", "unread"


@dataclass(slots=True)
class _Reply:
    text: str = ""
    calls: list[Call] = field(default_factory=list[Call])
    finish: str = ""


def from_otlp(document: Any, *, where: str = "otlp") -> Read:
    """Raises `ConfigError` where it is no such trace, or holds no step of a model."""
    spans = sorted(spans_of(document, where), key=lambda span: span.start)
    known = {span.id: span for span in spans}
    steps: list[Step] = []
    last: dict[str, int] = {}
    counts: dict[str, int] = {}
    roles: dict[str, str] = {}
    for span in spans:
        agent, role = _agent(span, known)
        if span.operation in _MODEL and span.facts.get("manyhands.kind") != "none":
            given, results = _heard(span)
            _attach(steps, last.get(agent), results)
            index = counts[agent] = counts.get(agent, -1) + 1
            last[agent] = len(steps)
            roles[agent] = role
            steps.append(_step(span, agent, role, index, given))
        elif span.operation == "execute_tool":
            _attach(steps, last.get(agent), [_result(span)], first=True)
    if not steps:
        raise ConfigError(
            f"{where}: {len(spans)} spans, and none with gen_ai.operation.name = chat", next=NEXT
        )
    return Read(tuple(map(_ended, steps)), {a: Source(role) for a, role in roles.items()}, "otlp")


def _agent(span: Span, known: Mapping[str, Span]) -> tuple[str, str]:
    """The agent that it, or the nearest span around it, names, and its role. Two agents of one
    name are two where they have ids."""
    at: Span | None = span
    for _ in range(64):
        if at is None:
            break
        name, id = at.facts.get("gen_ai.agent.name"), at.facts.get("gen_ai.agent.id")
        if name or id:
            return str(id or name), str(name or id)
        if at.operation == "invoke_agent" and at.name.startswith("invoke_agent "):
            name = at.name.removeprefix("invoke_agent ")
            return name, name
        at = known.get(at.parent)
    return span.service, span.service


# -------------------------------------------------------------------- messages


def _messages(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    if not isinstance(value, list):
        return []
    return [cast(dict[str, Any], m) for m in cast(list[Any], value) if isinstance(m, dict)]


def _heard(span: Span) -> tuple[list[str], list[Result]]:
    """What is new in its input: all after the last reply in it."""
    messages = _messages(span.facts.get("gen_ai.input.messages"))
    system: Any = span.facts.get("gen_ai.system_instructions")
    if not messages:
        return _heard_events(span)
    said = [i for i, m in enumerate(messages) if m.get("role") == "assistant"]
    given = [content_of(_messages(system) or system)] if system and not said else []
    results: list[Result] = []
    for message in messages[said[-1] + 1 if said else 0 :]:
        for part in _parts(message):
            if part.get("type") == "tool_call_response":
                told = part.get("response", part.get("result"))
                results.append(Result("", content_of(told), None, str(part.get("id") or "")))
            else:
                given.append(content_of(part.get("content", part.get("text"))))
    return given, results


def _heard_events(span: Span) -> tuple[list[str], list[Result]]:
    given: list[str] = []
    results: list[Result] = []
    for name, facts in span.events:
        content = content_of(facts.get("content", facts.get("gen_ai.prompt")))
        if name == "gen_ai.assistant.message":
            given, results = [], []
        elif name == "gen_ai.tool.message":
            results.append(Result("", content, None, str(facts.get("id") or "")))
        elif name in ("gen_ai.user.message", "gen_ai.system.message", "gen_ai.content.prompt"):
            given.append(content)
    return given, results


def _parts(message: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    return _messages(message.get("parts")) or [
        {"type": "text", "content": content_of(message.get("content"))}
    ]


def _reply(span: Span) -> _Reply:
    found = _Reply()
    for message in _messages(span.facts.get(_SAID))[:1]:
        found.finish = str(message.get("finish_reason") or "")
        for part in _parts(message):
            if part.get("type") == "tool_call":
                found.calls.append(_call(part))
            elif part.get("type") in ("text", None):
                found.text += content_of(part.get("content", part.get("text")))
    if not found.text and not found.calls:
        _older(span, found)
    reasons: Any = span.facts.get("gen_ai.response.finish_reasons")
    if isinstance(reasons, list) and reasons and not found.finish:
        found.finish = str(cast(list[Any], reasons)[0])
    return found


def _older(span: Span, found: _Reply) -> None:
    for name, facts in span.events:
        if name == "gen_ai.choice":
            raw: Any = facts.get("message", facts)
            message: Any = json.loads(raw) if isinstance(raw, str) and raw[:1] == "{" else raw
            if isinstance(message, dict):
                told = cast(dict[str, Any], message)
                found.text += content_of(told.get("content"))
                found.calls += [_call(call) for call in _messages(told.get("tool_calls"))]
            found.finish = str(facts.get("finish_reason") or found.finish)
    facts = span.facts
    found.text += content_of(facts.get("gen_ai.completion.0.content"))
    found.finish = found.finish or str(facts.get("gen_ai.completion.0.finish_reason") or "")
    at = 0
    while f"gen_ai.completion.0.tool_calls.{at}.name" in facts:
        keys = ("name", "arguments", "id")
        found.calls.append(
            _call({key: facts.get(f"gen_ai.completion.0.tool_calls.{at}.{key}") for key in keys})
        )
        at += 1


def _call(part: Mapping[str, Any]) -> Call:
    inner = cast(Mapping[str, Any], part.get("function") or part)
    given: Any = inner.get("arguments", {})
    arguments = given if isinstance(given, str) else json.dumps(given or {}, ensure_ascii=False)
    return Call(str(inner.get("name") or ""), arguments, str(part.get("id") or ""))


def _result(span: Span) -> Result:
    facts = span.facts
    text = content_of(facts.get("gen_ai.tool.call.result", facts.get("gen_ai.tool.message")))
    if not text and span.failed:
        text = str(facts.get("error.type", "error"))
    id = str(facts.get("gen_ai.tool.call.id") or "")
    return Result(str(facts.get("gen_ai.tool.name", "")), text, False if span.failed else None, id)


# -------------------------------------------------------------------- steps


def _attach(
    steps: list[Step], at: int | None, results: Sequence[Result], *, first: bool = False
) -> None:
    """Results to the step that called for them; a span of the call (``first``) knows best."""
    if at is None or not results:
        return
    step = steps[at]
    have = {result.id for result in step.results if result.id}
    new = [result for result in results if result.id not in have]
    if not first and len(step.results) >= len(step.calls) and not have:
        return  # the spans of the calls said it already, without ids
    names = {call.id: call.name for call in step.calls}
    named = [r if r.name else replace(r, name=names.get(r.id, "")) for r in new]
    steps[at] = replace(step, results=(*step.results, *named))


def _step(span: Span, agent: str, role: str, index: int, given: list[str]) -> Step:
    reply = _reply(span)
    fault = str(span.facts.get("manyhands.fault", ""))
    tokens: Any = span.facts.get("gen_ai.usage.output_tokens")
    if tokens is None:
        tokens = span.facts.get("gen_ai.usage.completion_tokens")
    return Step(
        agent=agent,
        role=role,
        index=index,
        text=reply.text,
        at=span.id or span.name,
        calls=tuple(reply.calls),
        given=tuple(given),
        finish_reason=reply.finish,
        tokens=int(tokens) if isinstance(tokens, int | float) else None,
        seconds=(span.end - span.start) / 1e9 if span.end > span.start else None,
        kind=Kind.REPORT if span.facts.get("manyhands.kind") == "report" else Kind.MODEL,
        fault=fault if reply.text or reply.calls or _SAID in span.facts else _UNREAD,
    )


def _ended(step: Step) -> Step:
    """A reply without calls is what the agent hands over; one that was not exported is neither."""
    if step.fault == _UNREAD:
        return replace(step, kind=Kind.TOOL, fault="")
    said = not step.calls and not step.fault and bool(step.text.strip())
    return replace(step, kind=Kind.REPORT) if said else step
