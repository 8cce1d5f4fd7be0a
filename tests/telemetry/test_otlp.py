"""Spans through OpenTelemetry's libraries: what a collector and our own reader make of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from manyhands.agents.stepcheck import Read, Step, check_all, from_journal, read_trace
from manyhands.errors import ConfigError, TelemetryError
from manyhands.runtime import Run, Runtime
from manyhands.runtime.journal import Journal
from manyhands.telemetry import Content, Mark, Span
from manyhands.telemetry.following import Patience, deliver
from manyhands.telemetry.names import SCHEMA_URL
from manyhands.telemetry.otlp import (
    BATCH_SPANS,
    BATCH_TEXT,
    Collector,
    batches,
    endpoint_of,
    shown_endpoint,
    text_of,
    write_json,
)
from manyhands.telemetry.reading import spans_of
from manyhands.testing.models import ScriptedModel, answer
from tests.answering.stage import Stage as Answering
from tests.coding.stage import Stage as Coding
from tests.stepcheck.test_watch import SCRIPT, WATCH, Trial, role
from tests.telemetry.stage import collector, drive, one, spans_in, tokens

HOSTILE = "\ud800 half \x1b[31mred\x1b[0m \x00 \u202e “quoted” " + "x" * 1000


def span(name: str = "a", **facts: Any) -> Span:
    return Span("ab" * 16, "cd" * 8, "", name, 1.0, 2.0, facts)


# -------------------------------------------------------------------- our own reader


def both(path: Path, run_id: str, tmp_path: Path) -> tuple[Read, Read]:
    journal = Journal(path)
    try:
        file = tmp_path / "run.otlp.json"
        write_json(spans_of(journal, run_id, 1_000_000), file)
        return from_journal(journal.events(run_id), journal.blob), read_trace(file)
    finally:
        journal.close()


def told(step: Step) -> Any:
    calls = [(call.name, call.parsed, call.id) for call in step.calls]
    about = (step.agent, step.role, step.index, step.kind, step.fault)
    return about, step.text, calls, step.finish_reason, step.tokens


async def test_check_reads_an_answer_as_it_reads_the_journal(tmp_path: Path) -> None:
    await Answering(tmp_path).ask()
    journal, otlp = both(tmp_path / "journal.db", "asked", tmp_path)
    assert [told(s) for s in otlp.steps] == sorted(
        (told(s) for s in journal.steps),
        key=[told(s) for s in otlp.steps].index,
    )
    results = {(s.agent, s.index): [(r.name, r.text) for r in s.results] for s in journal.steps}
    assert {
        (s.agent, s.index): [(r.name, r.text) for r in s.results] for s in otlp.steps
    } == results
    given = {(s.agent, s.index): s.given for s in journal.steps}
    assert {(s.agent, s.index): s.given for s in otlp.steps} == given
    assert check_all(otlp) == check_all(journal) == ()


async def test_check_reads_a_delegation_as_it_reads_the_journal(tmp_path: Path) -> None:
    await Coding(tmp_path).solve()
    journal, otlp = both(tmp_path / "journal.db", "solved", tmp_path)
    key = lambda s: (s.agent, s.index)  # noqa: E731
    for mine, theirs in zip(
        sorted(journal.steps, key=key), sorted(otlp.steps, key=key), strict=True
    ):
        assert told(theirs) == told(mine)
        assert [r.text for r in theirs.results] == [r.text for r in mine.results]


@pytest.mark.parametrize("on_flag", ["nudge", "retry"])
async def test_check_reads_a_flagged_and_judged_run_as_it_reads_the_journal(
    tmp_path: Path, on_flag: str
) -> None:
    """The judge's request is paid and told, and is no step of the agent."""
    judge = ScriptedModel(lambda _: answer({"broken": True, "why": "No test was run."}), name="j")
    trial = Trial(tmp_path / "j.db", SCRIPT, role(on_flag), replace(WATCH, judge=judge))
    await trial.run()
    assert judge.requests
    spans = spans_in(tmp_path / "j.db", "r")
    async with Runtime.open(tmp_path / "j.db") as runtime:
        assert tokens(spans) == runtime.view("r").spent()["tokens"]
    assert [s.facts["manyhands.kind"] for s in spans if s.name == "chat j"] == ["none"] * len(
        judge.requests
    )
    journal, otlp = both(tmp_path / "j.db", "r", tmp_path)
    assert [told(step) for step in otlp.steps] == [told(step) for step in journal.steps]


async def test_a_file_is_otlp_json_and_the_same_each_time(tmp_path: Path) -> None:
    await Coding(tmp_path).solve(run_id="run")
    spans = spans_in(tmp_path / "journal.db")
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    assert write_json(iter(spans), first).spans == len(spans)
    write_json(spans_in(tmp_path / "journal.db"), second)
    assert first.read_bytes() == second.read_bytes()
    document = json.loads(first.read_text())
    (resource,) = document["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    assert scope["schemaUrl"] == SCHEMA_URL
    assert scope["scope"]["name"] == "manyhands"
    assert [s["spanId"] for s in scope["spans"]] == [s.id for s in spans]
    assert {len(s["traceId"]) for s in scope["spans"]} == {32}
    kinds = {s["name"].partition(" ")[0]: s["kind"] for s in scope["spans"]}
    assert (kinds["chat"], kinds["execute_tool"]) == (3, 1)
    assert not list(tmp_path.glob("*.partial"))


async def test_a_file_of_no_spans_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    write_json([], tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_text()) == {"resourceSpans": []}
    with pytest.raises(ConfigError, match="cannot write"):
        write_json([span()], tmp_path / "no" / "folder.json")


# -------------------------------------------------------------------- a collector


async def test_a_collector_has_all_spans_with_parents_and_tokens(tmp_path: Path) -> None:
    stage = Answering(tmp_path)
    await stage.ask(run_id="run")
    spans = spans_in(tmp_path / "journal.db")
    with collector() as received, Collector(received.url) as client:
        for batch in batches(spans):
            deliver(client, batch, Patience(0))
    assert received.ids == [s.id for s in spans]
    (root,) = [s for s in received.spans if not s.parent_span_id]
    assert root.name == "invoke_workflow answer"
    counted = 0
    for each in received.spans:
        facts = {a.key: a.value for a in each.attributes}
        if facts.get("gen_ai.operation.name") and each.name.startswith("chat "):
            counted += facts["gen_ai.usage.input_tokens"].int_value
            counted += facts["gen_ai.usage.output_tokens"].int_value
    assert counted == stage.spent["tokens"]
    (resource,) = received.requests[0].resource_spans
    assert resource.schema_url == SCHEMA_URL
    assert received.requests[0].ByteSize() < 62_000


def test_the_usual_variables_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url + "/")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        with Collector(None) as client:
            assert client.send([span()]) is not None
    assert received.headers[0]["api-key"] == "secret"
    assert received.headers[0]["content-encoding"] == "gzip"
    (resource,) = received.requests[0].resource_spans
    about = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert about["service.name"] == "shop"
    assert about["deployment.environment.name"] == "test"


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://here:4318", "http://here:4318/v1/traces"),
        ("http://here:4318/", "http://here:4318/v1/traces"),
        ("https://u:p@there/otlp/v1/traces?k=1", "https://u:p@there/otlp/v1/traces?k=1"),
    ],
)
def test_a_url_without_a_path_is_a_base(url: str, endpoint: str) -> None:
    assert endpoint_of(url) == endpoint
    assert "u:p" not in shown_endpoint(endpoint)
    assert "k=1" not in shown_endpoint(endpoint)


@pytest.mark.parametrize("url", ["ftp://here", "http://", "http://[", "grpc://here:4317"])
def test_what_is_no_url_of_a_collector_is_said(url: str) -> None:
    with pytest.raises(ConfigError, match="no http"):
        endpoint_of(url)


def test_the_endpoint_of_traces_goes_before_the_common_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert endpoint_of(None) == "http://localhost:4318/v1/traces"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1")
    assert endpoint_of(None) == "http://a:1/v1/traces"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:2/x")
    assert endpoint_of(None) == "http://b:2/x"


def test_a_batch_that_is_too_large_goes_in_halves_and_a_bad_span_is_left_out() -> None:
    spans = [span(f"n{i}") for i in range(10)]

    def answer(n: int, request: ExportTraceServiceRequest) -> int:
        (resource,) = request.resource_spans
        found = [s.name for s in resource.scope_spans[0].spans]
        return 413 if len(found) > 3 else 400 if "n7" in found else 200

    with collector(answer) as received, Collector(received.url) as client:
        sent = client.send(spans)
    assert sent is not None
    assert (sent.spans, sent.refused) == (9, 1)
    assert "400" in sent.why
    assert [s.name for s in received.spans] == [f"n{i}" for i in range(10) if i != 7]


def test_what_a_collector_takes_in_part_is_counted() -> None:
    with collector() as received, Collector(received.url) as client:
        received.rejected = 2
        sent = client.send([span(), span(), span()])
    assert sent is not None
    assert (sent.spans, sent.refused, sent.why) == (1, 2, "too old")


def test_a_wrong_key_is_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        collector(lambda n, request: 401) as received,
        Collector(received.url) as client,
        pytest.raises(TelemetryError, match="answers 401"),
    ):
        client.send([span()])


def test_a_collector_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    told: list[str] = []
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    patience = Patience(100, lambda why, wait: told.append(why), sleep, lambda: now[0])
    busy = lambda n, request: 503 if n < 3 else 200  # noqa: E731
    with collector(busy) as received, Collector(received.url) as client:
        assert deliver(client, [span()], patience).spans == 1
    assert len(received.requests) == 1
    assert "503" in told[0]
    assert [0.8, 1.6, 3.2] < slept[:3] < [1.2, 2.4, 4.8]
    with Collector(received.url) as client, pytest.raises(TelemetryError, match="not answer"):
        deliver(client, [span()], patience)


# -------------------------------------------------------------------- what may come


async def test_hostile_text_reaches_a_collector_as_valid_unicode(tmp_path: Path) -> None:
    """In names, in errors, in values: no half of a pair, no control character in a name."""

    def broken() -> None:
        raise ValueError(HOSTILE)

    async def body(run: Run, input: Any) -> Any:
        key = "step \x1b[31m\u202e“"
        await run.step(key, lambda: HOSTILE)
        await run.record("told", "test:\x1b[0m", {"text": HOSTILE})
        await run.step("broken", broken)

    path = tmp_path / "j.db"
    await drive(path, body)
    spans = spans_in(path, limit=100)
    with collector() as received, Collector(received.url) as client:
        for batch in batches(spans):
            assert client.send(batch) is not None
    assert len(received.spans) == len(spans)
    for each in received.spans:
        assert "\x1b" not in each.name
        assert "\x1b" not in each.status.message
        assert len(each.status.message) <= 500
    assert not any("\x1b" in mark.name for each in received.spans for mark in each.events)
    write_json(spans, tmp_path / "x.json")
    assert "\x1b" not in (tmp_path / "x.json").read_text()


def test_texts_of_ten_megabytes_are_cut_and_halves_of_pairs_replaced() -> None:
    content = Content(lambda name: b"", 1000)
    cut = content.text("\U0001f600" * 2_500_000 + "\ud800", "event 7")
    assert len(cut.encode()) < 1100
    assert cut.endswith("bytes in all: event 7]")
    assert "\ufffd" not in cut
    assert content.text("a\ud800b", "event 7") == "a\ufffdb"
    message = json.dumps({"role": "user", "content": HOSTILE * 1000}).encode()
    found = Content(lambda name: message, 100).told(
        [{"status": "added", "blob": "sha256:1"}, {"status": "dropped", "at": 0}]
    )
    (said,) = json.loads(found.facts()["gen_ai.input.messages"])
    assert len(said["parts"][0]["content"]) < 200


def test_numbers_that_64_bits_do_not_hold_are_text() -> None:
    with collector() as received, Collector(received.url) as client:
        client.send([span(big=2**70, small=-(2**63), words=["a", "b"], half=0.5, yes=True)])
    (got,) = received.spans
    facts = {a.key: a.value for a in got.attributes}
    assert facts["big"].string_value == str(2**70)
    assert facts["small"].int_value == -(2**63)
    assert facts["yes"].bool_value is True
    assert [v.string_value for v in facts["words"].array_value.values] == ["a", "b"]


def test_batches_are_bounded_by_number_and_by_text() -> None:
    large = [span(text="x" * (BATCH_TEXT // 3)) for _ in range(7)]
    assert [len(batch) for batch in batches(large)] == [2, 2, 2, 1]
    many = [span() for _ in range(BATCH_SPANS * 2 + 1)]
    assert [len(batch) for batch in batches(many)] == [BATCH_SPANS, BATCH_SPANS, 1]
    marked = Span("ab" * 16, "cd" * 8, "", "a", 1, 2, marks=(Mark("m", 1.0, {"t": "x" * 999}),))
    assert text_of(marked) > 999


async def test_a_scope_that_is_full_of_marks_says_how_many_were_left_out(tmp_path: Path) -> None:
    async def body(run: Run, input: Any) -> Any:
        for i in range(300):
            await run.record(f"r{i}", "test:row", {})

    await drive(tmp_path / "j.db", body)
    root = one(spans_in(tmp_path / "j.db"), "invoke_workflow told")
    assert len(root.marks) + root.dropped == 302
    with collector() as received, Collector(received.url) as client:
        client.send([root])
    assert received.spans[0].dropped_events_count == root.dropped > 0
