"""Arize Phoenix itself, as a person would run it: what it stores and shows of our runs."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands.runtime import Run, Runtime, Workflow
from tests.answering.stage import Stage as Answering
from tests.coding.stage import Stage as Coding
from tests.conftest import phoenix_program
from tests.telemetry.stage import drive, spans_in, tokens
from tests.telemetry.test_command import told

pytestmark = pytest.mark.needs("phoenix")


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with an empty database."""
    folder = tmp_path_factory.mktemp("phoenix")
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], other.getsockname()[1]
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OTEL_"))},
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(ports[0]),
        "PHOENIX_GRPC_PORT": str(ports[1]),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    url = f"http://127.0.0.1:{ports[0]}"
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [str(phoenix_program()), "serve"], env=env, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            for _ in range(600):
                assert server.poll() is None, (folder / "log").read_text()
                try:
                    urllib.request.urlopen(f"{url}/healthz", timeout=5)
                    break
                except (urllib.error.URLError, TimeoutError):
                    time.sleep(0.2)
            yield url
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MANYHANDS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MANYHANDS_JOURNAL", str(tmp_path / "journal.db"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stored(url: str, trace: str, count: int) -> list[dict[str, Any]]:
    """The spans of a trace, once there are as many."""
    found: list[dict[str, Any]] = []
    for _ in range(100):
        query = f"{url}/v1/projects/default/spans?limit=1000&trace_id={trace}"
        with urllib.request.urlopen(query, timeout=10) as answer:
            found = [
                span for span in json.load(answer)["data"] if span["context"]["trace_id"] == trace
            ]
        if len(found) >= count:
            break
        time.sleep(0.1)
    return found


def test_phoenix_has_a_run_with_its_tree_kinds_and_tokens(phoenix: str, home: Path) -> None:
    asyncio.run(Coding(home).solve(run_id="run"))
    spans = spans_in(home / "journal.db")
    assert told("export", "run", "--otlp", phoenix, "--content")["refused"] == 0
    found = {s["context"]["span_id"]: s for s in stored(phoenix, spans[0].trace, len(spans))}
    assert {id: s["parent_id"] or "" for id, s in found.items()} == {s.id: s.parent for s in spans}
    assert {id: s["name"] for id, s in found.items()} == {s.id: s.name for s in spans}
    kinds = Counter(s["span_kind"] for s in found.values())
    names = Counter(s.name.partition(" ")[0] for s in spans)
    assert kinds["LLM"] == names["chat"]
    assert kinds["TOOL"] == names["execute_tool"]
    assert kinds["AGENT"] == names["invoke_agent"]
    counted = sum(s["attributes"].get("llm.token_count.total", 0) for s in found.values())
    assert counted == tokens(spans)
    chat = next(s for s in found.values() if s["span_kind"] == "LLM")
    assert any(key.startswith("llm.output_messages.0") for key in chat["attributes"])
    events = [e["name"] for s in found.values() for e in s["events"]]
    assert "gen_ai.evaluation.result" in events


def test_phoenix_keeps_one_of_each_span_however_often_it_is_sent(phoenix: str, home: Path) -> None:
    asyncio.run(Answering(home).ask(run_id="run"))
    spans = spans_in(home / "journal.db")
    told("export", "run", "--otlp", phoenix)
    told("export", "run", "--otlp", phoenix)
    told("otel", "--otlp", phoenix)
    time.sleep(2)
    found = stored(phoenix, spans[0].trace, len(spans))
    assert sorted(s["context"]["span_id"] for s in found) == sorted(s.id for s in spans)


def test_phoenix_shows_what_went_wrong(phoenix: str, home: Path) -> None:
    fails = [True]

    async def body(run: Run, input: Any) -> Any:
        await run.step("first", lambda: 1)
        await run.step("second", lambda: 1 // (0 if fails else 1))

    async def twice() -> None:
        await drive(home / "journal.db", body)
        fails.clear()
        async with Runtime.open(home / "journal.db", workflows=[Workflow("told", body)]) as runtime:
            await (await runtime.resume("run", retry_failed=True)).result()

    asyncio.run(twice())
    spans = spans_in(home / "journal.db")
    told("export", "run", "--otlp", phoenix)
    found = stored(phoenix, spans[0].trace, len(spans))
    status = [(s["name"], s["status_code"]) for s in sorted(found, key=lambda s: s["start_time"])]
    assert status == [
        ("invoke_workflow told", "UNSET"),
        ("first", "UNSET"),
        ("second", "ERROR"),
        ("second", "UNSET"),
    ]
