"""The envelope of OTLP JSON: its spans, with plain values in place of tagged ones.

Invariant: what has not the envelope's form is an error that names its position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from manyhands.errors import ConfigError

NEXT = "export traces as OTLP JSON (resourceSpans, scopeSpans, spans), with their messages"


@dataclass(slots=True)
class Span:
    """``facts``: its attributes; ``events``: name and attributes of each; times in ns."""

    id: str
    parent: str
    name: str
    start: int
    end: int
    facts: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    failed: bool
    service: str

    @property
    def operation(self) -> str:
        found = str(self.facts.get("gen_ai.operation.name", ""))
        return found or ("chat" if "gen_ai.completion.0.content" in self.facts else "")


def spans_of(document: Any, where: str) -> list[Span]:
    found: list[Span] = []
    for i, resource in enumerate(_list(document, "resourceSpans", where)):
        service = facts_of(resource.get("resource", {})).get("service.name", "agent")
        scopes = "scopeSpans" if "scopeSpans" in resource else "instrumentationLibrarySpans"
        place = f"{where}: resourceSpans[{i}]"
        for j, scope in enumerate(_list(resource, scopes, place)):
            for k, span in enumerate(_list(scope, "spans", f"{place}.scopeSpans[{j}]")):
                found.append(_one(span, str(service), f"{place}.scopeSpans[{j}].spans[{k}]"))
    return found


def _list(value: Any, key: str, where: str) -> list[Any]:
    found: Any = cast(Any, value).get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise ConfigError(f"{where}: {key} is {str(found)[:60]!r}, not a list", next=NEXT)
    return cast(list[Any], found)


def _one(span: Any, service: str, where: str) -> Span:
    if not isinstance(span, dict):
        raise ConfigError(f"{where}: {str(span)[:60]!r} is no span", next=NEXT)
    raw = cast(dict[str, Any], span)
    try:
        start = int(raw.get("startTimeUnixNano") or 0)
        end = int(raw.get("endTimeUnixNano") or start)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: its times are no numbers: {error}", next=NEXT) from error
    facts = facts_of(raw)
    status: Any = raw.get("status") or {}
    failed = status.get("code") in (2, "STATUS_CODE_ERROR") or "error.type" in facts
    events = [
        (str(e.get("name", "")), facts_of(e)) for e in cast(list[Any], raw.get("events") or [])
    ]
    parent = str(raw.get("parentSpanId") or "")
    name = str(raw.get("name", ""))
    return Span(
        str(raw.get("spanId", "")), parent, name, start, end, facts, events, failed, service
    )


def facts_of(holder: Any) -> dict[str, Any]:
    pairs: Any = holder.get("attributes") or []
    return {str(pair["key"]): value_of(pair.get("value")) for pair in cast(list[Any], pairs)}


def value_of(value: Any) -> Any:
    """An OTLP AnyValue as plain JSON."""
    if not isinstance(value, dict):
        return value
    found = cast(dict[str, Any], value)
    if "arrayValue" in found:
        return [value_of(each) for each in found["arrayValue"].get("values", [])]
    if "kvlistValue" in found:
        pairs = found["kvlistValue"].get("values", [])
        return {str(pair["key"]): value_of(pair.get("value")) for pair in pairs}
    if "intValue" in found:
        return int(found["intValue"])
    return next(iter(found.values()), None)
