"""Export and import: the identical journal, or nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import ConfigError, ImportRefused, JournalUnreadable, RunNotFound
from manyhands.runtime import (
    ArtifactStatus,
    Run,
    Runtime,
    Workflow,
    export_run,
    import_run,
)


async def body(run: Run, input: Any) -> Any:
    await run.step("odd", lambda: ["\u2028\u0085\x0b", "\ud800", float("nan"), 2**70])
    await run.step("big", lambda: "x" * 100_000)
    item = await run.put("put", "notes", b"\x00\xff" * 3000, kind="bytes")
    await run.mark("mark", "notes", item.version, ArtifactStatus.ACCEPTED, "good")
    inner = await run.blob(b"named inside a blob")
    await run.record("row", "test:row", {"é": 1}, value={"refers to": inner, "pad": "y" * 9000})
    return {"looks like a blob": "sha256:" + "0" * 64}


W = Workflow("w", body)


async def export(path: Path, out: Path) -> bytes:
    async with Runtime.open(path) as runtime:
        if not runtime.runs():
            await runtime.run(W, {"input": [1]}, run_id="r")
        export_run(runtime.journal, "r", out)
    return out.read_bytes()


async def test_export_import_export_is_the_same_to_the_byte(
    fast_path: Path, tmp_path: Path
) -> None:
    first = await export(fast_path, tmp_path / "a.jsonl")
    async with Runtime.open(tmp_path / "other.db", workflows=[W]) as other:
        assert await import_run(other.journal, tmp_path / "a.jsonl") == "r"
        export_run(other.journal, "r", tmp_path / "b.jsonl")
        assert (tmp_path / "b.jsonl").read_bytes() == first
        async with Runtime.open(fast_path) as runtime:
            here = [e async for e in runtime.events("r")]
            there = [e async for e in other.events("r")]
            assert repr(here) == repr(there)
        assert other.journal.blob(here[-2].ref or "")
        assert await (await other.resume("r")).result() == {
            "looks like a blob": "sha256:" + "0" * 64
        }


async def test_an_imported_run_takes_commands_and_goes_on(fast_path: Path, tmp_path: Path) -> None:
    """The numbers that its old inbox gave mean nothing in the new journal."""

    async def waits(run: Run, input: Any) -> Any:
        return [await run.wait("a"), await run.wait("b")]

    workflow = Workflow("waits", waits)
    async with Runtime.open(fast_path) as runtime:
        await runtime.start(workflow, run_id="r")
        for i in range(5):
            await runtime.command("r", "steer", message=str(i))
        await runtime.answer("r", "a", 1)
    async with Runtime.open(fast_path) as runtime:
        export_run(runtime.journal, "r", tmp_path / "x.jsonl")
    async with Runtime.open(tmp_path / "other.db", workflows=[workflow]) as other:
        await import_run(other.journal, tmp_path / "x.jsonl")
        await other.answer("r", "b", 2)
        assert await (await other.resume("r")).result() == [1, 2]


def edit_line(number: int, change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def edit(whole: bytes) -> bytes:
        lines = whole.decode().split("\n")
        line = json.loads(lines[number])
        change(line)
        lines[number] = json.dumps(line)
        return "\n".join(lines).encode()

    return edit


def reseal(edit: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """An edit by somebody who knows about the hash at the end."""

    def sealed(whole: bytes) -> bytes:
        lines = edit(whole).decode().split("\n")
        end = json.loads(lines[-2])
        body = "\n".join(lines[:-2]) + "\n"
        lines[-2] = json.dumps(end | {"sha256": hashlib.sha256(body.encode()).hexdigest()})
        return "\n".join(lines).encode()

    return sealed


def without_line(number: int) -> Callable[[bytes], bytes]:
    def edit(whole: bytes) -> bytes:
        lines = whole.split(b"\n")
        return b"\n".join(lines[:number] + lines[number + 1 :])

    return edit


def swap(whole: bytes) -> bytes:
    lines = whole.split(b"\n")
    lines[3], lines[4] = lines[4], lines[3]
    return b"\n".join(lines)


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[: whole.rindex(b"\n", 0, -1) + 1],
        lambda whole: b"",
        lambda whole: b"\n",
        lambda whole: b"[1]\n2\nnull\n",
        lambda whole: b"\xff" + whole,
        lambda whole: whole + b"\n",
        lambda whole: whole.replace(b'"step.done"', b'"step.dome"', 1),
        without_line(3),
        swap,
        edit_line(3, lambda line: line["event"].update(value='"forged"')),
        reseal(swap),
        reseal(without_line(2)),
        reseal(edit_line(1, lambda line: line["event"].update(type="run.strange"))),
        reseal(edit_line(1, lambda line: line["event"].update(data="{}"))),
        reseal(edit_line(1, lambda line: line["event"].update(data="not json"))),
        reseal(edit_line(2, lambda line: line["event"].update(epoch=9))),
        reseal(edit_line(0, lambda line: line.update(workflow="another"))),
        reseal(edit_line(0, lambda line: line.pop("run_id"))),
        reseal(edit_line(-3, lambda line: line.update(base64="AAAA"))),
        reseal(edit_line(-3, lambda line: line.update(base64="?"))),
        reseal(without_line(-3)),
    ],
    ids=range(23),
)
async def test_a_file_that_is_not_as_it_was_written_is_refused_whole(
    fast_path: Path, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(change(await export(fast_path, path)))
    async with Runtime.open(tmp_path / "other.db") as other:
        with pytest.raises(ImportRefused, match=r"a\.jsonl") as caught:
            await import_run(other.journal, path)
        assert caught.value.next
        assert other.runs() == []
        tables = ("runs", "events", "blobs", "inbox")
        assert all(other.journal.read(f"SELECT count(*) FROM {t}") == [(0,)] for t in tables)


async def test_an_export_of_a_newer_schema_is_refused_by_its_number(
    fast_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    newer = edit_line(0, lambda line: line.update(schema=7, more=1))
    path.write_bytes(newer(await export(fast_path, path)))
    async with Runtime.open(fast_path) as runtime:
        with pytest.raises(ImportRefused, match="schema 7; this version reads up to 1"):
            await import_run(runtime.journal, path)


async def test_a_run_that_is_there_is_not_overwritten(fast_path: Path, tmp_path: Path) -> None:
    await export(fast_path, tmp_path / "a.jsonl")
    async with Runtime.open(fast_path) as runtime:
        with pytest.raises(ImportRefused, match=r"'r' is in .* already"):
            await import_run(runtime.journal, tmp_path / "a.jsonl")
        with pytest.raises(ImportRefused, match="No such file"):
            await import_run(runtime.journal, tmp_path / "nope.jsonl")
        with pytest.raises(RunNotFound):
            export_run(runtime.journal, "nope", tmp_path / "nope.jsonl")
        with pytest.raises(ConfigError, match="cannot write"):
            export_run(runtime.journal, "r", tmp_path / "no folder" / "x.jsonl")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl"]


async def test_a_damaged_journal_is_not_exported(fast_path: Path, tmp_path: Path) -> None:
    await export(fast_path, tmp_path / "a.jsonl")
    async with Runtime.open(fast_path) as runtime:
        await runtime.journal.call(lambda db: db.execute("DELETE FROM blobs").fetchall())
        with pytest.raises(JournalUnreadable, match="missing"):
            export_run(runtime.journal, "r", tmp_path / "b.jsonl")
    assert not (tmp_path / "b.jsonl").exists()
