"""The workflows that the crash suite kills. Each is deterministic; its effects are marks in a file.

A mark is one line, written at once with O_APPEND, so that it stays when the process dies. What a
step returns depends on its arguments alone, so every run must end in the same value.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manyhands.errors import InDoubt, StepFailed
from manyhands.runtime import (
    ArtifactStatus,
    Budget,
    Effect,
    Retry,
    Run,
    Runtime,
    Settled,
    Workflow,
)

RUN = "run"
LIMIT = 1000


class Marks:
    """The file of effects."""

    def __init__(self, path: str) -> None:
        self.path = path

    def add(self, what: str) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, f"{what}\n".encode())
        os.close(fd)

    def all(self) -> list[str]:
        path = Path(self.path)
        return path.read_text().splitlines() if path.exists() else []


def _effect(marks: Marks, result: str) -> Callable[..., Any]:
    async def effect(name: str) -> str:
        marks.add(f"begin {name}")
        await asyncio.sleep(0)
        marks.add(name)
        return f"{result}:{name}"

    return effect


async def sequence(run: Run, marks: Marks) -> Any:
    effect = _effect(marks, "done")
    kinds = (Effect.PURE, Effect.IDEMPOTENT)
    return [await run.step(f"s{i}", effect, f"s{i}", effect=kinds[i % 2]) for i in range(6)]


async def fan(run: Run, marks: Marks) -> Any:
    effect = _effect(marks, "done")

    async def branch(child: Run, item: int) -> list[str]:
        return [await child.step(f"t{j}", effect, f"{item}.{j}") for j in range(2)]

    return await run.map("branch", branch, range(4), key_of=str, limit=3)


class Flaky(Exception):
    retryable = True


async def retry(run: Run, marks: Marks) -> Any:
    async def flaky(name: str) -> int:
        marks.add(name)
        if marks.all().count(name) < 3:
            raise Flaky("not yet")
        return 7

    async def broken(name: str) -> int:
        marks.add(name)
        raise ValueError("never")

    first = await run.step("flaky", flaky, "flaky", retry=Retry(9, first=0.0))
    try:
        await run.step("broken", broken, "broken")
    except StepFailed as error:
        return [first, error.kind, error.message]


async def once(run: Run, marks: Marks) -> Any:
    effect = _effect(marks, "paid")

    async def probe() -> Settled:
        happened = "probed" in marks.all()
        return Settled(happened, "paid:probed" if happened else None)

    before = await run.step("before", effect, "before")
    probed = await run.step("probed", effect, "probed", effect=Effect.ONCE, probe=probe)
    blind = await run.step("blind", effect, "blind", effect=Effect.ONCE)
    return [before, probed, blind, await run.step("after", effect, "after")]


async def waits(run: Run, marks: Marks) -> Any:
    effect = _effect(marks, "done")
    began = await run.now("began")
    await run.sleep("nap", 0.02)
    slept = await run.now("slept")
    answer = await run.wait("answer")
    return [slept - began >= 0.019, answer, await run.step("after", effect, "after")]


def _half(value: Any) -> dict[str, int]:
    return {"tokens": 20, "requests": 1}


async def spend(run: Run, marks: Marks) -> Any:
    effect = _effect(marks, "done")
    cost = {"tokens": 40, "requests": 1}

    async def child(inner: Run, item: int) -> list[str]:
        async with inner.scope("deep", Budget(tokens=400)) as deep:
            names = [f"{item}.{j}" for j in range(3)]
            return [await deep.step(n, effect, n, cost=cost, usage=_half) for n in names]

    return await run.map("c", child, range(3), key_of=str, limit=2, budget=Budget(requests=30))


async def things(run: Run, marks: Marks) -> Any:
    effect = _effect(marks, "done")
    found: list[Any] = []
    for i in range(3):
        text = await run.step(f"make{i}", effect, f"make{i}")
        item = await run.put(f"put{i}", "notes", text * 900 * i, kind="text")
        await run.mark(f"mark{i}", "notes", item.version, ArtifactStatus.ACCEPTED, "better")
        await run.record(f"row{i}", "test:row", {"i": i}, value={"big": text * 900})
        found.append([item.version, item.blob])
    latest = run.artifact("notes")
    assert latest is not None
    return [found, latest.status]


WORKFLOWS = {f.__name__: f for f in (sequence, fan, retry, once, waits, spend, things)}


def program(on_boundary: Callable[[str, int], None], name: str, journal: str, marks: str) -> Any:
    """Start the run, or go on with it; answer what it waits for, resolve what is in doubt.

    Returns its value and the keys that had to be resolved by a person.
    """
    return asyncio.run(_program(on_boundary, name, journal, Marks(marks)))


async def _program(on_boundary: Any, name: str, journal: str, marks: Marks) -> Any:
    async def fn(run: Run, input: Any) -> Any:
        return await WORKFLOWS[name](run, marks)

    workflow = Workflow(name, fn)
    resolved: list[str] = []
    async with Runtime.open(journal, workflows=[workflow], on_boundary=on_boundary) as runtime:
        if not any(r.run_id == RUN for r in runtime.runs()):
            budget = Budget(tokens=LIMIT) if name == "spend" else None
            handle = await runtime.start(workflow, run_id=RUN, budget=budget)
        else:
            handle = await runtime.resume(RUN)
        while True:
            if name == "waits" and not handle.done:
                await runtime.command(
                    RUN, "answer", target="answer", message=42, idempotency_key="a"
                )
            try:
                return [await handle.result(), resolved]
            except InDoubt as doubt:
                # A person looks at the world: did it happen?
                happened = doubt.key in marks.all()
                action = ("result", f"paid:{doubt.key}") if happened else ("retry", None)
                resolved.append(doubt.key)
                await runtime.resolve(RUN, doubt.key, *action)
                handle = await runtime.resume(RUN)
