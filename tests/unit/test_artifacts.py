"""Artifacts: every version kept, with where it came from; the same live and on replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import ReplayMismatch, WorkflowError
from manyhands.runtime import ArtifactStatus, Evidence, Run, Runtime, Workflow

S = ArtifactStatus


async def play(path: Path, fn: Any) -> Any:
    async with Runtime.open(path) as runtime:
        return await runtime.run(Workflow("w", fn), run_id="r")


async def again(path: Path, fn: Any) -> Any:
    async with Runtime.open(path, workflows=[Workflow("w", fn)]) as runtime:
        new = await runtime.fork("r", before=runtime.view("r").seq)
        return await (await runtime.resume(new)).result()


async def test_nothing_is_overwritten(fast_path: Path) -> None:
    async def body(run: Run, input: Any) -> Any:
        async with run.scope("writer") as writer:
            for text in ("one", "two"):
                await writer.put(
                    f"put {text}",
                    "notes",
                    text,
                    kind="text",
                    evidence=[Evidence(kind="quote", source="paper", quote="…")],
                )
        first, second = run.artifact("notes", 1), run.artifact("notes")
        assert first is not None
        assert second is not None
        assert (first.version, second.version) == (1, 2)
        assert (first.producer, first.evidence[0].source) == ("writer", "paper")
        return [run.read_blob(a.blob).decode() for a in (first, second)]

    assert await play(fast_path, body) == ["one", "two"]


async def test_accepting_one_version_supersedes_the_one_before(fast_path: Path) -> None:
    async def body(run: Run, input: Any) -> Any:
        for i in (1, 2, 3):
            await run.put(f"put{i}", "notes", {"i": i}, kind="json")
        await run.mark("m1", "notes", 1, S.ACCEPTED, "good")
        await run.mark("m2", "notes", 2, S.ACCEPTED, "better")
        await run.put("put4", "notes", "", kind="text", status=S.ACCEPTED)
        await run.mark("m3", "notes", 3, S.REJECTED, "worse")
        return [(a.status, a.reason) for i in (1, 2, 3, 4) if (a := run.artifact("notes", i))]

    expected = [["superseded", "good"], ["superseded", "better"], ["rejected", "worse"]]
    assert await play(fast_path, body) == [*expected, ["accepted", ""]]
    async with Runtime.open(fast_path) as runtime:
        found = runtime.view("r").artifacts.all()
    assert [str(a.status) for a in found] == ["superseded", "superseded", "rejected", "accepted"]


async def test_a_replay_sees_what_the_live_run_saw_at_that_point(fast_path: Path) -> None:
    seen: list[Any] = []

    async def body(run: Run, input: Any) -> None:
        look: list[Any] = [run.artifact("notes")]
        look.append(await run.put("a", "notes", "1", kind="text"))
        look.append(run.artifact("notes"))
        await run.mark("m", "notes", 1, S.ACCEPTED, "good")
        look.append(run.artifact("notes"))
        await run.put("b", "notes", "2", kind="text")
        look.append(run.artifact("notes"))
        seen.append(look)

    await play(fast_path, body)
    await again(fast_path, body)
    assert seen[0] == seen[1]
    assert seen[0][0] is None


async def test_puts_from_many_branches_have_versions_of_their_own(fast_path: Path) -> None:
    async def branch(child: Run, item: int) -> int:
        return (await child.put("p", "shared", str(item), kind="text")).version

    async def body(run: Run, input: Any) -> Any:
        return await run.map("m", branch, range(10), key_of=str)

    live = await play(fast_path, body)
    assert sorted(live) == list(range(1, 11))
    assert await again(fast_path, body) == live


async def test_equal_content_is_stored_once(fast_path: Path) -> None:
    async def body(run: Run, input: Any) -> Any:
        blobs = {(await run.put(f"p{i}", f"n{i}", "same", kind="text")).blob for i in range(5)}
        return len(blobs)

    assert await play(fast_path, body) == 1
    async with Runtime.open(fast_path) as runtime:
        assert runtime.journal.read("SELECT count(*) FROM blobs") == [(1,)]


async def test_what_is_not_there_cannot_be_marked(fast_path: Path) -> None:
    async def body(run: Run, input: Any) -> None:
        assert run.artifact("notes") is None
        with pytest.raises(WorkflowError, match="'notes' has no version 1"):
            await run.mark("m", "notes", 1, S.ACCEPTED, "")

    await play(fast_path, body)


async def test_another_name_on_replay_is_refused(fast_path: Path) -> None:
    name = "notes"

    async def body(run: Run, input: Any) -> None:
        await run.put("p", name, "x", kind="text")

    await play(fast_path, body)
    name = "other"
    with pytest.raises(ReplayMismatch, match="journaled with notes, and is now other"):
        await again(fast_path, body)
