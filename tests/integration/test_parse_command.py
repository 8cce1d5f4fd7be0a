"""`manyhands parse`, as a process: text in, one JSON object out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FILES: dict[str, Any] = {
    "openai": [{"type": "function", "function": {"name": "add", "parameters": SCHEMA}}],
    "list": [{"name": "add", "parameters": SCHEMA}],
    "mapping": {"add": SCHEMA},
    "request": {"tools": [{"type": "function", "function": {"name": "add", "parameters": SCHEMA}}]},
}
CALL = (
    '<think>so</think>\n\nYes.\n<tool_call>\n{"name": "add", "arguments": {"n": "3"}}\n</tool_call>'
)


def parse(text: str | bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    raw = text if isinstance(text, bytes) else text.encode()
    command = [sys.executable, "-m", "manyhands.cli", "parse", *options]
    return subprocess.run(command, input=raw, capture_output=True, check=False, timeout=120)


@pytest.fixture
def tools(tmp_path: Path) -> str:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(FILES["mapping"]))
    return str(path)


@pytest.mark.parametrize("shape", FILES)
def test_one_object_from_every_shape_of_tools(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(FILES[shape]))
    done = parse(CALL, "--tools", str(path))
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert (found["dialect"], found["reasoning"], found["content"]) == ("hermes", "so", "Yes.\n")
    assert [(call["name"], call["arguments"]) for call in found["calls"]] == [("add", {"n": 3})]
    assert found["errors"] == []


def test_streamed_and_named_it_is_the_same(tools: str) -> None:
    whole = parse(CALL, "--tools", tools)
    assert parse(CALL, "--tools", tools, "--stream").stdout == whole.stdout
    assert parse(CALL, "--tools", tools, "--dialect", "hermes").stdout == whole.stdout


def test_what_does_not_fit_or_is_cut_off_is_an_error_and_no_call(tools: str) -> None:
    for text in ('[add(n="x")]', CALL[:-20]):
        done = parse(text, "--tools", tools)
        found = json.loads(done.stdout)
        assert (done.returncode, found["calls"], len(found["errors"])) == (0, [], 1)


def test_prose_has_no_dialect(tools: str) -> None:
    found = json.loads(parse("I could `add(n=1)`.", "--tools", tools).stdout)
    assert (found["dialect"], found["calls"]) == (None, [])
    assert found["content"] == "I could `add(n=1)`."


def test_bytes_that_are_no_text_do_not_stop_it(tools: str) -> None:
    done = parse(b"\xff\xfe caf\xe9 \xed\xa0\x80", "--tools", tools)
    assert done.returncode == 0
    assert json.loads(done.stdout)["calls"] == []


def test_bad_questions_are_answered_with_two(tools: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"add": {"type": "nonsense"}}')
    for options in (
        ["--tools", tools, "--dialect", "klingon"],
        ["--tools", str(broken)],
        ["--tools", str(wrong)],
        ["--tools", str(tmp_path / "missing.json")],
        [],
    ):
        done = parse("x", *options)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr


def test_the_dialects_are_listed() -> None:
    listed = json.loads(parse("", "--list").stdout)
    assert len(listed) >= 20
    assert "qwen3-coder" in listed
