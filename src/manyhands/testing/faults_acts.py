"""What a faulty server does in place of answering well: as data, and as bytes.

Invariant: an `Act` fixes every byte that goes out and how the connection ends; nothing of it
depends on time but its ``pace``. An act whose message is None misdelivers the right answer, so
whoever takes what came of it for the whole can be caught.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

from manyhands.testing.faults_task import ARGUMENTS, LOOK, Talk, call, encode, say

#: Times that a fault that never goes away comes.
ALWAYS = 1_000_000

#: Usage as a server that counts would report it.
HONEST = "honest"


class End(StrEnum):
    """How an answer's connection ends."""

    ENDS = "ends"  # as HTTP wants it
    CLOSES = "closes"  # in the middle of what was promised
    RESETS = "resets"  # the same with a TCP reset
    HOLDS = "holds"  # open, and silent


#: The body's pieces (one for a whole answer, one for each event of a stream) to what is sent.
Edit = Callable[[list[bytes]], Iterable[bytes]]


def unchanged(pieces: list[bytes]) -> Iterable[bytes]:
    return pieces


@dataclass(frozen=True, slots=True)
class Act:
    """One answer. ``message`` None is the right one. In its strings ``${final}`` stands for the
    right final answer as text, and ``${number}`` for its number.

    ``usage``: `HONEST`, or what the server reports (None: nothing). ``edit`` changes the pieces
    of the body, ``pace`` seconds lie between two of them. ``head`` False: not even a status line
    is sent. ``length``: what Content-Length says beyond the truth.
    """

    message: Mapping[str, Any] | None = None
    finish: Any = "stop"
    usage: Any = HONEST
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    edit: Edit = unchanged
    pace: float = 0.0
    head: bool = True
    then: End = End.ENDS
    length: int = 0

    def said(self, talk: Talk) -> tuple[dict[str, Any], Any]:
        """The message and the reason of its end."""
        if self.message is None:
            return talk.well()
        number = talk.found or 0
        filled = _filled(self.message, {"final": talk.answer_text(number), "number": str(number)})
        return cast(dict[str, Any], filled), self.finish

    def pieces(self, talk: Talk, *, stream: bool) -> list[bytes]:
        """The body before ``edit``."""
        message, finish = self.said(talk)
        usage = honest(talk, message) if self.usage == HONEST else self.usage
        if not stream:
            return [whole(message, finish, usage)]
        options: dict[str, Any] = talk.body.get("stream_options") or {}
        asked = options.get("include_usage") or self.usage != HONEST
        return events(message, finish, usage if asked else None)


def instead(body: bytes | str | Any) -> Edit:
    """This body, whatever should have come: bytes and text as they are, all else as JSON."""
    if isinstance(body, str):
        raw = body.encode()
    else:
        raw = body if isinstance(body, bytes) else encode(body).encode()
    return lambda _: [raw]


#: The right arguments of the call.
RIGHT = encode(ARGUMENTS)


def called(arguments: Any = RIGHT, name: Any = LOOK, finish: Any = "tool_calls") -> Act:
    """One call."""
    return Act(call(name, arguments), finish)


def call_with(**fields: Any) -> Act:
    """The right call with these fields of its own; None: left out."""
    made = {**call(LOOK, RIGHT)["tool_calls"][0], **fields}
    made = {key: value for key, value in made.items() if value is not None}
    return Act({**say(""), "tool_calls": [made]}, "tool_calls")


def said(content: Any, finish: Any = "stop", **more: Any) -> Act:
    """A text; ``more``: further fields of the message."""
    return Act({"role": "assistant", "content": content, **more}, finish)


def body(instead_of_all: Any, status: int = 200, **headers: str) -> Act:
    """This body; in the names of headers ``_`` stands for ``-``."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return Act(edit=instead(instead_of_all), status=status, headers=told)


def status(code: int, message: str, **headers: str) -> Act:
    """An error as OpenAI's servers put it."""
    return body({"error": {"message": message, "type": "error", "code": code}}, code, **headers)


# -------------------------------------------------------------------- bodies


def whole(message: Mapping[str, Any], finish: Any, usage: Any) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return encode(_envelope("chat.completion", [choice], usage)).encode()


def events(message: Mapping[str, Any], finish: Any, usage: Any) -> list[bytes]:
    """The events of a stream, ``[DONE]`` among them."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for key, value in message.items():
        deltas += _deltas(key, value)
    choices: list[Any] = [{"index": 0, "delta": d, "finish_reason": None} for d in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    made = [event(_envelope("chat.completion.chunk", [choice])) for choice in choices]
    if usage is not None:
        made.append(event(_envelope("chat.completion.chunk", [], usage)))
    return [*made, DONE]


DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    return b"data: " + encode(value).encode() + b"\n\n"


def delta(value: Mapping[str, Any]) -> bytes:
    """An event of a stream that adds ``value``."""
    return event(
        _envelope("chat.completion.chunk", [{"index": 0, "delta": value, "finish_reason": None}])
    )


def honest(talk: Talk, message: Mapping[str, Any]) -> dict[str, int]:
    put = len(encode(talk.body)) // 4 + 1
    got = len(encode(message)) // 4 + 1
    return {"prompt_tokens": put, "completion_tokens": got, "total_tokens": put + got}


def _envelope(kind: str, choices: list[Any], usage: Any = None) -> dict[str, Any]:
    told = {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": "faulty"}
    return {**told, "choices": choices, **({} if usage is None else {"usage": usage})}


def _deltas(key: str, value: Any) -> Iterator[dict[str, Any]]:
    """A field of a message in the pieces that a stream gives it in."""
    if key == "role" or value is None:
        return
    if isinstance(value, str):
        yield from ({key: piece} for piece in _cut(value, 5))
    elif key == "tool_calls" and isinstance(value, list):
        for at, made in enumerate(cast(list[Any], value)):
            yield from ({key: [piece]} for piece in _call_pieces(at, made))
    else:
        yield {key: value}


def _call_pieces(at: int, made: Any) -> Iterator[dict[str, Any]]:
    told = cast(dict[str, Any], made)
    function = cast(dict[str, Any], told.get("function") or {})
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        yield {"index": at, **told}
        return
    yield {"index": at, **told, "function": {**function, "arguments": ""}}
    for piece in _cut(arguments, 7):
        yield {"index": at, "function": {"arguments": piece}}


def _cut(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace(f"${{{name}}}", text)
        return value
    if isinstance(value, Mapping):
        told = cast(Mapping[str, Any], value)
        return {key: _filled(each, names) for key, each in told.items()}
    if isinstance(value, list | tuple):
        return [_filled(each, names) for each in cast(list[Any], value)]
    return value


# -------------------------------------------------------------------- edits of a stream


def halved(pieces: list[bytes]) -> list[bytes]:
    """The first half of the bytes of one piece, or of several pieces."""
    if len(pieces) > 1:
        return pieces[: len(pieces) // 2]
    return [pieces[0][: len(pieces[0]) // 2]]


def nothing(_: list[bytes]) -> list[bytes]:
    return []


def then(*more: bytes) -> Edit:
    """The first half, and after it ``more``."""
    return lambda pieces: [*halved(pieces), *more]


def without_end(pieces: list[bytes]) -> list[bytes]:
    """All that the model said, and nothing that says that it is done."""
    return [p for p in pieces if p != DONE and b'"delta":{}' not in p]


def without_done(pieces: list[bytes]) -> list[bytes]:
    return [p for p in pieces if p != DONE]


def without_finish(pieces: list[bytes]) -> list[bytes]:
    """``[DONE]`` comes, but no finish reason before it."""
    return [p for p in pieces if b'"delta":{}' not in p]


def bytewise(pieces: list[bytes]) -> list[bytes]:
    """A write for each byte: a character and a line are cut at every place that there is."""
    return [bytes([byte]) for byte in b"".join(pieces)]


def with_comments(pieces: list[bytes]) -> list[bytes]:
    """CRLF, comments, names and ids of events, no space after ``data:``: allowed, and rare."""
    made: list[bytes] = [b": welcome\r\n\r\n"]
    for at, piece in enumerate(pieces):
        data = piece.removeprefix(b"data: ").rstrip(b"\n")
        made.append(b"id: %d\r\nevent: message\r\ndata:%s\r\n\r\n: ping\r\n\r\n" % (at, data))
    return made


def in_one_write(pieces: list[bytes]) -> list[bytes]:
    return [b"".join(pieces)]


def without_index(pieces: list[bytes]) -> list[bytes]:
    """The pieces of a call do not say which call they belong to."""
    return [_each_call(piece, _drop_index) for piece in pieces]


def with_repeats(pieces: list[bytes]) -> list[bytes]:
    """Id and name of a call in every piece of it, not in the first alone."""
    last: dict[str, Any] = {}

    def repeat(made: dict[str, Any]) -> None:
        if made.get("id"):
            last.update(id=made["id"], name=made["function"]["name"])
        made.update(id=last["id"], type="function")
        made["function"]["name"] = last["name"]

    return [_each_call(piece, repeat) for piece in pieces]


def with_empty_choices(pieces: list[bytes]) -> list[bytes]:
    """An event without choices first, and deltas that are null in between."""
    empty = event(_envelope("chat.completion.chunk", []))
    null = event({"choices": [{"index": 0, "delta": None, "finish_reason": None}]})
    return [empty, pieces[0], null, *pieces[1:]]


def _drop_index(made: dict[str, Any]) -> None:
    made.pop("index", None)


def _each_call(piece: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    if b'"tool_calls":[' not in piece:
        return piece
    found = json.loads(piece.removeprefix(b"data: "))
    for made in found["choices"][0]["delta"]["tool_calls"]:
        change(made)
    return event(found)


# -------------------------------------------------------------------- without an end


def forever(piece: bytes) -> Edit:
    """What comes, and then ``piece`` again and again."""

    def endless(pieces: list[bytes]) -> Iterator[bytes]:
        yield from pieces
        while True:
            yield piece

    return endless


def only_forever(piece: bytes) -> Edit:
    endless = forever(piece)
    return lambda _: endless([])
