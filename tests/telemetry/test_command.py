"""`manyhands export --otlp`, `manyhands otel`: as a person types them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from manyhands.cli import app
from tests.coding.stage import Stage
from tests.telemetry.stage import collector, spans_in, tokens


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    asyncio.run(Stage(tmp_path).solve(run_id="run"))
    path = tmp_path / "journal.db"
    monkeypatch.setenv("MANYHANDS_JOURNAL", str(path))
    monkeypatch.setenv("MANYHANDS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.chdir(tmp_path)
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def told(*words: str) -> Any:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_run_goes_to_a_file_that_check_reads(journal: Path) -> None:
    found = told("export", "run", "--otlp", "run.otlp.json", "--content")
    assert found["spans"] == len(spans_in(journal))
    assert not Path("run.jsonl").exists()
    (checked,) = told("check", "run.otlp.json")
    (own,) = told("check", "--run", "run")
    assert (checked["form"], own["form"]) == ("otlp", "journal")
    shown = lambda each: {(s["agent"], s["step"], s["kind"]) for s in each["steps"]}  # noqa: E731
    assert shown(checked) == shown(own)


def test_a_run_goes_to_a_file_and_a_journal_at_once(journal: Path) -> None:
    done = run("export", "run", "--otlp", "a.json", "-o", "b.jsonl")
    assert done.exit_code == 0, done.output
    assert Path("a.json").exists()
    assert Path("b.jsonl").exists()
    assert told("export", "run")["file"] == "run.jsonl"


def test_a_run_goes_to_a_collector(journal: Path) -> None:
    with collector() as received:
        found = told("export", "run", "--otlp", received.url)
        assert sorted(received.ids) == sorted(s.id for s in spans_in(journal))
    assert found == {
        "run_id": "run",
        "endpoint": f"{received.url}/v1/traces",
        "spans": len(received.spans),
        "refused": 0,
        "why": "",
    }


def test_a_journal_goes_to_a_collector_and_no_span_twice(journal: Path) -> None:
    with collector() as received:
        assert told("otel", "--otlp", received.url)["spans"] == len(spans_in(journal))
        assert told("otel", "--otlp", received.url)["spans"] == 0
        assert told("otel", "run", "--follow", "--otlp", received.url)["spans"] == 0
        with_words = told("otel", "run", "--otlp", received.url, "--content")
        assert with_words["spans"] == len(spans_in(journal))
    counted = sum(
        a.value.int_value
        for span in received.spans
        for a in span.attributes
        if a.key in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    )
    assert counted == 2 * tokens(spans_in(journal))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "nobody", "--otlp", "a.json"], "'nobody' is not in"),
        (["otel", "nobody"], "'nobody' is not in"),
        (["export", "run", "--otlp", "ftp://here"], "no http(s) URL"),
        (["otel", "--otlp", "here"], "no http(s) URL"),
        (["export", "run", "--otlp", "localhost:4318"], "'localhost:4318' is a file's name"),
        (["export", "run", "--otlp", "a.json", "--content-limit", "9"], "no content is asked"),
        (["otel", "--content", "--content-limit", "99999999999"], "at most 64000000"),
    ],
)
def test_what_cannot_be_done_is_said(journal: Path, words: list[str], said: str) -> None:
    done = run(*words)
    assert done.exit_code != 0
    assert said in str(done.exception)


def test_it_says_what_to_install(journal: Path) -> None:
    """Without the extra, all other commands work."""
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "sys.argv = ['manyhands', *sys.argv[1:]]\n"
        "from manyhands.cli import main; main()"
    )

    def without(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert without("runs").returncode == 0
    done = without("export", "run", "--otlp", "a.json")
    assert done.returncode == 2
    assert "pip install 'manyhands[otel]'" in done.stderr


def test_help_has_examples() -> None:
    for command in ("export", "otel"):
        done = run(command, "--help")
        assert "--otlp" in done.stdout
        assert "manyhands" in done.stdout
