"""Chat-completions answers, whole and streamed, to a `ModelReply`; and what is wrong with the rest.

Invariant: whatever bytes come in, a complete reply comes out or a `ModelError` does. A reply that
the server did not finish is never taken for one that it did.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

from manyhands.errors import (
    ModelContextFull,
    ModelError,
    ModelMalformed,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
)
from manyhands.ports import ModelReply, ToolCall, Usage
from manyhands.redaction import MARK, Redactor

OVERLOADED = frozenset({429, 503, 529})
#: How servers say that a request is longer than the model can read: llama.cpp's error type,
#: OpenAI's code, and the words of vLLM, SGLang, TGI and Ollama.
_TOO_LONG = re.compile(
    r"exceed_context_size|context_length_exceeded|maximum context|context (size|window|length)"
    r"|longer than the (model's|maximum)|prompt is too long|too many (input )?tokens"
    r"|must be <= \d+. Given",
    re.IGNORECASE,
)
#: How much of a server's own words goes into an error.
_EXCERPT = 300


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who is spoken to, for messages; what ``secrets`` knows is kept out of them."""

    name: str
    url: str
    secrets: Redactor = field(default_factory=Redactor)

    def excerpt(self, text: str, *, last: bool = False) -> str:
        """The beginning of ``text``, or its ``last`` part. Secrets go before it is cut."""
        text = " ".join(self.secrets.text(text).split())
        if len(text) <= _EXCERPT:
            return text
        return "…" + text[1 - _EXCERPT :] if last else text[: _EXCERPT - 1] + "…"

    def malformed(
        self, what: str, body: bytes | str = b"", *, last: bool = False
    ) -> ModelMalformed:
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        said = f": {self.excerpt(text, last=last)}" if text else ""
        return ModelMalformed(
            f"model {self.name} at {self.url}: {what}{said}",
            next="check that the URL is that of an OpenAI-compatible server (…/v1)",
        )


# -------------------------------------------------------------------- failures


def failure(speaker: Speaker, status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
    """The error for an answer whose status is not 200."""
    said = speaker.excerpt(_message(body))
    what = f"model {speaker.name} at {speaker.url}: HTTP {status}{': ' + said if said else ''}"
    if status in OVERLOADED:
        return ModelOverloaded(
            what,
            retry_after=retry_after(headers.get("Retry-After")),
            next="wait, or lower the endpoint's concurrency",
        )
    if status == 408:
        return ModelTimeout(what, next="try again, or ask for less at once")
    if status >= 500:
        return ModelUnreachable(what, next="read the server's log")
    if status in (400, 413, 422) and _TOO_LONG.search(body.decode("utf-8", "replace")):
        return ModelContextFull(what, next="give it less, or a model with a longer context")
    hints = {401: "check the API key", 403: "check the API key", 404: "check URL and model name"}
    return ModelRefused(what, next=hints.get(status, "correct the request or the model's settings"))


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds from a ``Retry-After`` header, which holds seconds or a date; None where neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if seconds == seconds and seconds < 1e9 else None


def _message(body: bytes) -> str:
    """What a server says in an error: ``error.message``, ``message``, ``detail``, or all of it."""
    text = body.decode("utf-8", "replace")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = cast(dict[str, Any], found)[key]
    return found if isinstance(found, str) else text


# -------------------------------------------------------------------- whole answers


def parse_reply(
    speaker: Speaker, body: bytes, seconds: float, first_token_seconds: float | None = None
) -> ModelReply:
    """A chat completion. Raises `ModelMalformed`, or what an error inside a 200 stands for."""
    answer = _object(speaker, body)
    choice = _choice(speaker, answer, body)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise speaker.malformed("a choice without a message", body)
    told = cast(dict[str, Any], message)
    calls = tuple(
        _call(speaker, at, each, body)
        for at, each in enumerate(_calls(speaker, told.get("tool_calls"), body))
    )
    return ModelReply(
        text=_text(speaker, told.get("content"), body),
        tool_calls=calls,
        finish_reason=_finish(choice.get("finish_reason"), bool(calls)),
        usage=parse_usage(answer.get("usage")),
        raw=body,
        seconds=seconds,
        first_token_seconds=first_token_seconds,
        reasoning=_reasoning(told),
    )


def _object(speaker: Speaker, body: bytes | str) -> dict[str, Any]:
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise speaker.malformed("the answer is not JSON", body) from error
    if not isinstance(found, dict):
        raise speaker.malformed("the answer is not a JSON object", body)
    answer = cast(dict[str, Any], found)
    if answer.get("error") or answer.get("object") == "error":
        raise _inner_failure(speaker, answer.get("error") or answer, body)
    return answer


def _inner_failure(speaker: Speaker, error: Any, body: bytes | str) -> ModelError:
    """An error inside an answer of status 200: by its code where it has one."""
    raw = body if isinstance(body, bytes) else body.encode("utf-8", "replace")
    found = cast(dict[str, Any], error) if isinstance(error, dict) else {}
    for key in ("code", "status"):
        code = str(found.get(key, ""))
        if code.isdecimal() and 400 <= int(code) <= 599:
            return failure(speaker, int(code), {}, raw)
    return speaker.malformed("an error in place of an answer", _message(raw))


def _choice(speaker: Speaker, answer: Mapping[str, Any], body: bytes | str) -> dict[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise speaker.malformed("an answer without choices", body)
    first = cast(list[Any], choices)[0]
    if not isinstance(first, dict):
        raise speaker.malformed("a choice that is not an object", body)
    return cast(dict[str, Any], first)


def _text(speaker: Speaker, content: Any, body: bytes | str) -> str:
    """A message's text: a string, null, or parts of which those of type text count."""
    if content is None:
        return ""
    if isinstance(content, str):
        return clean(content)
    if isinstance(content, list):
        parts = [cast(dict[str, Any], p) for p in cast(list[Any], content) if isinstance(p, dict)]
        return clean("".join(str(part.get("text") or "") for part in parts))
    raise speaker.malformed("a message whose content is no text", body)


def _reasoning(told: Mapping[str, Any]) -> str:
    """Thinking that the server set apart: ``reasoning_content`` (vLLM, llama.cpp, DeepSeek) or
    ``reasoning`` (OpenRouter, newer vLLM), where it is text."""
    for key in ("reasoning_content", "reasoning"):
        found = told.get(key)
        if isinstance(found, str) and found:
            return clean(found)
    return ""


def _call(speaker: Speaker, at: int, call: Any, body: bytes | str) -> ToolCall:
    found = cast(dict[str, Any], call) if isinstance(call, dict) else {}
    function = found.get("function")
    if not isinstance(function, dict):
        raise speaker.malformed("a tool call without a function", body)
    told = cast(dict[str, Any], function)
    arguments = _arguments(told.get("arguments"))
    name = told.get("name")
    return make_call(at, found.get("id"), name if isinstance(name, str) else "", arguments)


def _arguments(found: Any) -> str:
    """JSON text; servers that give the object itself are taken at their word."""
    if found is None:
        return ""
    return clean(found if isinstance(found, str) else json.dumps(found, ensure_ascii=False))


def make_call(at: int, given: Any, name: str, arguments: str) -> ToolCall:
    """``given``: the server's id; where it is missing, one that the same reply always gets."""
    if not isinstance(given, str) or not given:
        seed = f"{at}\n{name}\n{arguments}"
        given = hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:9]
    return ToolCall(given, clean(name), arguments)


def _finish(reason: Any, called: bool) -> str:
    if isinstance(reason, str) and reason:
        return reason
    return "tool_calls" if called else "stop"


def parse_usage(found: Any) -> Usage | None:
    """What the server says it used; None where it says nothing, or nothing that can be."""
    if not isinstance(found, dict):
        return None
    told = cast(dict[str, Any], found)
    put, got = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    if put is None or got is None:
        return None
    details = told.get("prompt_tokens_details")
    cached = cast(dict[str, Any], details).get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(put, got, _count(cached) or 0)


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 2**53 else None


def _calls(speaker: Speaker, value: Any, body: bytes) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return cast(list[Any], value)
    raise speaker.malformed("tool calls that are not a list", body)


def clean(text: str) -> str:
    """Halves of surrogate pairs joined, and replaced where they stay alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def redacted(reply: ModelReply, secrets: Redactor) -> ModelReply:
    """``reply`` without ``secrets``. Where its own words held one, ``raw`` goes as a whole: the
    events of a stream cut a secret in two, and there it is not found."""
    if not secrets:
        return reply
    hide = secrets.text
    calls = tuple(ToolCall(hide(c.id), hide(c.name), hide(c.arguments)) for c in reply.tool_calls)
    found = replace(reply, text=hide(reply.text), tool_calls=calls, reasoning=hide(reply.reasoning))
    raw = secrets.bytes(reply.raw) if found == reply else MARK.encode()
    return reply if found == reply and raw == reply.raw else replace(found, raw=raw)


# -------------------------------------------------------------------- streamed answers


class Lines:
    """Bytes in any cuts, to the ``data:`` of server-sent events."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of every event that ``chunk`` completes."""
        searched = len(self._rest)
        self._rest += chunk
        start = 0
        while (end := self._rest.find(b"\n", max(start, searched))) >= 0:
            line = bytes(self._rest[start:end]).rstrip(b"\r")
            start = end + 1
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif line.startswith(b"error:"):  # llama.cpp
                self._data.append(b'{"error":' + line[6:] + b"}")
            elif not line:
                yield from self.flush()
        del self._rest[:start]

    def flush(self) -> Iterator[bytes]:
        """The event so far; at the end of a stream its last blank line may be missing."""
        if self._data:
            data, self._data = b"\n".join(self._data), []
            yield data

    def rest(self) -> Iterator[bytes]:
        yield from self.feed(b"\n")
        yield from self.flush()


@dataclass(slots=True)
class _Partial:
    id: Any = None
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])


class StreamedReply:
    """Collects a streamed answer. ``on_text`` is given every piece of text as it comes."""

    def __init__(self, speaker: Speaker, on_text: Callable[[str], None] | None) -> None:
        self._speaker = speaker
        self._on_text = on_text
        self._text: list[str] = []
        self._calls: dict[Any, _Partial] = {}
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._thoughts: list[str] = []
        self.ended = False

    @property
    def begun(self) -> bool:
        """Whether the model has said or thought anything."""
        return bool(self._thoughts or self._text or self._calls or self._finish is not None)

    def take(self, data: bytes) -> None:
        """One event. Raises `ModelMalformed`, or what an error event stands for."""
        if data.strip() == b"[DONE]":
            self.ended = True
            return
        event = _object(self._speaker, data)
        self._usage = parse_usage(event.get("usage")) or self._usage
        choices = event.get("choices")
        if not isinstance(choices, list) or not choices:
            return  # the last event, which holds the usage alone
        choice = _choice(self._speaker, event, data)
        reason = choice.get("finish_reason")
        self._finish = reason if isinstance(reason, str) and reason else self._finish
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._extend(cast(dict[str, Any], delta), data)

    def _extend(self, delta: dict[str, Any], data: bytes) -> None:
        if thought := _reasoning(delta):
            self._thoughts.append(thought)
        content = delta.get("content")
        text = content if isinstance(content, str) else _text(self._speaker, content, data)
        if text:
            self._text.append(text)
            if self._on_text is not None:
                self._on_text(clean(text))
        for piece in _calls(self._speaker, delta.get("tool_calls"), data):
            if not isinstance(piece, dict):
                raise self._speaker.malformed("a piece of a call that is not an object", data)
            self._add_call(cast(dict[str, Any], piece))

    def _add_call(self, piece: dict[str, Any]) -> None:
        """A piece of a call; which one is said by its index, or else by a new id."""
        at = piece.get("index")
        if not isinstance(at, int):
            known = {call.id: key for key, call in self._calls.items() if call.id}
            last = next(reversed(self._calls), 0)
            named = piece.get("id")
            at = known.get(named, len(self._calls)) if named else last
        call = self._calls.setdefault(at, _Partial())
        call.id = call.id or piece.get("id")
        function = piece.get("function")
        if not isinstance(function, dict):
            return
        told = cast(dict[str, Any], function)
        name = told.get("name")
        call.name = call.name or (name if isinstance(name, str) else "")
        arguments = told.get("arguments")
        if arguments is not None:
            whole = arguments if isinstance(arguments, str) else json.dumps(arguments)
            call.arguments.append(whole)

    def _excerpt(self, raw: bytes) -> bytes:
        """Nothing of it where the answer holds a secret: events cut it in two."""
        said = ["".join(self._text), "".join(self._thoughts)]
        said += ["".join(call.arguments) for call in self._calls.values()]
        return b"" if any(self._speaker.secrets.text(text) != text for text in said) else raw

    def reply(self, raw: bytes, seconds: float, first_token_seconds: float | None) -> ModelReply:
        """The whole. Raises `ModelMalformed` where the stream stopped before it was done."""
        if self._finish is None and not self.ended:
            what = "the stream ended before the answer did"
            raise self._speaker.malformed(what, self._excerpt(raw), last=True)
        if self._finish is None and not self.begun:
            raise self._speaker.malformed("a stream without an answer", raw, last=True)
        calls = tuple(
            make_call(at, call.id, call.name, clean("".join(call.arguments)))
            for at, call in enumerate(self._calls.values())
        )
        return ModelReply(
            text=clean("".join(self._text)),
            tool_calls=calls,
            finish_reason=_finish(self._finish, bool(calls)),
            usage=self._usage,
            raw=raw,
            seconds=seconds,
            first_token_seconds=first_token_seconds,
            reasoning=clean("".join(self._thoughts)),
        )
