"""Journals of every schema that ever was stay readable, replayable and exportable as they were."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from manyhands.runtime import (
    SCHEMA,
    Runtime,
    Status,
    Type,
    export_run,
    import_run,
)

HERE = Path(__file__).parent
VERSIONS = range(1, SCHEMA + 1)


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("golden_build", HERE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = _load()
VALUE = [
    {"é": [1.5, None]},
    1_000_000_000.0,
    [],
    ["odd", 2**70, float("inf"), "\ud800\u2028", {"$float": 1}],
    ["big", "x" * 5000],
    ["flaky"],
    ["ValueError", "é\u2028\ud800"],
    ["call"],
    60,
    "receipt",
    [42],
]


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def journal(version: int, tmp_path: Path) -> Path:
    return Path(shutil.copy(HERE / f"v{version}.db", tmp_path / "journal.db"))


async def test_the_file_opens_and_folds(journal: Path) -> None:
    async with Runtime.open(journal) as runtime:
        view = runtime.view(BUILD.RUN)
    assert (view.status, view.version) == (Status.COMPLETED, 3)
    assert view.forked_from.startswith("source@")
    assert view.spent() == {"tokens": 40}
    assert {s.key: s.outcome for s in view.steps.values() if s.outcome != "done"} == {
        "broken": "failed"
    }
    assert view.steps["flaky"].attempts == 2
    assert [(a.name, a.status, a.reason) for a in view.artifacts.all()] == [
        ("notes", "accepted", "good")
    ]


async def test_the_run_gives_what_it_returned(journal: Path) -> None:
    async with Runtime.open(journal, workflows=[BUILD.WORKFLOW]) as runtime:
        assert await (await runtime.resume(BUILD.RUN)).result() == VALUE


async def test_the_run_is_replayed_without_a_single_call(journal: Path) -> None:
    BUILD.CALLS.clear()
    async with Runtime.open(journal, workflows=[BUILD.WORKFLOW]) as runtime:
        new = await runtime.fork(BUILD.RUN, before=runtime.view(BUILD.RUN).seq)
        assert await (await runtime.resume(new)).result() == VALUE
    assert BUILD.CALLS == []


async def test_the_export_is_what_it_was(version: int, journal: Path, tmp_path: Path) -> None:
    async with Runtime.open(journal) as runtime:
        export_run(runtime.journal, BUILD.RUN, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == (HERE / f"v{version}.jsonl").read_bytes()


async def test_the_export_is_imported_and_exported_again_as_it_was(
    version: int, tmp_path: Path
) -> None:
    golden = HERE / f"v{version}.jsonl"
    async with Runtime.open(tmp_path / "new.db", workflows=[BUILD.WORKFLOW]) as runtime:
        assert await import_run(runtime.journal, golden) == BUILD.RUN
        export_run(runtime.journal, BUILD.RUN, tmp_path / "out.jsonl")
        assert (tmp_path / "out.jsonl").read_bytes() == golden.read_bytes()
        assert await (await runtime.resume(BUILD.RUN)).result() == VALUE


def test_the_newest_holds_every_type_of_event() -> None:
    lines = (HERE / f"v{SCHEMA}.jsonl").read_text().splitlines()
    types = {json.loads(line)["event"]["type"] for line in lines if line.startswith('{"event"')}
    assert types == {str(t) for t in Type} | {"test:row"}
