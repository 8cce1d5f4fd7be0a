"""Tools from typed functions: what an agent may do is what it was handed.

Invariants: a call runs only with arguments that fit the function's own types; every call is a step
of the run with the tool's effect class; what a tool says reaches the model as delimited data of
bounded size, cut where everybody can see it, with the whole kept as a blob.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from manyhands.agents.arguments import fit, read_arguments
from manyhands.agents.encoding import clean, encode, schema_of
from manyhands.errors import ConfigError, ToolError
from manyhands.runtime import Effect, Run

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Raises|Yields|Example|Examples|Note)s?:")


@dataclass(frozen=True, slots=True)
class CallContext:
    """Handed to a tool whose first parameter has this type; not part of what the model sees.

    ``idempotency_key`` is the same for every attempt at this call, in every process.
    """

    run_id: str
    agent: str
    key: str
    idempotency_key: str


@dataclass(frozen=True)
class Tool:
    """A function that a model may call. Make one with `tool` or `Tool.from_function`.

    ``effect`` None: a *delegation*, whose function takes a `Run` and journals steps of its own.
    ``seconds`` bounds one call; ``result_bytes`` what of its result the model is shown.
    """

    name: str
    description: str
    effect: Effect | None
    fn: Callable[..., Any]
    arguments: type[BaseModel]
    takes: type | None = None
    seconds: float | None = 120.0
    result_bytes: int = 16_384

    @classmethod
    def from_function(
        cls,
        fn: Callable[..., Any],
        effect: Effect | None,
        *,
        name: str | None = None,
        seconds: float | None = 120.0,
        result_bytes: int = 16_384,
    ) -> Tool:
        """Read the schema off type hints, defaults and the docstring (its ``Args:`` included).

        Raises `ConfigError` for a function that cannot be a tool.
        """
        name = name or fn.__name__
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"tool name {name!r} is not allowed; servers take a-z A-Z 0-9 _ - up to 64 long",
                next="rename the function, or give name=",
            )
        summary, told = _docstring(fn)
        takes, fields = _parameters(fn, name, told)
        if (effect is None) != (takes is Run):
            raise ConfigError(
                f"tool {name!r}: a delegation has no effect and takes a Run first; "
                f"effect is {effect}, first parameter {takes.__name__ if takes else 'plain'}",
                next="use @delegation for a function that runs agents, @tool(effect=…) otherwise",
            )
        model = create_model(
            name, __config__=ConfigDict(extra="forbid"), **cast(dict[str, Any], fields)
        )
        return cls(name, summary, effect, fn, model, takes, seconds, result_bytes)

    @cached_property
    def encoded(self) -> bytes:
        """The tool as a chat-completions request lists it: JSON, encoded once."""
        return encode_tool(self.name, self.description, self.schema)

    @cached_property
    def schema(self) -> dict[str, Any]:
        return schema_of(self.arguments)

    def parse(self, arguments: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The arguments as the function takes them, and what was mended on the way to them.

        Raises `ToolError`, written for the model.
        """
        found, notes = read_arguments(arguments)
        try:
            checked, more = self._checked(found)
        except ValidationError as error:
            raise ToolError(
                f"the arguments do not fit {self.name}:\n{explain(error)}",
                next="call it again with corrected arguments",
            ) from error
        fields = type(checked).model_fields
        made = {cast(str, info.alias): getattr(checked, key) for key, info in fields.items()}
        return made, (*notes, *more)

    def _checked(self, found: dict[str, Any]) -> tuple[BaseModel, tuple[str, ...]]:
        """As they are where they fit to the letter, otherwise coerced without loss."""
        with contextlib.suppress(ValidationError):
            return self.arguments.model_validate_json(encode(found), strict=True), ()
        notes: tuple[str, ...] = ()
        with contextlib.suppress(ToolError):  # the types' own errors say it as well
            fitted = fit(found, self.schema)
            found, notes = fitted.arguments, fitted.notes
        return self.arguments.model_validate(found), notes

    async def call(self, context: CallContext, arguments: Mapping[str, Any]) -> str:
        """The function's result as text.

        A sync function runs in a thread, which goes on when the call is given up.
        """
        first = (context,) if self.takes is CallContext else ()
        if inspect.iscoroutinefunction(self.fn):
            return clean(text_of(await self.fn(*first, **arguments)))
        return clean(text_of(await asyncio.to_thread(self.fn, *first, **arguments)))


def tool(
    *,
    effect: Effect,
    name: str | None = None,
    seconds: float | None = 120.0,
    result_bytes: int = 16_384,
) -> Callable[[Callable[..., Any]], Tool]:
    """``@tool(effect=Effect.PURE)`` over a typed function makes a `Tool` of it."""

    def make(fn: Callable[..., Any]) -> Tool:
        return Tool.from_function(fn, effect, name=name, seconds=seconds, result_bytes=result_bytes)

    return make


def delegation(fn: Callable[..., Awaitable[Any]]) -> Tool:
    """A tool that runs agents: ``async def ask(run: Run, …) -> Report``, in a scope of its own."""
    return Tool.from_function(fn, None, seconds=None)


@dataclass(frozen=True)
class Toolbox:
    """The tools that an agent is handed. Having a tool is the permission to use it."""

    tools: Mapping[str, Tool] = field(default_factory=dict[str, Tool])

    @classmethod
    def of(cls, *tools: Tool) -> Toolbox:
        """Raises `ConfigError` when two tools share a name."""
        named: dict[str, Tool] = {}
        for each in tools:
            if each.name in named:
                raise ConfigError(f"two tools are called {each.name!r}", next="rename one of them")
            named[each.name] = each
        return cls(MappingProxyType(named))

    def select(self, names: Iterable[str]) -> Toolbox:
        """Exactly the tools named. Raises `ConfigError` for one that is not here."""
        chosen = list(names)
        for name in chosen:
            if name not in self.tools:
                raise ConfigError(
                    f"there is no tool {name!r}; allowed: {', '.join(self.tools) or 'none'}",
                    next="correct the name, or hand the tool in",
                )
        return Toolbox.of(*(self.tools[name] for name in chosen))

    @cached_property
    def encoded(self) -> tuple[bytes, ...]:
        return tuple(each.encoded for each in self.tools.values())

    @cached_property
    def schemas(self) -> Mapping[str, Mapping[str, Any]]:
        """Name -> JSON schema of the arguments."""
        return {name: each.schema for name, each in self.tools.items()}

    def __contains__(self, name: object) -> bool:
        return name in self.tools

    def __len__(self) -> int:
        return len(self.tools)


def encode_tool(name: str, description: str, schema: Mapping[str, Any]) -> bytes:
    function = {"name": name, "description": description, "parameters": schema}
    return encode({"type": "function", "function": function})


def text_of(value: Any) -> str:
    """What a tool returned, as text: strings as they are, everything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if value is None:
        return "done"
    return to_json(value, inf_nan_mode="constants", fallback=str).decode()


def cut(text: str, limit: int, blob: str) -> str:
    """About ``limit`` bytes of ``text``: its head, its tail, and between them what is missing."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    head, tail = limit * 3 // 4, limit // 4
    missing = len(raw) - head - tail
    return (
        raw[:head].decode("utf-8", "ignore")
        + f"\n[… {missing} of {len(raw)} bytes left out here; the whole is {blob} …]\n"
        + raw[len(raw) - tail :].decode("utf-8", "ignore")
    )


def explain(error: ValidationError, most: int = 12) -> str:
    """A pydantic error as lines that a model can act on."""
    lines: list[str] = []
    errors = error.errors(include_url=False)
    for each in errors[:most]:
        where = ".".join(str(part) for part in each["loc"]) or "(the whole)"
        given = "" if each["type"] == "missing" else f" (given: {_short(each['input'])})"
        lines.append(f"- {where}: {each['msg']}{given}")
    if len(errors) > most:
        lines.append(f"- and {len(errors) - most} more")
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _parameters(
    fn: Callable[..., Any], name: str, told: Mapping[str, str]
) -> tuple[type | None, dict[str, tuple[Any, FieldInfo]]]:
    """What the function takes first, and its arguments as fields.

    A field is called after its place and has the argument's name as alias: an argument may be
    called ``schema`` or ``_x``, a pydantic field may not.
    """
    hints = _hints(fn, name)
    takes: type | None = None
    fields: dict[str, tuple[Any, FieldInfo]] = {}
    for i, parameter in enumerate(inspect.signature(fn).parameters.values()):
        hint = hints.get(parameter.name)
        if i == 0 and hint in (CallContext, Run):
            takes = hint
            continue
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if hint is None or variadic or parameter.kind is parameter.POSITIONAL_ONLY:
            raise ConfigError(
                f"tool {name!r}: parameter {str(parameter)!r} needs a type and a name of its own",
                next="annotate it; *args, **kwargs and positional-only ones cannot be offered",
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        about = told.get(parameter.name)
        fields[f"argument{i}"] = (hint, Field(default, alias=parameter.name, description=about))
    return takes, fields


def _hints(fn: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return get_type_hints(fn, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigError(
            f"tool {name!r}: its type hints cannot be read: {error}",
            next="use types that are defined at the top of their module",
        ) from error


def _docstring(fn: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The text above the first section, and ``Args:`` as name -> text."""
    summary: list[str] = []
    told: dict[str, str] = {}
    section, last = "", ""
    for line in (inspect.getdoc(fn) or "").splitlines():
        if _SECTION.fullmatch(line.strip()):
            section = line.strip()
        elif not section:
            summary.append(line)
        elif section.startswith(("Arg", "Param")):
            found = re.match(r"\s+(\w+)(?:\s*\([^)]*\))?:\s*(.*)", line)
            if found:
                last = found[1]
                told[last] = found[2]
            elif last and line.strip():
                told[last] += " " + line.strip()
    return "\n".join(summary).strip(), told
