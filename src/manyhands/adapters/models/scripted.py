"""`ScriptedModel`: a model that says what a test, or a file, has written down for it.

Invariant: what it answers depends on the request alone (but for a list of replies, which is used
up in the order of arrival), so that agents at once, a replay and a run that was killed and resumed
all hear the same. A request that nothing was written down for is an error, never made up.

A script file is JSON::

    {"name": "demo",
     "rules": [
       {"role": "planner", "task": "at most (?P<count>\\\\d+)",
        "replies": ["I think about ${count}.", {"answer": {"ideas": []}}]},
       {"last": "what is the time", "reply": {"calls": [{"name": "clock", "arguments": {}}]}}]}

The first rule that fits answers: ``role`` is the role's name (any, if it is left out), ``task`` and
``last`` are regular expressions searched for in the first user message and in the last message.
``reply`` answers every request that the rule fits; ``replies`` has one for each request of a
conversation (counted by the assistant's messages in it). Named groups fill ``${name}`` in a reply.

A reply is a text, or an object of: ``text``; ``calls`` (``name``, and ``arguments`` as an object or
as raw text); ``answer`` (an object: a call of the tool ``answer`` where the request offers it, else
JSON text); ``finish`` (the finish reason); ``usage`` (``{"input": 1, "output": 1}``, null: none);
``seconds`` (how long it takes); ``fails`` (errors that come first, one for each attempt at the same
request: ``overloaded``, ``unreachable``, ``timeout``, ``malformed``, ``refused``).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from manyhands.errors import (
    ConfigError,
    ModelError,
    ModelMalformed,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
)
from manyhands.ports import ModelReply, ModelRequest, Price, ToolCall, Usage

ANSWER, FINISH = "answer", "finish"

_ROLE_LINE = re.compile(r"Role: (\S+)")
_MESSAGE_ROLE = re.compile(rb'\{"role":"(\w+)"')


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a scripted model. See `say`, `call`, `calls` and `answer`.

    ``calls``: name and JSON text of the arguments. ``finish`` '' follows from the rest. ``usage``:
    ``honest`` counts a token for every four bytes; None is a server that does not say. ``fails``:
    raised first, one for each attempt at the same request.
    """

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    finish: str = ""
    usage: Usage | Literal["honest"] | None = "honest"
    seconds: float = 0.0
    fails: tuple[ModelError, ...] = ()
    answer: Mapping[str, Any] | None = None


def say(text: str, **settings: Any) -> Reply:
    """A reply of plain text; ``settings`` are `Reply`'s fields."""
    return Reply(text=text, **settings)


def call(tool: str, /, **arguments: Any) -> Reply:
    """A reply that calls one tool."""
    return calls((tool, arguments))


def calls(*made: tuple[str, Mapping[str, Any] | str], **settings: Any) -> Reply:
    """A reply of several calls; arguments that are text are sent as they are, broken or not."""
    encoded = tuple((n, a if isinstance(a, str) else _json(a)) for n, a in made)
    return Reply(calls=encoded, **settings)


def answer(value: BaseModel | Mapping[str, Any]) -> Reply:
    """The role's typed answer: with the tool ``answer`` where it is offered, else as JSON text."""
    told = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return Reply(answer=told)


Scripted = Reply | str | ModelError


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request, read: the role's name, the first user message, the last message, and how many
    times the assistant has spoken."""

    role: str
    task: str
    last: str
    spoken: int

    @classmethod
    def of(cls, request: ModelRequest) -> Conversation:
        roles = [_role_of(message) for message in request.messages]
        system = _text_at(request, roles, "system")
        named = _ROLE_LINE.match(system)
        last = _content(json.loads(request.messages[-1])) if request.messages else ""
        return cls(
            role=named[1] if named else "",
            task=_text_at(request, roles, "user"),
            last=last,
            spoken=roles.count("assistant"),
        )


class ScriptedModel:
    """A `Model` that follows a script: replies in order of arrival, or a function of the request.

    ``delay`` seconds are added to every reply. ``requests`` holds what it was asked,
    ``most_at_once`` how many requests were in flight together. Raises `ConfigError` when the script
    has no answer.
    """

    def __init__(
        self,
        script: Iterable[Scripted] | Callable[[ModelRequest], Scripted],
        *,
        name: str = "scripted",
        price: Price | None = Price(0.0, 0.0),  # noqa: B008 - frozen
        context_length: int | None = None,
        delay: float = 0.0,
    ) -> None:
        self.name = name
        self.price = price
        self.context_length = context_length
        self.requests: list[ModelRequest] = []
        self.most_at_once = 0
        self.closed = False
        self._delay = delay
        self._at_once = 0
        self._failed: Counter[str] = Counter()
        self._next = script if callable(script) else _in_order(name, list(script))

    @classmethod
    def from_file(cls, path: Path | str) -> ScriptedModel:
        """The script in a JSON file; see the module for its form. Raises `ConfigError`."""
        try:
            script = _Script.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}", next="name a readable script file") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ConfigError(
                f"{path}: {where}: {first['msg']}",
                next="see manyhands.adapters.models.scripted for the form",
            ) from error
        price = Price(*script.price) if script.price is not None else None
        return cls(
            lambda request: _by_rules(str(path), script.rules, request),
            name=script.name,
            price=price,
            context_length=script.context_length,
        )

    async def request(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        self.requests.append(request)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._reply(request, on_text)
        finally:
            self._at_once -= 1

    async def close(self) -> None:
        self.closed = True

    async def _reply(
        self, request: ModelRequest, on_text: Callable[[str], None] | None
    ) -> ModelReply:
        found = self._next(request)
        if isinstance(found, ModelError):
            raise found
        reply = Reply(text=found) if isinstance(found, str) else found
        self._fail(request, reply)
        seconds = reply.seconds + self._delay
        await self._take_time(request, seconds, streamed=on_text is not None)
        text, made = _spoken(reply, request)
        if on_text is not None:
            for at in range(0, len(text), 8):
                on_text(text[at : at + 8])
        spoken = Conversation.of(request).spoken
        return ModelReply(
            text=text,
            tool_calls=tuple(
                ToolCall(f"call-{spoken}-{i}", name, arguments)
                for i, (name, arguments) in enumerate(made)
            ),
            finish_reason=reply.finish or ("tool_calls" if made else "stop"),
            usage=_usage(reply, request, text, made),
            raw=b"",
            seconds=seconds,
            first_token_seconds=seconds if on_text is not None else None,
        )

    def _fail(self, request: ModelRequest, reply: Reply) -> None:
        if not reply.fails:
            return
        mark = hashlib.sha256(b"\n".join(request.messages)).hexdigest()
        self._failed[mark] += 1
        if self._failed[mark] <= len(reply.fails):
            raise reply.fails[self._failed[mark] - 1]

    async def _take_time(self, request: ModelRequest, seconds: float, *, streamed: bool) -> None:
        limit = request.seconds
        if streamed:
            limit = min(limit, request.first_token_seconds)
        await asyncio.sleep(min(seconds, limit))
        if seconds > limit:
            raise ModelTimeout(
                f"model {self.name}: no answer within {limit:g} s", next="give the request more"
            )


# -------------------------------------------------------------------- files


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _CallForm(_Form):
    name: str
    arguments: dict[str, Any] | str = ""


class _UsageForm(_Form):
    input: int
    output: int


class _ReplyForm(_Form):
    text: str = ""
    calls: tuple[_CallForm, ...] = ()
    answer: dict[str, Any] | None = None
    finish: str = ""
    usage: _UsageForm | Literal["honest"] | None = "honest"
    seconds: float = Field(default=0.0, ge=0)
    fails: tuple[Literal["overloaded", "unreachable", "timeout", "malformed", "refused"], ...] = ()

    def reply(self) -> Reply:
        usage = self.usage
        return Reply(
            text=self.text,
            calls=tuple(
                (c.name, c.arguments if isinstance(c.arguments, str) else _json(c.arguments))
                for c in self.calls
            ),
            finish=self.finish,
            usage=Usage(usage.input, usage.output) if isinstance(usage, _UsageForm) else usage,
            seconds=self.seconds,
            fails=tuple(_ERRORS[kind](f"scripted: {kind}") for kind in self.fails),
            answer=self.answer,
        )


class _RuleForm(_Form):
    role: str | None = None
    task: re.Pattern[str] | None = None
    last: re.Pattern[str] | None = None
    reply: _ReplyForm | str | None = None
    replies: tuple[_ReplyForm | str, ...] = ()

    @model_validator(mode="after")
    def _one_of_both(self) -> _RuleForm:
        if (self.reply is None) == (not self.replies):
            raise ValueError("give either 'reply' or 'replies'")
        return self

    def fits(self, talk: Conversation) -> dict[str, str] | None:
        """The named groups, or None where the rule does not fit."""
        groups: dict[str, str] = {}
        if self.role is not None and self.role != talk.role:
            return None
        for pattern, text in ((self.task, talk.task), (self.last, talk.last)):
            found = pattern.search(text) if pattern is not None else None
            if pattern is not None and found is None:
                return None
            groups |= found.groupdict("") if found is not None else {}
        return groups


class _Script(_Form):
    name: str = "script"
    price: tuple[float, float] | None = (0.0, 0.0)
    context_length: int | None = None
    rules: tuple[_RuleForm, ...] = Field(min_length=1)


_ERRORS: dict[str, type[ModelError]] = {
    "overloaded": ModelOverloaded,
    "unreachable": ModelUnreachable,
    "timeout": ModelTimeout,
    "malformed": ModelMalformed,
    "refused": ModelRefused,
}


def _by_rules(source: str, rules: Iterable[_RuleForm], request: ModelRequest) -> Reply:
    talk = Conversation.of(request)
    for at, rule in enumerate(rules):
        groups = rule.fits(talk)
        if groups is None:
            continue
        if rule.reply is None and talk.spoken >= len(rule.replies):
            raise ConfigError(
                f"{source}: rule {at} has {len(rule.replies)} replies and is asked for number "
                f"{talk.spoken + 1} by role {talk.role!r}; last message: {talk.last[:200]!r}",
                next="add a reply to the rule",
            )
        found = rule.reply if rule.reply is not None else rule.replies[talk.spoken]
        return _filled(Reply(text=found) if isinstance(found, str) else found.reply(), groups)
    raise ConfigError(
        f"{source}: no rule fits role {talk.role!r}, task {talk.task[:200]!r}, "
        f"last message {talk.last[:200]!r}",
        next="add a rule",
    )


def _filled(reply: Reply, groups: Mapping[str, str]) -> Reply:
    if not groups:
        return reply
    told = _substituted(reply.answer, groups) if reply.answer is not None else None
    return Reply(
        _substituted(reply.text, groups),
        tuple((n, _substituted(a, groups)) for n, a in reply.calls),
        reply.finish,
        reply.usage,
        reply.seconds,
        reply.fails,
        told,
    )


def _substituted(value: Any, groups: Mapping[str, str]) -> Any:
    """``${name}`` in every string of a JSON value, for the names that there are."""
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", lambda m: groups.get(m[1], m[0]), value)
    if isinstance(value, dict):
        return {k: _substituted(v, groups) for k, v in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_substituted(v, groups) for v in cast(list[Any], value)]
    return value


# -------------------------------------------------------------------- the rest


def _in_order(name: str, replies: list[Scripted]) -> Callable[[ModelRequest], Scripted]:
    left = iter(replies)

    def following(request: ModelRequest) -> Scripted:
        found = next(left, None)
        if found is None:
            last = Conversation.of(request).last
            raise ConfigError(
                f"script {name!r} has {len(replies)} replies, all used; it is asked again; "
                f"last message: {last[:200]!r}",
                next="add a reply to the script",
            )
        return found

    return following


def _spoken(reply: Reply, request: ModelRequest) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The text and the calls, the typed answer turned into whichever of both fits the request."""
    if reply.answer is None:
        return reply.text, reply.calls
    told = _json(reply.answer)
    for tool in request.tools:
        name = json.loads(tool)["function"]["name"]
        if name in (ANSWER, FINISH):
            return reply.text, ((name, told),)
    return told, ()


def _usage(
    reply: Reply, request: ModelRequest, text: str, made: tuple[tuple[str, str], ...]
) -> Usage | None:
    if reply.usage != "honest":
        return reply.usage
    put = sum(map(len, request.messages)) + sum(map(len, request.tools))
    got = len(text.encode("utf-8", "replace")) + sum(len(n) + len(a) for n, a in made)
    return Usage(put // 4 + 1, got // 4 + 1)


def _role_of(message: bytes) -> str:
    found = _MESSAGE_ROLE.match(message)
    return found[1].decode() if found else str(json.loads(message).get("role", ""))


def _text_at(request: ModelRequest, roles: list[str], role: str) -> str:
    if role not in roles:
        return ""
    return _content(json.loads(request.messages[roles.index(role)]))


def _content(message: dict[str, Any]) -> str:
    return message.get("content") or ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
