"""Rows of the failure table: what the server, or the wire to it, does wrong."""

from __future__ import annotations

from functools import partial
from typing import Any

from manyhands.agents.report import Ending
from manyhands.testing.faults_acts import (
    ALWAYS,
    DONE,
    RIGHT,
    Act,
    End,
    body,
    bytewise,
    call_with,
    called,
    delta,
    event,
    forever,
    halved,
    in_one_write,
    instead,
    nothing,
    only_forever,
    said,
    status,
    then,
    unchanged,
    with_comments,
    with_empty_choices,
    with_repeats,
    without_done,
    without_end,
    without_finish,
    without_index,
)
from manyhands.testing.faults_table import By, Fault, Group, Stage
from manyhands.testing.faults_task import ARGUMENTS, LOOK, call, encode, say

TAKEN, RETRIED, TOLD = By.TAKEN, By.RETRIED, By.TOLD

#: Deadline of a request in the rows that make one late.
_SHORT = 1.0

_shape = partial(Fault, Group.SHAPE)
_http = partial(Fault, Group.HTTP)
_connection = partial(Fault, Group.CONNECTION)
_usage = partial(Fault, Group.USAGE)

# -------------------------------------------------------------------- response shape

_HTML = "<!DOCTYPE html><html><body><h1>It works!</h1></body></html>"
_PAIR = [
    {**call(LOOK, RIGHT)["tool_calls"][0], "id": "call_0"},
    {**call(LOOK, encode({"floor": 3, "key": "Blau"}))["tool_calls"][0], "id": "call_0"},
]

_SHAPE = (
    _shape(
        "no-choices",
        "`choices` is empty",
        body({"object": "chat.completion", "choices": []}),
        by=RETRIED,
    ),
    _shape(
        "choices-null",
        "`choices` is null",
        body({"object": "chat.completion", "choices": None}),
        by=RETRIED,
    ),
    _shape(
        "choices-missing",
        "an object that has nothing of an answer",
        body({"status": "ok"}),
        by=RETRIED,
    ),
    _shape(
        "message-null",
        "a choice whose message is null",
        body({"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]}),
        by=RETRIED,
        streamed=False,
    ),
    _shape("html-200", "HTML with status 200", body(_HTML, Content_Type="text/html"), by=RETRIED),
    _shape("empty-200", "status 200 and no body", body(""), by=RETRIED),
    _shape(
        "body-cut",
        "half of the JSON, and a Content-Length that fits",
        Act(edit=halved),
        by=RETRIED,
        streamed=False,
    ),
    _shape(
        "error-in-200",
        "status 200, and an error with code 503 in it",
        body({"error": {"message": "the model is loading", "code": 503}}),
        by=RETRIED,
    ),
    _shape(
        "error-in-200-bare",
        "status 200, and an error that is only text",
        body({"object": "error", "message": "internal error"}),
        by=RETRIED,
    ),
    _shape(
        "arguments-object", "arguments as an object, not as text", called(dict(ARGUMENTS)), by=TAKEN
    ),
    _shape("call-id-missing", "a call without an id", call_with(id=None), by=TAKEN),
    _shape("call-id-empty", "a call whose id is empty", call_with(id=""), by=TAKEN),
    _shape("call-type-missing", "a call without a type", call_with(type=None), by=TAKEN),
    _shape(
        "call-ids-equal",
        "two calls with one id",
        Act({**say(""), "tool_calls": _PAIR}, "tool_calls"),
        by=TAKEN,
    ),
    _shape(
        "call-without-function", "a call that has an id and no function", call_with(function=None)
    ),
    _shape("call-name-null", "a call whose name is null", called(name=None)),
    _shape("content-null", "content is null, and there is no call", said(None), by=TOLD),
    _shape(
        "content-parts",
        "the answer as a list of parts",
        said([{"type": "text", "text": "${final}"}]),
        at=Stage.ANSWER,
        by=TAKEN,
    ),
    _shape(
        "fields-null",
        "fields of a message that are null in place of absent",
        said("${final}", tool_calls=None, function_call=None, refusal=None, audio=None),
        at=Stage.ANSWER,
        by=TAKEN,
    ),
    _shape(
        "finish-null",
        "a call, and the finish reason is null",
        called(finish=None),
        by=TAKEN,
        streamed=False,
    ),
    _shape(
        "function-call-legacy",
        "`function_call` in place of `tool_calls`",
        said(None, "function_call", function_call={"name": LOOK, "arguments": RIGHT}),
    ),
)

# -------------------------------------------------------------------- HTTP status

_BUSY = "too many requests"
_PAST = "Wed, 21 Oct 2015 07:28:00 GMT"

_HTTP = (
    _http(
        "429-retry-after", "429, `Retry-After: 1`", status(429, _BUSY, Retry_After="1"), by=RETRIED
    ),
    _http(
        "429-retry-after-date",
        "429, `Retry-After` is a date",
        status(429, _BUSY, Retry_After=_PAST),
        by=RETRIED,
    ),
    _http(
        "429-retry-after-thrice",
        "429 three times, `Retry-After: 0`",
        status(429, _BUSY, Retry_After="0"),
        times=3,
        by=RETRIED,
    ),
    _http("429-once", "429 without `Retry-After`", status(429, _BUSY), by=RETRIED),
    _http(
        "429-thrice",
        "429 three times, without `Retry-After`",
        status(429, _BUSY),
        times=3,
        by=RETRIED,
    ),
    _http(
        "429-tomorrow",
        "429, `Retry-After` is a day, every time",
        status(429, "quota used up", Retry_After="86400"),
        times=ALWAYS,
        ends=Ending.MODEL,
    ),
    _http("503-once", "503", status(503, "loading the model"), by=RETRIED),
    _http("500-once", "500", status(500, "CUDA error"), by=RETRIED),
    _http("500-thrice", "500 three times", status(500, "CUDA error"), times=3, by=RETRIED),
    _http(
        "502-html", "502 and a proxy's HTML", body(_HTML, 502, Content_Type="text/html"), by=RETRIED
    ),
    _http("408-once", "408", status(408, "request timeout"), by=RETRIED),
    _http(
        "500-always",
        "500 every time",
        status(500, "CUDA error"),
        times=ALWAYS,
        at=Stage.ANY,
        ends=Ending.MODEL,
    ),
    _http(
        "400-always",
        "400 every time",
        status(400, "unknown field"),
        times=ALWAYS,
        at=Stage.ANY,
        ends=Ending.MODEL,
    ),
    _http(
        "401-always",
        "401 every time",
        status(401, "invalid API key"),
        times=ALWAYS,
        at=Stage.ANY,
        ends=Ending.MODEL,
    ),
)

# -------------------------------------------------------------------- connection

_CONNECTION = (
    _connection(
        "dropped",
        "closed before a byte of the answer",
        Act(head=False, edit=nothing, then=End.CLOSES),
        by=RETRIED,
    ),
    _connection(
        "dropped-answer",
        "the same, where the answer should come",
        Act(head=False, edit=nothing, then=End.CLOSES),
        at=Stage.ANSWER,
        by=RETRIED,
    ),
    _connection(
        "closed-midway",
        "closed in the middle of the body",
        Act(edit=halved, then=End.CLOSES),
        by=RETRIED,
    ),
    _connection(
        "reset-midway",
        "reset in the middle of the body",
        Act(edit=halved, then=End.RESETS),
        by=RETRIED,
    ),
    _connection(
        "stalled",
        "no byte, and the connection stays open",
        Act(head=False, edit=nothing, then=End.HOLDS),
        by=RETRIED,
        seconds=_SHORT,
    ),
    _connection(
        "stalled-midway",
        "silence in the middle of the body",
        Act(edit=halved, then=End.HOLDS),
        by=RETRIED,
        seconds=_SHORT,
    ),
    _connection(
        "drip",
        "blanks, one at a time, without an end",
        Act(edit=only_forever(b" "), pace=0.05),
        by=RETRIED,
        streamed=False,
        seconds=_SHORT,
    ),
    _connection(
        "length-too-long",
        "Content-Length promises more than comes",
        Act(length=100),
        by=RETRIED,
        streamed=False,
    ),
    _connection(
        "length-too-short",
        "Content-Length is less than what comes",
        Act(length=-100),
        by=RETRIED,
        streamed=False,
    ),
    _connection(
        "not-gzip",
        "`Content-Encoding: gzip`, and it is not",
        Act(headers={"Content-Encoding": "gzip"}),
        by=RETRIED,
    ),
    _connection(
        "stalled-always",
        "no byte, every time",
        Act(head=False, edit=nothing, then=End.HOLDS),
        times=ALWAYS,
        ends=Ending.MODEL,
        streamed=False,
        seconds=0.2,
    ),
)


# -------------------------------------------------------------------- usage


def _used(put: Any, got: Any) -> dict[str, Any]:
    return {"prompt_tokens": put, "completion_tokens": got, "total_tokens": 0}


_USAGE = (
    _usage(
        "usage-zero",
        "nothing was used, it says",
        Act(usage=_used(0, 0)),
        times=ALWAYS,
        at=Stage.ANY,
        by=TAKEN,
    ),
    _usage(
        "usage-negative",
        "less than nothing",
        Act(usage=_used(-500, -20)),
        times=ALWAYS,
        at=Stage.ANY,
        by=TAKEN,
    ),
    _usage(
        "usage-absurd",
        "a million millions of tokens",
        Act(usage=_used(10**12, 10**12)),
        times=ALWAYS,
        at=Stage.ANY,
        by=TAKEN,
    ),
    _usage(
        "usage-text",
        "words in place of numbers",
        Act(usage=_used("many", "few")),
        times=ALWAYS,
        at=Stage.ANY,
        by=TAKEN,
    ),
    _usage(
        "usage-missing", "it does not say", Act(usage=None), times=ALWAYS, at=Stage.ANY, by=TAKEN
    ),
)

# -------------------------------------------------------------------- stream


_stream = partial(Fault, Group.STREAM, whole=False)

_ERROR = event({"error": {"message": "the worker died", "type": "server_error"}})
_TOKEN = delta({"content": "and so on "})

_STREAM = (
    _stream("stream-error", "an error event in the middle", Act(edit=then(_ERROR)), by=RETRIED),
    _stream(
        "stream-error-named",
        "`event: error` in the middle",
        Act(edit=then(b"event: error\n" + _ERROR)),
        by=RETRIED,
    ),
    _stream(
        "stream-error-llama",
        "`error:` in place of `data:` (llama.cpp)",
        Act(edit=then(b'error: {"code":500,"message":"slot failed"}\n\n')),
        by=RETRIED,
    ),
    _stream(
        "stream-no-json",
        "an event that is not JSON",
        Act(edit=then(b"data: {oops\n\n")),
        by=RETRIED,
    ),
    _stream("stream-cut-call", "a clean end in the middle of a call", Act(edit=halved), by=RETRIED),
    _stream(
        "stream-no-end", "neither a finish reason nor `[DONE]`", Act(edit=without_end), by=RETRIED
    ),
    _stream("stream-nothing", "headers, and a clean end", Act(edit=nothing), by=RETRIED),
    _stream(
        "stream-done-only", "`[DONE]`, and nothing before it", Act(edit=instead(DONE)), by=RETRIED
    ),
    _stream(
        "stream-drip",
        "one byte at a time, without an end",
        Act(edit=only_forever(b":"), pace=0.05),
        by=RETRIED,
        seconds=_SHORT,
    ),
    _stream(
        "stream-pings",
        "comments, and no token",
        Act(edit=only_forever(b": ping\n\n"), pace=0.05),
        by=RETRIED,
        seconds=_SHORT,
    ),
    _stream(
        "stream-endless",
        "text without an end",
        Act(edit=lambda pieces: forever(_TOKEN)(pieces[:1]), pace=0.01),
        by=RETRIED,
        seconds=_SHORT,
    ),
    _stream(
        "stream-held",
        "a finish reason, no `[DONE]`, and the connection stays open",
        Act(edit=without_done, then=End.HOLDS),
        seconds=_SHORT,
    ),
    _stream("stream-no-done", "a finish reason and no `[DONE]`", Act(edit=without_done), by=TAKEN),
    _stream(
        "stream-no-finish", "`[DONE]` and no finish reason", Act(edit=without_finish), by=TAKEN
    ),
    _stream(
        "stream-bytewise",
        "cut at every byte, inside of characters and of lines",
        Act(edit=bytewise),
        at=Stage.ANY,
        times=2,
        by=TAKEN,
    ),
    _stream(
        "stream-one-write",
        "all events in one write",
        Act(edit=in_one_write),
        at=Stage.ANY,
        times=2,
        by=TAKEN,
    ),
    _stream(
        "stream-comments",
        "comments, CRLF, ids, no blank after `data:`",
        Act(edit=with_comments),
        at=Stage.ANY,
        times=2,
        by=TAKEN,
    ),
    _stream(
        "stream-empty-choices",
        "events without choices, deltas that are null",
        Act(edit=with_empty_choices),
        at=Stage.ANY,
        times=2,
        by=TAKEN,
    ),
    _stream(
        "stream-no-index", "pieces of a call without an index", Act(edit=without_index), by=TAKEN
    ),
    _stream(
        "stream-repeats", "id and name in every piece of a call", Act(edit=with_repeats), by=TAKEN
    ),
    _stream(
        "stream-usage",
        "usage that lies, in a stream",
        Act(usage=_used(0, 10**12), edit=unchanged),
        at=Stage.ANY,
        times=2,
        by=TAKEN,
    ),
)

WIRE_FAULTS = (*_SHAPE, *_HTTP, *_CONNECTION, *_USAGE, *_STREAM)
