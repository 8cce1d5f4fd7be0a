"""What a model's endpoint can do, found out by asking: one test request for each question.

Invariant: what is called enforced was tried against the model's will: it was asked for something
that the constraint forbids. What is called working was seen once, with this model, and promises
nothing. Each request has a deadline, and nothing that goes wrong ends the probe but silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, cast

from manyhands.errors import ModelError, ModelRefused, ModelTimeout, ModelUnreachable
from manyhands.ports import Model, ModelReply, ModelRequest


class Found(StrEnum):
    WORKS = "works"
    ENFORCED = "enforced"
    NOT_ENFORCED = "not enforced"
    NO = "no"
    REFUSED = "refused"
    FAILED = "failed"
    LATE = "too late"
    UNREACHABLE = "unreachable"
    NOT_TRIED = "not tried"


_ANSWERS = frozenset({Found.WORKS, Found.ENFORCED, Found.NOT_ENFORCED, Found.NO})


@dataclass(frozen=True, slots=True)
class Check:
    """The answer to one question. ``detail`` holds the server's words: data, cut to size.

    ``seconds``: how long the request took; None where there was none of its own.
    """

    name: str
    found: Found
    detail: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """``first_token_seconds`` and ``tokens_per_second``: of the streamed request, where known."""

    checks: tuple[Check, ...]
    first_token_seconds: float | None = None
    tokens_per_second: float | None = None

    @property
    def answered(self) -> bool:
        """Whether there was any reply at all."""
        return any(check.found in _ANSWERS for check in self.checks)


#: In the order of the table.
QUESTIONS = (
    "chat",
    "stream",
    "usage in stream",
    "tool call",
    "tool call required",
    "tool call by name",
    "parallel calls",
    "JSON schema",
    "reasoning apart",
)
_EXCERPT = 60
_MOST_TOKENS = 512


def _tool(name: str, description: str, **properties: str) -> bytes:
    schema = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    function = {"name": name, "description": description, "parameters": schema}
    return _encode({"type": "function", "function": function})


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


_ADD = _tool("add", "Adds two numbers.", a="integer", b="integer")
_WEATHER = _tool("weather", "The weather in a city.", city="string")
_TOOLS = (_ADD, _WEATHER)
_COLOURS = ("red", "green")
_SCHEMA = _encode(
    {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": list(_COLOURS)}},
        "required": ["colour"],
        "additionalProperties": False,
    }
)


async def probe(
    model: Model, *, seconds: float = 60.0, on_question: Callable[[str], None] | None = None
) -> Probe:
    """Ask ``model`` everything, one request after the other, ``seconds`` for each at most.

    After a first request that gets no reply, no other is made. ``on_question`` is told what is
    asked next. Raises nothing for what a server does.
    """
    probing = _Probing(model, seconds)
    checks: list[Check] = []
    async for check in probing.checks(on_question or (lambda _: None)):
        checks.append(check)
    made = {check.name for check in checks}
    checks += [Check(name, Found.NOT_TRIED) for name in QUESTIONS if name not in made]
    return Probe(tuple(checks), probing.first_token_seconds, probing.tokens_per_second)


class _Probing:
    def __init__(self, model: Model, seconds: float) -> None:
        self._model = model
        self._seconds = seconds
        self._replies: list[ModelReply] = []
        self.first_token_seconds: float | None = None
        self.tokens_per_second: float | None = None

    async def checks(self, asking: Callable[[str], None]) -> AsyncGenerator[Check]:
        asking("chat")
        chat = await self._check("chat", _ask("Reply with one word: ready"), _chat)
        yield chat
        if chat.found not in _ANSWERS:
            return
        asking("stream")
        for check in await self._stream():
            yield check
        for name, request, judge in _REQUESTS:
            asking(name)
            yield await self._check(name, request, judge)
        yield _reasoning(self._replies)

    async def _check(self, name: str, request: ModelRequest, judge: Judge) -> Check:
        reply = await self._reply(name, request)
        if isinstance(reply, Check):
            return reply
        found, detail = judge(reply)
        return Check(name, found, detail, reply.seconds)

    async def _stream(self) -> tuple[Check, Check]:
        pieces: list[str] = []
        request = _ask("Count from one to twenty in words.")
        reply = await self._reply("stream", request, pieces.append)
        if isinstance(reply, Check):
            return reply, Check("usage in stream", Found.NOT_TRIED)
        self.first_token_seconds = reply.first_token_seconds
        spoken = reply.usage.output_tokens if reply.usage else 0
        speaking = reply.seconds - (reply.first_token_seconds or 0.0)
        if spoken > 1 and speaking > 0:
            self.tokens_per_second = (spoken - 1) / speaking
        streamed = Check(
            "stream",
            Found.WORKS if len(pieces) > 1 else Found.NO,
            f"{len(pieces)} pieces" if pieces else "no text: " + _said(reply),
            reply.seconds,
        )
        if reply.usage is None:
            return streamed, Check("usage in stream", Found.NO, "tokens will be estimated")
        told = f"{reply.usage.input_tokens} in, {reply.usage.output_tokens} out"
        return streamed, Check("usage in stream", Found.WORKS, told)

    async def _reply(
        self, name: str, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply | Check:
        request = replace(request, seconds=self._seconds, first_token_seconds=self._seconds)
        silent = Found.FAILED if self._replies else Found.UNREACHABLE
        try:
            reply = await self._model.request(request, on_text)
        except ModelRefused as error:
            return _failed(name, Found.REFUSED, error)
        except ModelTimeout as error:
            return _failed(name, Found.LATE if error.may_have_spent else silent, error)
        except ModelUnreachable as error:
            return _failed(name, silent, error)
        except ModelError as error:
            return _failed(name, Found.FAILED, error)
        self._replies.append(reply)
        return reply


# -------------------------------------------------------------------- questions and judges

Verdict = tuple[Found, str]
Judge = Callable[[ModelReply], Verdict]


def _ask(
    text: str,
    *,
    tools: tuple[bytes, ...] = (),
    tool_choice: str | None = None,
    schema: bytes | None = None,
) -> ModelRequest:
    return ModelRequest(
        messages=(_encode({"role": "user", "content": text}),),
        tools=tools,
        tool_choice=tool_choice,
        response_schema=schema,
        max_tokens=_MOST_TOKENS,
        temperature=0.0,
    )


def _failed(name: str, found: Found, error: ModelError) -> Check:
    # "model NAME at URL: what happened": whom was asked is said above the table.
    return Check(name, found, _short(error.what.split(": ", 1)[-1], _EXCERPT * 2))


def _chat(reply: ModelReply) -> Verdict:
    if reply.text.strip():
        return Found.WORKS, _said(reply)
    if reply.reasoning:
        return Found.WORKS, f"only thought, {_MOST_TOKENS} tokens were not enough for an answer"
    return Found.NO, "an empty reply"


def _called(reply: ModelReply) -> Verdict:
    for call in reply.tool_calls:
        if call.name == "add" and _arguments(call.arguments) == {"a": 17, "b": 25}:
            return Found.WORKS, ""
    if reply.tool_calls:
        call = reply.tool_calls[0]
        return Found.NO, _short(f"called {call.name} with {call.arguments}")
    if re.search(r"\badd\b", reply.text) and "17" in reply.text:
        return Found.NO, f"the call came as text: {_said(reply)}"
    return Found.NO, f"no call: {_said(reply)}"


def _required(reply: ModelReply) -> Verdict:
    if reply.tool_calls and reply.tool_calls[0].name in ("add", "weather"):
        return Found.ENFORCED, ""
    return Found.NOT_ENFORCED, f"no call: {_said(reply)}"


def _named(reply: ModelReply) -> Verdict:
    names = {call.name for call in reply.tool_calls}
    if names == {"weather"}:
        return Found.ENFORCED, ""
    told = f"called {', '.join(sorted(names))}" if names else f"no call: {_said(reply)}"
    return Found.NOT_ENFORCED, _short(told)


def _parallel(reply: ModelReply) -> Verdict:
    cities = [_arguments(c.arguments) for c in reply.tool_calls if c.name == "weather"]
    if len(cities) > 1:
        return Found.WORKS, f"{len(cities)} calls in one reply"
    told = "one call in a reply" if cities else f"no call: {_said(reply)}"
    return Found.NO, told


def _schema(reply: ModelReply) -> Verdict:
    answer = _arguments(reply.text)
    if answer is not None and list(answer) == ["colour"] and answer["colour"] in _COLOURS:
        return Found.ENFORCED, ""
    if reply.finish_reason == "length":
        return Found.NOT_ENFORCED, f"cut at {_MOST_TOKENS} tokens: {_said(reply)}"
    return Found.NOT_ENFORCED, _said(reply)


def _reasoning(replies: list[ModelReply]) -> Check:
    name = "reasoning apart"
    if any(reply.reasoning for reply in replies):
        return Check(name, Found.WORKS)
    if any("<think>" in reply.text or "</think>" in reply.text for reply in replies):
        return Check(name, Found.NO, "it thinks within the text")
    return Check(name, Found.NO, "no thinking seen")


_REQUESTS: tuple[tuple[str, ModelRequest, Judge], ...] = (
    ("tool call", _ask("What is 17 + 25? Use the tool add.", tools=_TOOLS), _called),
    (
        "tool call required",
        _ask("Only say hello. Do not use a tool.", tools=_TOOLS, tool_choice="required"),
        _required,
    ),
    (
        "tool call by name",
        _ask("What is 17 + 25? Use the tool add.", tools=_TOOLS, tool_choice="weather"),
        _named,
    ),
    (
        "parallel calls",
        _ask("Get the weather in Paris and in Rome, with two calls at once.", tools=_TOOLS),
        _parallel,
    ),
    (
        "JSON schema",
        _ask('Reply with exactly this JSON: {"colour": "blue", "size": 3}', schema=_SCHEMA),
        _schema,
    ),
)


def _arguments(text: str) -> dict[str, Any] | None:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast(dict[str, Any], found) if isinstance(found, dict) else None


def _said(reply: ModelReply) -> str:
    return _short(repr(reply.text)) if reply.text else f"empty, {reply.finish_reason}"


def _short(text: str, most: int = _EXCERPT) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
