"""Work that goes on beside what a workflow does meanwhile.

Invariant: nothing that was begun is left behind. An error waits for what is still under way, which
is paid for; a cancellation reaches it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from manyhands.runtime.run import Run, foremost

R = TypeVar("R")


class Aside:
    """What `aside` hands out: begins work, and knows what is under way."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []

    def begin(self, run: Run, key: str, fn: Callable[[Run], Awaitable[R]]) -> asyncio.Task[R]:
        """Start ``fn(scope)`` in the scope ``key`` of ``run``; await what is returned for its
        result. So that a replay takes the same course, await it at a place that does not depend on
        when it ends, and let ``fn`` read nothing that changes meanwhile."""

        async def work() -> R:
            async with run.scope(key) as scope:
                return await fn(scope)

        task = asyncio.create_task(work(), name=run.key(key))
        self.tasks = [t for t in self.tasks if not _well(t)] + [task]
        return task


def _well(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


@asynccontextmanager
async def aside() -> AsyncGenerator[Aside]:
    """``async with aside() as beside: beside.begin(…)``. Leaving it waits for all that was begun.
    Of several failures one is raised, by the order of `Run.map`."""
    beside = Aside()
    failed: list[BaseException] = []
    try:
        try:
            yield beside
        except Exception as error:  # what is begun goes to its end before this is told
            failed.append(error)
        ended = await asyncio.gather(*beside.tasks, return_exceptions=True)
        failed += [e for e in ended if isinstance(e, BaseException) and e not in failed]
    finally:
        for task in beside.tasks:
            task.cancel()
        await asyncio.gather(*beside.tasks, return_exceptions=True)
    if failed:
        raise foremost(failed)
