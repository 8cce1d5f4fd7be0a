"""What the tests of telemetry share: runs that were let go in the middle, their spans, a collector.

The collector is a real OTLP/HTTP receiver: it decodes what comes with the classes that
OpenTelemetry generates from its protocol, and answers as a test tells it to.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from manyhands.runtime import Event, Run, Runtime, Workflow
from manyhands.runtime.journal import Journal
from manyhands.telemetry import Content, Fold, Span
from manyhands.telemetry.reading import spans_of

Body = Callable[[Run, Any], Awaitable[Any]]


async def drive(
    path: Path, body: Body, *, run_id: str = "run", until: Callable[[], bool] | None = None
) -> None:
    """One process's part of a run: to its end, or until the process is as good as dead."""
    workflow = Workflow("told", body)
    async with Runtime.open(path, workflows=[workflow]) as runtime:
        known = any(info.run_id == run_id for info in runtime.runs())
        begin = runtime.resume(run_id) if known else runtime.start(workflow, None, run_id=run_id)
        handle = await begin
        if until is None:
            with suppress(Exception):
                await handle.result()
            return
        async for _ in runtime.events(run_id, follow=True):
            if until():
                return


def events_of(path: Path, run_id: str = "run") -> list[Event]:
    journal = Journal(path)
    try:
        return list(journal.events(run_id))
    finally:
        journal.close()


def spans_in(path: Path, run_id: str = "run", limit: int | None = None) -> list[Span]:
    """All spans of a run, each id once, each below one that is there."""
    journal = Journal(path)
    try:
        spans = list(spans_of(journal, run_id, limit))
    finally:
        journal.close()
    ids = {span.id for span in spans}
    assert len(ids) == len(spans)
    assert [span.name for span in spans if span.parent and span.parent not in ids] == []
    assert sum(not span.parent for span in spans) == 1
    assert all(span.end >= span.start and len(span.id) == 16 for span in spans)
    assert len({span.trace for span in spans}) == 1
    return spans


def fold(path: Path, events: Iterable[Event], *, content: bool = False) -> list[Span]:
    """The spans by these events alone."""
    journal = Journal(path)
    try:
        folding = Fold("run", journal.blob, Content(journal.blob) if content else None)
        return [span for event in events for span in folding.take(event)]
    finally:
        journal.close()


def one(spans: Iterable[Span], name: str) -> Span:
    found = [span for span in spans if span.name == name]
    assert len(found) == 1, [span.name for span in spans]
    return found[0]


def tree(spans: list[Span]) -> Any:
    """Names inside of names, in the order of time."""

    def below(parent: str) -> Any:
        inner = sorted((s for s in spans if s.parent == parent), key=lambda s: (s.start, s.name))
        return [(s.name, below(s.id)) if below(s.id) else s.name for s in inner]

    return below("")


def tokens(spans: Iterable[Span]) -> int:
    """Of the calls of models, as OpenTelemetry counts them."""
    names = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    return sum(span.facts.get(name, 0) for span in spans for name in names)


def spent(spans: Iterable[Span]) -> int:
    """As the budget was charged."""
    return sum(span.facts.get("manyhands.spent.tokens", 0) for span in spans)


# -------------------------------------------------------------------- a collector


@dataclass
class Received:
    """``answer`` is asked for the status of the n-th request (0, 1, …)."""

    url: str = ""
    answer: Callable[[int, ExportTraceServiceRequest], int] = lambda n, request: 200
    rejected: int = 0
    requests: list[ExportTraceServiceRequest] = field(
        default_factory=list[ExportTraceServiceRequest]
    )
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    asked: int = 0

    @property
    def spans(self) -> list[Any]:
        """Of the requests that were acknowledged."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def ids(self) -> list[str]:
        return [span.span_id.hex() for span in self.spans]


def _receiver(received: Received) -> type[BaseHTTPRequestHandler]:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            assert self.headers["content-type"] == "application/x-protobuf"
            request = ExportTraceServiceRequest.FromString(body)
            status = received.answer(received.asked, request)
            received.asked += 1
            if status == 200:
                received.requests.append(request)
                received.headers.append({k.lower(): v for k, v in self.headers.items()})
            answer = ExportTraceServiceResponse()
            if received.rejected:
                answer.partial_success.rejected_spans = received.rejected
                answer.partial_success.error_message = "too old"
            told = answer.SerializeToString() if status == 200 else b"not now"
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Receiver


@contextmanager
def collector(
    answer: Callable[[int, ExportTraceServiceRequest], int] | None = None, port: int = 0
) -> Iterator[Received]:
    received = Received()
    if answer is not None:
        received.answer = answer
    server = ThreadingHTTPServer(("127.0.0.1", port), _receiver(received))
    received.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
