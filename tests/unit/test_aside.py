"""`aside`: work beside what a workflow does meanwhile. Nothing that was begun is left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import StepFailed
from manyhands.runtime import Run, Runtime, Workflow, aside


async def told(folder: Path, fn: Any, run_id: str = "r") -> Any:
    async with Runtime.open(folder / "j.db") as runtime:
        return await runtime.run(Workflow("w", fn), None, run_id=run_id)


async def test_it_goes_on_beside_and_is_awaited_later(tmp_path: Path) -> None:
    order: list[str] = []
    go = asyncio.Event()

    async def slow(scope: Run) -> str:
        await go.wait()
        order.append("slow")
        return await scope.step("say", lambda: scope.path)

    async def work(run: Run, _: object) -> str:
        async with aside() as beside, run.scope("round") as scope:
            task = beside.begin(scope, "work/a", slow)
            await run.step("meanwhile", lambda: order.append("meanwhile"))
            go.set()
            return await task

    assert await told(tmp_path, work) == "round/work/a"
    assert order == ["meanwhile", "slow"]


async def test_leaving_waits_for_what_was_begun(tmp_path: Path) -> None:
    ended: list[int] = []

    async def slow(scope: Run) -> None:
        await asyncio.sleep(0.01)
        ended.append(1)

    async def work(run: Run, _: object) -> None:
        async with aside() as beside:
            beside.begin(run, "a", slow)
            beside.begin(run, "b", slow)

    await told(tmp_path, work)
    assert ended == [1, 1]


async def test_an_error_waits_for_the_others_and_is_raised(tmp_path: Path) -> None:
    ended: list[int] = []

    async def slow(scope: Run) -> None:
        await asyncio.sleep(0.01)
        ended.append(1)

    async def work(run: Run, _: object) -> None:
        async with aside() as beside:
            beside.begin(run, "a", slow)
            raise StepFailed("mine", "ValueError", "wrong")

    with pytest.raises(StepFailed, match="wrong"):
        await told(tmp_path, work)
    assert ended == [1]


async def test_a_failure_beside_is_raised_though_nobody_awaits_it(tmp_path: Path) -> None:
    async def fails(scope: Run) -> None:
        raise StepFailed("beside", "ValueError", "wrong beside")

    async def work(run: Run, _: object) -> None:
        async with aside() as beside:
            beside.begin(run, "a", fails)

    with pytest.raises(StepFailed, match="wrong beside"):
        await told(tmp_path, work)


async def test_a_cancellation_reaches_it() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def work() -> None:
        async with aside() as beside:
            beside.tasks.append(asyncio.create_task(slow()))
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()
