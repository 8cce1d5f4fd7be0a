"""Spans through OpenTelemetry's own libraries: to a collector over OTLP/HTTP, or to a file.

Invariants: one batch is one request, sent until it is acknowledged or refused for good, so nothing
is lost while a collector is away; a file is written whole or not at all, in OTLP's JSON, of which
only the batch in hand is in memory.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit, urlunsplit

import requests
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_SERVICE_NAME,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from manyhands import __version__
from manyhands.errors import ConfigError, TelemetryError
from manyhands.runtime.transfer import whole_file
from manyhands.telemetry.names import ERROR_TYPE, SCHEMA_URL
from manyhands.telemetry.spans import Facts, Span

#: Spans of one request at most, and about how many characters of text they hold.
BATCH_SPANS, BATCH_TEXT = 512, 2_000_000
_DEFAULT = "http://localhost:4318"
_PATH = "/v1/traces"
#: The collector will never take it, whatever the batch: a person has to do something.
_NEVER = frozenset({401, 403, 404, 405, 407})
_REFUSED = frozenset({400, 413, 422})

Resending = Callable[[str], None]


def batches(spans: Iterable[Span]) -> Iterator[list[Span]]:
    """In the order given, none larger than a collector takes at once."""
    batch: list[Span] = []
    size = 0
    for span in spans:
        text = text_of(span)
        if batch and (len(batch) >= BATCH_SPANS or size + text > BATCH_TEXT):
            yield batch
            batch, size = [], 0
        batch.append(span)
        size += text
    if batch:
        yield batch


def text_of(span: Span) -> int:
    """About how many characters it takes."""
    facts = [span.facts, *(mark.facts for mark in span.marks)]
    return 300 + sum(
        30 + (len(v) if isinstance(v, str) else 8) for each in facts for v in each.values()
    )


# -------------------------------------------------------------------- as the libraries have them


class _Span(ReadableSpan):
    """With the number of marks that did not fit."""

    def __init__(self, dropped: int, **all_else: Any) -> None:
        super().__init__(**all_else)
        self._dropped = dropped

    @property
    def dropped_events(self) -> int:
        return self._dropped


class Encoder:
    """Our spans as those of the SDK. The resource is this program's, or what ``OTEL_SERVICE_NAME``
    and ``OTEL_RESOURCE_ATTRIBUTES`` say."""

    def __init__(self) -> None:
        named = os.environ.get(OTEL_SERVICE_NAME, "") or "service.name=" in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        own = {} if named else {"service.name": "manyhands", "service.version": __version__}
        found = Resource.create(own, SCHEMA_URL).attributes
        # This process is not the one that did the work: nothing of it makes two exports differ.
        kept = {k: v for k, v in found.items() if k != "service.instance.id"}
        self._resource = Resource(kept, SCHEMA_URL)
        self._scope = InstrumentationScope("manyhands", __version__, SCHEMA_URL)

    def spans(self, spans: Iterable[Span]) -> list[ReadableSpan]:
        return [self._one(span) for span in spans]

    def _one(self, span: Span) -> ReadableSpan:
        facts = span.facts | ({ERROR_TYPE: span.error} if span.error else {})
        return _Span(
            span.dropped,
            name=span.name,
            context=_context(span.trace, span.id),
            parent=_context(span.trace, span.parent) if span.parent else None,
            resource=self._resource,
            attributes=_plain(facts),
            events=[Event(m.name, _plain(m.facts), _nanoseconds(m.at)) for m in span.marks],
            links=[Link(_context(x.trace, x.span), _plain(x.facts)) for x in span.links],
            kind=SpanKind.CLIENT if span.client else SpanKind.INTERNAL,
            instrumentation_scope=self._scope,
            status=Status(StatusCode.ERROR, span.message or span.error)
            if span.error
            else Status(StatusCode.UNSET),
            start_time=_nanoseconds(span.start),
            end_time=_nanoseconds(span.end),
        )


def _context(trace: str, span: str) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), False, TraceFlags(TraceFlags.SAMPLED))


def _nanoseconds(seconds: float) -> int:
    return min(max(0, round(seconds * 1e9)), 2**63 - 1)


def _plain(facts: Facts) -> Facts:
    """Numbers that 64 bits do not hold are text."""
    return {
        key: str(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
        for key, value in facts.items()
    }


# -------------------------------------------------------------------- to a collector


def endpoint_of(url: str | None) -> str:
    """Where traces go: ``url``, or OpenTelemetry's variables, or this machine's usual port.

    A URL without a path is a collector's base. Raises `ConfigError`.
    """
    if not url:
        traces = os.environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
        base = os.environ.get(OTEL_EXPORTER_OTLP_ENDPOINT) or _DEFAULT
        url = traces or base.removesuffix("/") + _PATH
    wrong = ConfigError(
        f"{url!r} is no http(s) URL of a collector", next="write http://localhost:4318"
    )
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise wrong from None
    if not fits:
        raise wrong
    return url if parts.path.strip("/") else urlunsplit(parts._replace(path=_PATH))


def shown_endpoint(endpoint: str) -> str:
    """Without a password that may stand in it."""
    parts = urlsplit(endpoint)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="", fragment=""))


@dataclass(slots=True)
class Sent:
    """What became of spans. ``refused``: the collector will not have them, whoever asks."""

    spans: int = 0
    refused: int = 0
    requests: int = 0
    why: str = ""

    def add(self, other: Sent) -> None:
        self.spans += other.spans
        self.refused += other.refused
        self.requests += other.requests
        self.why = other.why or self.why


class Collector:
    """One endpoint, with headers, certificates, compression and timeout as the variables
    ``OTEL_EXPORTER_OTLP_*`` say. Use as a context manager."""

    def __init__(self, url: str | None) -> None:
        self.endpoint = endpoint_of(url)
        self._encoder = Encoder()
        self._status = 0
        self._rejected = 0
        self._why = ""
        session = requests.Session()
        session.hooks["response"].append(self._hear)
        # What goes wrong is told by us, once, and not for each try.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        self._exporter = OTLPSpanExporter(self.endpoint, session=session, max_request_size=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exporter.shutdown()

    def _hear(self, response: requests.Response, *_: Any, **__: Any) -> None:
        self._status = response.status_code
        self._rejected = 0
        if not response.ok:
            self._why = " ".join(response.text[:300].split())
            return
        if "protobuf" in response.headers.get("content-type", ""):
            try:
                told = ExportTraceServiceResponse.FromString(response.content).partial_success
            except DecodeError:
                return
            self._rejected, self._why = told.rejected_spans, told.error_message[:300]

    def send(self, spans: Sequence[Span]) -> Sent | None:
        """Try to send one batch. None: the collector is away, or asks to be left alone for now.

        A batch that it refuses is sent in halves; a single span that it refuses is counted as
        that. Raises `TelemetryError` where a person has to do something.
        """
        if not spans:
            return Sent()
        self._status, self._rejected, self._why = 0, 0, ""
        if self._exporter.export(self._encoder.spans(spans)) is SpanExportResult.SUCCESS:
            refused = min(self._rejected, len(spans))
            return Sent(len(spans) - refused, refused, 1, self._why if refused else "")
        if self._status in _NEVER:
            raise TelemetryError(
                f"{shown_endpoint(self.endpoint)} answers {self._status}: {self._why or 'nothing'}",
                next="correct the URL, or OTEL_EXPORTER_OTLP_HEADERS; what was not sent is kept",
            )
        if self._status not in _REFUSED:
            return None
        if len(spans) == 1:
            return Sent(0, 1, 1, f"{self._status}: {self._why}")
        half = len(spans) // 2
        found = Sent(requests=1)
        for part in (spans[:half], spans[half:]):
            told = self.send(part)
            if told is None:  # the whole batch again: ids make what came through idempotent
                return None
            found.add(told)
        return found

    @property
    def trouble(self) -> str:
        """Why the last try came to nothing."""
        return f"it answers {self._status}: {self._why}" if self._status else "it does not answer"


# -------------------------------------------------------------------- to a file


def write_json(spans: Iterable[Span], path: Path) -> Sent:
    """One document of OTLP JSON. Raises `ConfigError` where it cannot be written."""
    sent = Sent()
    with whole_file(path) as out:
        _write(spans, out, sent)
    return sent


def _write(spans: Iterable[Span], out: IO[str], sent: Sent) -> None:
    encoder = Encoder()
    for batch in batches(spans):
        document = as_json(encoder.spans(batch))
        (resource,) = document["resourceSpans"]
        (scope,) = resource.pop("scopeSpans")
        found: list[Any] = scope.pop("spans")
        if not sent.spans:
            head = json.dumps({"resourceSpans": [resource | {"scopeSpans": [scope]}]})
            out.write(head.removesuffix("}]}]}") + ', "spans": [\n')
        for span in found:
            out.write((",\n" if sent.spans else "") + json.dumps(span, ensure_ascii=False))
            sent.spans += 1
    out.write("\n]}]}]}\n" if sent.spans else '{"resourceSpans": []}\n')


def as_json(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """OTLP's JSON is protobuf's, but that ids are hexadecimal and enumerations are numbers."""
    request = encode_spans(spans)
    document = MessageToDict(request, use_integers_for_enums=True)
    for resource in document.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                for each in (span, *span.get("links", ())):
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if key in each:
                            each[key] = base64.b64decode(each[key]).hex()
    return document
