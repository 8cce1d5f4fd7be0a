"""Tools that a server offers, as tools of an agent.

Invariants: a call reaches the server only with arguments that fit the schema that the server gave;
a tool may be called again by itself only where the user, not the server, decided so; what cannot be
offered is named with the reason; nothing that a schema refers to is fetched.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from pydantic import BaseModel

from manyhands.agents.arguments import fit, read_arguments, schema_problem
from manyhands.agents.encoding import clean
from manyhands.agents.tools import Tool
from manyhands.errors import ConfigError
from manyhands.ports import ToolOffer, ToolServer
from manyhands.runtime import Effect

#: Characters of a description, and bytes of a schema: both are in every request.
MOST_DESCRIPTION = 1_000
MOST_SCHEMA = 16_384
_MOST_NAME = 64


class _Anything(BaseModel):
    """Stands where a function's own types would: the schema is what counts."""


@dataclass(frozen=True)
class OfferedTool(Tool):
    """``given``: the schema as the server gave it."""

    given: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)

    @classmethod
    def from_offer(
        cls,
        server: ToolServer,
        offer: ToolOffer,
        effect: Effect,
        *,
        seconds: float | None = 120.0,
        result_bytes: int = 16_384,
    ) -> OfferedTool:
        """Called ``<server>_<tool>``. Raises `ConfigError` for a schema that is of no use."""
        problem = unusable(offer.schema)
        if problem:
            raise ConfigError(
                f"tool {offer.name!r} of {server.name!r}: {problem}",
                next="leave it out with `tools` in the server's table",
            )

        async def ask(**arguments: Any) -> str:
            return await server.call(offer.name, arguments)

        return cls(
            name=legal_name(server.name, offer.name),
            description=_shortened(offer.description),
            effect=effect,
            fn=ask,
            arguments=_Anything,
            seconds=seconds,
            result_bytes=result_bytes,
            given=offer.schema,
        )

    @cached_property
    def schema(self) -> dict[str, Any]:
        return dict(self.given)

    def parse(self, arguments: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        found, notes = read_arguments(arguments)
        fitted = fit(found, self.schema)
        return fitted.arguments, (*notes, *fitted.notes)


@dataclass(frozen=True, slots=True)
class Offered:
    """``dropped``: name and reason of every tool that is not among ``tools``."""

    tools: tuple[OfferedTool, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()


def offered_tools(
    server: ToolServer,
    offers: Iterable[ToolOffer],
    *,
    repeatable: Callable[[ToolOffer], bool],
    allowed: Iterable[str] | None = None,
    seconds: float | None = 120.0,
) -> Offered:
    """The tools of a server. ``allowed``: only these; None: all.

    ``repeatable``: whether a tool may be called again where a first call may have happened; all
    others are `Effect.ONCE`. Raises `ConfigError` for two tools whose names become one, and for a
    name in ``allowed`` that is not offered.
    """
    wanted = None if allowed is None else set(allowed)
    found = list(offers)
    _check_there(server.name, wanted or (), found)
    tools: dict[str, OfferedTool] = {}
    taken: dict[str, str] = {}
    dropped: list[tuple[str, str]] = []
    for offer in found:
        name = legal_name(server.name, offer.name)
        reason = _refusal(offer, wanted, taken, name)
        if reason:
            dropped.append((offer.name, reason))
            continue
        taken[name] = offer.name
        effect = Effect.IDEMPOTENT if repeatable(offer) else Effect.ONCE
        tools[name] = OfferedTool.from_offer(server, offer, effect, seconds=seconds)
    return Offered(tuple(tools.values()), tuple(dropped))


def _refusal(offer: ToolOffer, wanted: set[str] | None, taken: Mapping[str, str], name: str) -> str:
    """Why it is left out; '': it is not."""
    if wanted is not None and offer.name not in wanted:
        return "not in `tools`"
    if taken.get(name) == offer.name:
        return "offered twice; the first one is taken"
    if name in taken:
        raise ConfigError(
            f"the tools {taken[name]!r} and {offer.name!r} would both be called {name!r}",
            next="leave one of them out with `tools` in the server's table",
        )
    return unusable(offer.schema)


def _check_there(server: str, names: Iterable[str], offers: Iterable[ToolOffer]) -> None:
    there = [offer.name for offer in offers]
    missing = sorted(set(names) - set(there))
    if missing:
        raise ConfigError(
            f"tool server {server!r} does not offer {', '.join(missing)}; "
            f"it offers: {', '.join(there) or 'nothing'}",
            next=f"correct the names in [mcp.{server}]",
        )


def legal_name(server: str, tool: str) -> str:
    """What model servers take: a-z A-Z 0-9 _ -, at most 64; a long one is cut and stays unique."""
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", f"{server}_{tool}")
    if not re.match(r"[a-zA-Z_]", name):
        name = f"_{name}"
    if len(name) <= _MOST_NAME:
        return name
    return f"{name[: _MOST_NAME - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def unusable(schema: Mapping[str, Any]) -> str:
    """Why a schema cannot be used for a call's arguments; '': it can."""
    if schema.get("type") != "object":
        return f"its schema is of type {schema.get('type')!r}, not 'object'"
    problem = schema_problem(schema)
    if problem:
        return f"its schema is no JSON schema: {problem}"
    size = len(json.dumps(schema, default=str))
    if size > MOST_SCHEMA:
        return f"its schema has {size:,} bytes; the limit is {MOST_SCHEMA:,}"
    for ref in _references(schema):
        if not ref.startswith("#"):
            return f"its schema refers to {ref[:200]!r}, and nothing is fetched"
        if not _resolves(schema, ref):
            return f"its schema refers to {ref[:200]!r}, which is not in it"
    return ""


def _references(schema: Any) -> Iterator[str]:
    """What its ``$ref`` and ``$dynamicRef`` name. Values that only look so count as well."""
    if isinstance(schema, Mapping):
        for key, value in cast(Mapping[str, Any], schema).items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for each in cast(list[Any], schema):
            yield from _references(each)


def _resolves(schema: Any, ref: str) -> bool:
    """Whether a JSON pointer leads somewhere. Named anchors are believed."""
    if not ref.startswith("#/"):
        return True
    for part in ref[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list):
            found = cast(list[Any], schema)
            schema = found[int(key)] if key.isdigit() and int(key) < len(found) else None
        else:
            schema = (
                cast(Mapping[str, Any], schema).get(key) if isinstance(schema, Mapping) else None
            )
        if schema is None:
            return False
    return True


def _shortened(text: str) -> str:
    text = clean(text).strip()
    return text if len(text) <= MOST_DESCRIPTION else text[: MOST_DESCRIPTION - 1] + "…"
