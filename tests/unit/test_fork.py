"""Forks: the same up to the cut, free after it, and the old run untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import ConfigError, InDoubt, RunNotFound
from manyhands.runtime import Budget, Effect, Run, Runtime, Workflow

CALLS: list[str] = []


def call(name: str) -> str:
    CALLS.append(name)
    return name.upper()


async def body(run: Run, input: list[str]) -> list[str]:
    return [
        await run.step(name, call, name, cost={"tokens": 10}, effect=Effect.ONCE) for name in input
    ]


W = Workflow("w", body)


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


async def dump(runtime: Runtime, run_id: str) -> list[Any]:
    return [e async for e in runtime.events(run_id)]


async def test_a_fork_repeats_nothing_before_its_cut(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        await runtime.run(W, ["a", "b", "c"], run_id="r")
        before = await dump(runtime, "r")
        new = await runtime.fork("r", before="b")
        assert await (await runtime.resume(new)).result() == ["A", "B", "C"]
        assert CALLS == ["a", "b", "c", "b", "c"]
        assert await dump(runtime, "r") == before
        cut = runtime.view("r").steps["b"].seq
        assert (await dump(runtime, new))[: cut - 1] == before[: cut - 1]
        assert runtime.view(new).forked_from == f"r@{cut}"


async def test_a_fork_after_the_last_event_repeats_nothing(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        await runtime.run(W, ["a", "b"], run_id="r")
        new = await runtime.fork("r", before=runtime.view("r").seq + 1, new_run_id="copy")
        assert new == "copy"
        assert await (await runtime.resume(new)).result() == ["A", "B"]
        assert CALLS == ["a", "b"]


async def test_a_once_step_that_the_cut_goes_through_is_in_doubt(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        await runtime.run(W, ["a", "b"], run_id="r")
        started = runtime.view("r").steps["b"].started_seq
        new = await runtime.fork("r", before=started + 1)
        with pytest.raises(InDoubt):
            await (await runtime.resume(new)).result()
        assert CALLS == ["a", "b"]


async def test_what_was_spent_before_the_cut_counts(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        await runtime.run(W, ["a", "b", "c"], run_id="r", budget=Budget(tokens=30))
        new = await runtime.fork("r", before="c")
        assert runtime.view(new).spent()["tokens"] == 20
        await (await runtime.resume(new)).result()
        assert runtime.view(new).spent()["tokens"] == 30


async def test_a_fork_of_a_fork_is_a_run(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        await runtime.run(W, ["a", "b"], run_id="r")
        first = await runtime.fork("r", before="b")
        await (await runtime.resume(first)).result()
        second = await runtime.fork(first, before="b")
        assert await (await runtime.resume(second)).result() == ["A", "B"]
        assert len({r.run_id for r in runtime.runs()}) == 3


@pytest.mark.parametrize(
    ("before", "message"),
    [("nope", "no step 'nope'"), (1, "from 3 to"), (0, "from 3 to"), (99, "from 3 to")],
)
async def test_a_cut_that_is_not_there_is_refused(
    fast_path: Path, before: Any, message: str
) -> None:
    async with Runtime.open(fast_path) as runtime:
        await runtime.run(W, ["a"], run_id="r")
        with pytest.raises(ConfigError, match=message):
            await runtime.fork("r", before=before)
        assert len(runtime.runs()) == 1


async def test_a_name_that_is_taken_is_refused(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        await runtime.run(W, ["a"], run_id="r")
        with pytest.raises(ConfigError, match="'r' is there already"):
            await runtime.fork("r", before="a", new_run_id="r")
        with pytest.raises(ConfigError, match="'r' is in"):
            await runtime.run(W, ["a"], run_id="r")
        with pytest.raises(RunNotFound):
            await runtime.fork("nope", before=3)
