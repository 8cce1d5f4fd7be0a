"""A run that waits for another one: a run of its own, found again after a crash."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import StepFailed
from manyhands.runtime import Budget, Run, Runtime, Status, Workflow
from tests.unit.test_commands import until


async def work(run: Run, count: int) -> Any:
    """So many turns; three or more wait to be let through at last."""
    for turn in range(count):
        await run.step(f"turn-{turn}", asyncio.sleep, 0)
    if count > 2:
        await run.wait("go")
    if count == 0:
        raise ValueError("nothing to do")
    return count


async def parent(run: Run, counts: list[int]) -> Any:
    async def one(scope: Run, count: int) -> Any:
        try:
            return await scope.child(
                "work", "work", count, run_id=f"{run.id}-{count}", budget=Budget(tokens=7)
            )
        except StepFailed as error:
            return f"{error.kind}: {error.message}"

    return await run.map("each", one, counts, key_of=str)


WORK, PARENT = Workflow("work", work), Workflow("parent", parent)


async def test_a_child_is_a_run_of_its_own(fast_path: Path) -> None:
    async with Runtime.open(fast_path, workflows=[WORK]) as runtime:
        assert await runtime.run(PARENT, [1, 2], run_id="p") == [1, 2]
        assert {r.run_id: r.workflow for r in runtime.runs()} == {
            "p": "parent",
            "p-1": "work",
            "p-2": "work",
        }
        assert runtime.view("p-2").budget.tokens == 7
        assert runtime.view("p-2").status is Status.COMPLETED


async def test_a_child_that_fails_is_a_step_that_failed(fast_path: Path) -> None:
    async with Runtime.open(fast_path, workflows=[WORK]) as runtime:
        assert await runtime.run(PARENT, [0, 1], run_id="p") == ["ValueError: nothing to do", 1]


async def test_parent_and_child_go_on_where_they_were(fast_path: Path) -> None:
    async with Runtime.open(fast_path, workflows=[WORK]) as runtime:
        await runtime.start(PARENT, [1, 3], run_id="p")
        await until(lambda: "go" in _waits(runtime))
    async with Runtime.open(fast_path, workflows=[WORK, PARENT]) as runtime:
        assert runtime.view("p-3").status is Status.INTERRUPTED
        handle = await runtime.resume("p")
        await runtime.answer("p-3", "go", True)
        assert await handle.result() == [1, 3]
        turns = [e for e in runtime.journal.events("p-3") if e.key == "turn-0"]
        assert len({e.epoch for e in turns}) == 1, "what was done is not done again"


async def test_a_stop_is_passed_on(fast_path: Path) -> None:
    async with Runtime.open(fast_path, workflows=[WORK]) as runtime:
        handle = await runtime.start(PARENT, [3], run_id="p")
        await until(lambda: "go" in _waits(runtime))
        await runtime.command("p", "stop")
        (said,) = await handle.result()
        assert "p-3 was asked to stop while it waited for 'go'" in said
        assert runtime.view("p-3").status is Status.STOPPED


async def test_a_child_that_was_killed_does_not_end_its_parent(fast_path: Path) -> None:
    async with Runtime.open(fast_path, workflows=[WORK]) as runtime:
        handle = await runtime.start(PARENT, [1, 3], run_id="p")
        await until(lambda: "go" in _waits(runtime))
        await runtime.command("p-3", "kill")
        one, three = await handle.result()
        assert one == 1
        assert "p-3 was killed" in three


async def test_a_workflow_that_nobody_has_is_refused(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        with pytest.raises(Exception, match="no workflow 'work' here; known: raw"):
            await runtime.run(Workflow("raw", _raw), None, run_id="p")


async def _raw(run: Run, _: Any) -> Any:
    return await run.child("work", "work", 1, run_id="p-1")


def _waits(runtime: Runtime) -> dict[str, Any]:
    try:
        return dict(runtime.view("p-3").waits)
    except Exception:
        return {}


async def test_a_child_that_failed_is_tried_again_where_it_ended(fast_path: Path) -> None:
    broken, calls = True, list[str]()

    async def flaky(run: Run, _: Any) -> Any:
        await run.step("kept", calls.append, "kept")

        def work() -> None:
            calls.append("broken" if broken else "mended")
            if broken:
                raise OSError("down")

        await run.step("work", work)
        return "up"

    async def strict(run: Run, _: Any) -> Any:
        told = await run.child("it", "flaky", run_id="p-1")
        return [told, run.retries("it"), run.retries("never")]

    both = [Workflow("flaky", flaky), Workflow("strict", strict)]
    async with Runtime.open(fast_path, workflows=both) as runtime:
        with pytest.raises(StepFailed, match="down"):
            await runtime.run(both[1], None, run_id="p")
        with pytest.raises(StepFailed, match="down"):
            await (await runtime.resume("p")).result()
        assert calls == ["kept", "broken"], "a plain resume tries nothing"
        broken = False
        again = await runtime.resume("p", retry_ending=True)
        assert await again.result() == ["up", 1, 0]
        assert calls == ["kept", "broken", "mended"]
