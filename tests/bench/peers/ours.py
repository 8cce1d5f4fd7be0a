"""Manyhands as it comes: one run, one journal, nothing tuned."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from manyhands.runtime import Run, Runtime, Workflow
from tests.bench.peers.clocks import Span, Stopwatch


def steps(folder: str, count: int, edge: int = 0) -> dict[str, Any]:
    """``count`` steps of one run, after a short one to warm up."""
    watch = Stopwatch()

    async def work(number: int) -> dict[str, Any]:
        return watch.work(number)

    async def program(run: Run, count: int) -> None:
        for number in range(count):
            await run.step(f"step/{number}", work, number)

    async def main() -> dict[str, Any]:
        workflow = Workflow("bench", program)
        async with Runtime.open(Path(folder) / "journal.db", workflows=[workflow]) as runtime:
            await runtime.run(workflow, 100)
            watch.ticks.clear()
            await runtime.run(workflow, count)
            return watch.stop(count, edge)

    return asyncio.run(main())


def replay(folder: str, count: int, prepare: bool = False) -> dict[str, Any]:
    """Resume a run that waits after ``count`` steps: from the call until it waits there again.

    That is reading and folding the journal, and running the program up to where it was.
    """
    span = Span()
    there = asyncio.Event()
    ran = 0

    async def work(number: int) -> dict[str, Any]:
        nonlocal ran
        ran += 1
        return Stopwatch().work(number)

    async def program(run: Run, count: int) -> None:
        for number in range(count):
            await run.step(f"step/{number}", work, number)
        there.set()
        await run.wait("go")

    async def main() -> dict[str, Any]:
        workflow = Workflow("bench", program)
        async with Runtime.open(Path(folder) / "journal.db", workflows=[workflow]) as runtime:
            span.begin()
            if prepare:
                await runtime.start(workflow, count, run_id="replayed")
            else:
                await runtime.resume("replayed")
            await there.wait()
            found = span.end(count)
        if ran != (count if prepare else 0):
            raise AssertionError(f"{ran} of {count} steps ran")
        return found

    return asyncio.run(main())
