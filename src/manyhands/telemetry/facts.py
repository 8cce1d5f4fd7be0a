"""What a span says of what it stands for: attributes, made from an event and what is known.

Invariant: without `Content` no word of a prompt, a reply, a call, a result or a reason is in them;
what is a name or a number is bounded and inert.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from manyhands.agents.request import Attempt
from manyhands.runtime import Event
from manyhands.runtime.codec import object_of
from manyhands.telemetry import names as n
from manyhands.telemetry.content import Content
from manyhands.telemetry.scopes import Agent, Open
from manyhands.telemetry.spans import Facts, shown

TOOL_ERROR = "tool_error"
#: Of a request that is no step of its agent: it failed, or was made on the side.
ASIDE: Facts = {f"{n.OURS}kind": "none"}
_UNITS = ("tokens", "requests", "micro_usd")
_ENDED = ("status", "ending", "turns", "nudges", "repairs", "fallbacks")
_ARTIFACT = ("name", "version", "kind", "blob", "status")


def place(event: Event) -> str:
    """Where the whole of an event's value is."""
    return event.ref or f"event {event.seq}"


def where(event: Event, **more: Any) -> Facts:
    facts: Facts = {f"{n.OURS}seq": event.seq}
    return facts | {f"{n.OURS}{name}": value for name, value in more.items()}


def of_step(run_id: str, step: Open, used: Any, event: Event | None) -> Facts:
    """Where it is in the journal, and what it was charged there."""
    facts: Facts = {
        f"{n.OURS}run.id": shown(run_id),
        f"{n.OURS}step": shown(step.key),
        f"{n.OURS}attempt": step.attempt,
        f"{n.OURS}seq": step.seq,
    }
    if step.effect:
        facts[f"{n.OURS}effect"] = step.effect
    if step.actor:
        facts[f"{n.OURS}actor"] = shown(step.actor)
    facts |= {f"{n.OURS}spent.{unit}": used[unit] for unit in _UNITS if used and unit in used}
    if event is not None:
        facts[f"{n.OURS}end.seq"] = event.seq
        if event.ref is not None:
            facts[f"{n.OURS}value.blob"] = event.ref
        elif event.value is not None:
            facts[f"{n.OURS}value.characters"] = len(event.value)
    return facts


def of_artifact(data: Mapping[str, Any]) -> Facts:
    return {f"{n.OURS}artifact.{name}": shown(data.get(name, "")) for name in _ARTIFACT}


# -------------------------------------------------------------------- agents and models


def of_agent(run_id: str, path: str, agent: Agent) -> Facts:
    return {
        n.OPERATION: n.INVOKE_AGENT,
        n.PROVIDER: n.provider_of(agent.model),
        n.REQUEST_MODEL: shown(agent.model),
        n.AGENT_NAME: shown(agent.role),
        n.AGENT_ID: shown(path),
        n.CONVERSATION: f"{shown(run_id)}/{shown(path)}",
    }


def of_end(data: Mapping[str, Any]) -> Facts:
    """How an agent ended."""
    return {f"{n.OURS}agent.{name}": data[name] for name in _ENDED if name in data}


def of_context(event: Event) -> Facts:
    """Which record says what a model was shown, and how it differs from the one before."""
    prefix = f"{n.OURS}context"
    facts: Facts = {
        f"{prefix}.seq": event.seq,
        f"{prefix}.hash": str(event.data["hash"]),
        f"{prefix}.messages": event.data["length"],
    }
    changes: list[dict[str, Any]] = event.data["changes"]
    for status in ("added", "compacted", "dropped"):
        if count := sum(change.get("status") == status for change in changes):
            facts[f"{prefix}.{status}"] = count
    return facts


def of_request(run_id: str, path: str, agent: Agent | None, model: str) -> Facts:
    facts = of_agent(run_id, path, agent) | agent.context if agent is not None else Facts()
    return facts | {
        n.OPERATION: n.CHAT,
        n.PROVIDER: n.provider_of(model),
        n.REQUEST_MODEL: shown(model),
    }


def of_reply(attempt: Attempt) -> Facts:
    charged = attempt.charged
    facts: Facts = {
        n.INPUT_TOKENS: charged.input_tokens,
        n.OUTPUT_TOKENS: charged.output_tokens,
        f"{n.OURS}queued_seconds": attempt.queued_seconds,
    }
    if attempt.reported is not None and attempt.dispute:
        facts[f"{n.OURS}reported.input_tokens"] = attempt.reported.input_tokens
        facts[f"{n.OURS}reported.output_tokens"] = attempt.reported.output_tokens
    if not attempt.error:
        facts[n.RESPONSE_MODEL] = shown(attempt.model)
        facts[n.FINISH_REASONS] = [shown(attempt.finish_reason)]
        facts[f"{n.OURS}calls"] = len(attempt.calls)
    if attempt.first_token_seconds is not None:
        facts |= {n.STREAM: True, n.FIRST_CHUNK: attempt.first_token_seconds}
    if attempt.dialect:
        facts[f"{n.OURS}dialect"] = shown(attempt.dialect)
    return facts


# -------------------------------------------------------------------- tools


def of_call(path: str, agent: Agent, index: int, content: Content | None) -> Facts:
    """What the reply says of its call of this index."""
    facts: Facts = {
        n.OPERATION: n.EXECUTE_TOOL,
        n.TOOL_TYPE: "function",
        n.AGENT_NAME: shown(agent.role),
        n.AGENT_ID: shown(path),
    }
    calls = agent.attempt.calls if agent.attempt is not None else ()
    if index < len(calls):
        call = calls[index]
        name, arguments = call.name, call.arguments
        facts[n.TOOL_CALL_ID] = shown(call.id, 64)
    else:
        name, arguments = _chosen(agent.attempt)
    facts[n.TOOL_NAME] = shown(name, 64)
    if content is not None:
        facts[n.TOOL_ARGUMENTS] = content.text(arguments, agent.where)
    return facts


def _chosen(attempt: Attempt | None) -> tuple[str, str]:
    """A call that was made by a schema over the tools: the reply's text is it."""
    try:
        found = object_of(json.loads(attempt.text)) if attempt is not None else {}
    except (ValueError, RecursionError):
        found = {}
    return str(found.get("tool", "unknown")), json.dumps(found.get("arguments", {}))


def of_result(value: Any, content: Content | None, place: str) -> tuple[Facts, str]:
    """Of a call that came to an end; and the type of what went wrong in it ('': nothing)."""
    told, facts = object_of(value), Facts()
    if content is not None and "text" in told:
        facts[n.TOOL_RESULT] = content.text(str(told["text"]), place)
    code = told.get("code")
    if isinstance(code, int) and not isinstance(code, bool):
        facts[f"{n.OURS}exit_code"] = code
    return facts, "" if told.get("ok", True) else TOOL_ERROR


# -------------------------------------------------------------------- what checks say


def of_judgement(check: str, problem: Any, event: Event, content: Content | None) -> Facts:
    """A check of the role's own: what it says is missing, or nothing."""
    facts: Facts = {
        n.EVALUATION_NAME: shown(check),
        n.EVALUATION_LABEL: "fail" if problem else "pass",
    }
    if problem and content is not None:
        facts[n.EVALUATION_WHY] = content.text(str(problem), place(event))
    return facts | where(event)


def of_flag(flag: Mapping[str, Any], event: Event, content: Content | None) -> Facts:
    facts: Facts = {
        n.EVALUATION_NAME: shown(flag["check"]),
        n.EVALUATION_LABEL: shown(flag.get("verdict", "plausibly broken")),
    }
    if content is not None:
        facts[n.EVALUATION_WHY] = content.text(str(flag["reason"]), place(event))
    if (broken := object_of(event.data.get("judge")).get("broken")) is not None:
        facts[f"{n.OURS}judge"] = "broken" if broken else "cleared"
    severity, policy = shown(flag.get("severity", "")), str(event.data.get("policy", ""))
    return facts | where(event, severity=severity, policy=policy)
