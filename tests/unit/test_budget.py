"""Budgets: nothing overshoots, nothing leaks, nobody is forgotten."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import BudgetExceeded, StepFailed, WorkflowError
from manyhands.runtime import Budget, Run, Runtime, Workflow
from manyhands.runtime.budget import Pool, clip
from manyhands.testing import ManualClock

Body = Callable[[Run, Any], Awaitable[Any]]


def pool(parent: Pool | None = None, path: str = "p", **limits: int) -> Pool:
    return Pool(path, limits, parent)


async def play(path: Path, fn: Body, budget: Budget | None = None, **options: Any) -> Any:
    workflow = Workflow("w", fn)
    async with Runtime.open(path, workflows=[workflow], **options) as runtime:
        return await runtime.run(workflow, run_id="r", budget=budget)


# -------------------------------------------------------------------- pools


async def test_a_reservation_goes_along_the_whole_line() -> None:
    root = pool(tokens=100)
    child = pool(root, tokens=60)
    await child.reserve({"tokens": 50})
    assert (root.remaining("tokens"), child.remaining("tokens")) == (50, 10)
    child.settle({"tokens": 50}, {"tokens": 20})
    assert (root.remaining("tokens"), child.remaining("tokens")) == (80, 40)


async def test_what_can_never_fit_is_refused_and_books_nothing() -> None:
    root = pool(path="", tokens=100)
    child = pool(root, path="c", requests=5)
    with pytest.raises(BudgetExceeded, match=r"the run: tokens 0 used \+ 101 asked > limit 100"):
        await child.reserve({"tokens": 101, "requests": 1})
    assert (root.remaining("tokens"), child.remaining("requests")) == (100, 5)


async def test_what_may_fit_later_waits() -> None:
    root = pool(tokens=100)
    await root.reserve({"tokens": 80})
    waiting = asyncio.create_task(root.reserve({"tokens": 40}))
    await asyncio.sleep(0)
    assert not waiting.done()
    root.settle({"tokens": 80}, {"tokens": 10})
    await waiting
    assert root.remaining("tokens") == 50


async def test_one_who_waits_is_refused_as_soon_as_it_cannot_fit_any_more() -> None:
    root = pool(tokens=100)
    await root.reserve({"tokens": 80})
    waiting = asyncio.create_task(root.reserve({"tokens": 40}))
    await asyncio.sleep(0)
    root.settle({"tokens": 80}, {"tokens": 80})
    with pytest.raises(BudgetExceeded):
        await waiting
    assert root.remaining("tokens") == 20


async def test_one_who_waits_is_woken_by_any_pool_of_its_line() -> None:
    root = pool(tokens=100)
    left, right = pool(root, tokens=50), pool(root, tokens=80)
    await right.reserve({"tokens": 60})
    await left.reserve({"tokens": 30})
    waiting = asyncio.create_task(left.reserve({"tokens": 30}))  # tight here and above
    await asyncio.sleep(0)
    right.settle({"tokens": 60}, {})
    await asyncio.sleep(0)
    assert not waiting.done()
    left.settle({"tokens": 30}, {})
    await waiting


async def test_nobody_is_overtaken() -> None:
    root = pool(tokens=100)
    order: list[str] = []

    async def ask(name: str, tokens: int) -> None:
        await root.reserve({"tokens": tokens})
        order.append(name)

    await root.reserve({"tokens": 60})
    asks = [asyncio.create_task(ask("large", 70))]
    await asyncio.sleep(0)
    asks += [asyncio.create_task(ask(f"small{i}", 10)) for i in range(3)]
    await asyncio.sleep(0)
    assert order == []  # the small ones would fit, and wait for their turn
    root.settle({"tokens": 60}, {})
    await asyncio.gather(*asks)
    assert order == ["large", "small0", "small1", "small2"]


async def test_who_asks_for_another_unit_does_not_wait_in_line() -> None:
    root = pool(tokens=10, requests=10)
    await root.reserve({"tokens": 10})
    waiting = asyncio.create_task(root.reserve({"tokens": 5}))
    await asyncio.sleep(0)
    await root.reserve({"requests": 1})
    waiting.cancel()


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    root = pool(tokens=100)
    await root.reserve({"tokens": 80})
    first = asyncio.create_task(root.reserve({"tokens": 90}))
    second = asyncio.create_task(root.reserve({"tokens": 15}))
    await asyncio.sleep(0)
    first.cancel()
    await second  # the one behind it fits now
    assert not root.waiters
    root.settle({"tokens": 80}, {})
    root.settle({"tokens": 15}, {})
    assert root.remaining("tokens") == 100


async def test_a_wait_that_is_cancelled_just_as_it_is_granted_leaves_nothing_behind() -> None:
    root = pool(tokens=100)
    await root.reserve({"tokens": 80})
    waiting = asyncio.create_task(root.reserve({"tokens": 90}))
    await asyncio.sleep(0)
    root.settle({"tokens": 80}, {})  # granted, and not yet resumed
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert root.remaining("tokens") == 100


@pytest.mark.parametrize(
    ("usage", "used", "disputed"),
    [
        ({"tokens": 30, "requests": 1}, (30, 1), False),
        ({"tokens": 0, "requests": 1}, (0, 1), False),
        ({"requests": 1}, (100, 1), False),
        ({}, (100, 1), False),
        ({"tokens": 5000, "requests": 1}, (100, 1), True),
        ({"tokens": -5, "requests": 1}, (100, 1), True),
        ({"tokens": 10.5}, (100, 1), True),
        ({"tokens": "10"}, (100, 1), True),
        ({"tokens": True}, (100, 1), True),
        ({"tokens": math.nan}, (100, 1), True),
        ({"usd": 3}, (100, 1), True),
        (None, (100, 1), True),
        ("much", (100, 1), True),
    ],
)
def test_a_callee_cannot_break_a_limit_by_its_word(usage: Any, used: Any, disputed: bool) -> None:
    found = clip({"tokens": 100, "requests": 1}, usage)
    assert found == ({"tokens": used[0], "requests": used[1]}, disputed)


# -------------------------------------------------------------------- in a run


async def test_64_children_in_nested_scopes_never_overshoot(fast_path: Path) -> None:
    """A hidden ledger of true spend, a callee that lies about half of it."""
    open_now = peak = calls = 0

    async def call(i: int) -> int:
        nonlocal open_now, peak, calls
        calls += 1
        open_now += 10
        peak = max(peak, open_now)
        await asyncio.sleep(0.001 * (i % 3))
        open_now -= 10
        return i

    def usage(i: int) -> Any:
        return [{"tokens": 4, "requests": 1}, {"tokens": 10_000}, {"tokens": -3}, None][i % 4]

    async def agent(child: Run, i: int) -> str:
        try:
            async with child.scope("deep", Budget(requests=2)) as deep:
                for n in range(4):
                    await deep.step(
                        f"c{n}", call, i, cost={"tokens": 10, "requests": 1}, usage=usage
                    )
        except BudgetExceeded as error:
            return error.unit
        return "done"

    async def body(run: Run, input: Any) -> Any:
        return await run.map("agent", agent, range(64), key_of=str)

    outcome = await play(fast_path, body, Budget(tokens=600, requests=90))
    async with Runtime.open(fast_path) as runtime:
        spent = runtime.view("r").spent()
    assert set(outcome) <= {"tokens", "requests"}
    assert spent["tokens"] <= 600
    assert spent["requests"] == calls <= 90
    assert peak <= 600
    assert spent["requests"] == 90 or spent["tokens"] > 590  # and none of it lies idle


async def test_a_failed_attempt_is_charged(fast_path: Path) -> None:
    async def body(run: Run, input: Any) -> Any:
        with pytest.raises(StepFailed):
            await run.step("s", lambda: 1 / 0, cost={"tokens": 40})
        return run.remaining("tokens")

    assert await play(fast_path, body, Budget(tokens=100)) == 60


async def test_a_usage_that_cannot_be_had_is_charged_in_full(fast_path: Path) -> None:
    def usage(value: Any) -> Any:
        raise KeyError("tokens")

    async def body(run: Run, input: Any) -> Any:
        value = await run.step("s", lambda: 1, cost={"tokens": 40}, usage=usage)
        return value, run.remaining("tokens")

    assert await play(fast_path, body, Budget(tokens=100)) == [1, 60]


async def test_a_cancelled_call_gives_back_nothing_and_leaks_nothing(fast_path: Path) -> None:
    async def body(run: Run, input: Any) -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await run.step("s", asyncio.Event().wait, cost={"tokens": 40})
        await run.step("t", lambda: 1, cost={"tokens": 60})  # would wait for ever on a leak
        return run.remaining("tokens")

    assert await play(fast_path, body, Budget(tokens=100)) == 0


@pytest.mark.parametrize("cost", [{"tokens": -1}, {"tokens": 1.5}, {"tokens": True}])
async def test_a_cost_is_a_whole_amount(fast_path: Path, cost: Any) -> None:
    async def body(run: Run, input: Any) -> None:
        await run.step("s", lambda: 1, cost=cost)

    with pytest.raises(WorkflowError, match="whole number"):
        await play(fast_path, body)


async def test_a_refusal_is_the_same_on_replay(fast_path: Path) -> None:
    seen: list[str] = []

    async def body(run: Run, input: Any) -> None:
        await run.step("a", lambda: 1, cost={"tokens": 60})
        try:
            await run.step("b", lambda: 1, cost={"tokens": 60})
        except BudgetExceeded as error:
            seen.append(str(error))

    await play(fast_path, body, Budget(tokens=100))
    async with Runtime.open(fast_path, workflows=[Workflow("w", body)]) as runtime:
        new = await runtime.fork("r", before=runtime.view("r").seq)
        await (await runtime.resume(new)).result()
    assert seen[0] == seen[1]


async def test_a_failure_called_budget_exceeded_is_a_failure(fast_path: Path) -> None:
    """Raised by the call itself, of a budget that is not ours."""

    def call() -> None:
        raise BudgetExceeded("elsewhere", "tokens", 1, 2, 3)

    async def body(run: Run, input: Any) -> None:
        await run.step("s", call)

    with pytest.raises(StepFailed, match="BudgetExceeded"):
        await play(fast_path, body)
    async with Runtime.open(fast_path, workflows=[Workflow("w", body)]) as runtime:
        with pytest.raises(StepFailed, match="BudgetExceeded"):
            await (await runtime.resume("r")).result()


async def test_a_larger_budget_tries_what_was_refused_again(fast_path: Path) -> None:
    calls: list[int] = []

    async def body(run: Run, input: Any) -> int:
        for i in range(4):
            await run.step(f"s{i}", calls.append, i, cost={"tokens": 40})
        return len(calls)

    workflow = Workflow("w", body)
    with pytest.raises(BudgetExceeded):
        await play(fast_path, body, Budget(tokens=100))
    async with Runtime.open(fast_path, workflows=[workflow]) as runtime:
        with pytest.raises(BudgetExceeded):
            await (await runtime.resume("r", budget=Budget(tokens=130))).result()
        handle = await runtime.resume("r", budget=Budget(tokens=160))
        assert await handle.result() == 4
        assert runtime.view("r").spent()["tokens"] == 160
    assert calls == [0, 1, 2, 3]


async def test_after_a_crash_each_scope_has_what_was_spent_in_it(fast_path: Path) -> None:
    """Nested pools are loaded with theirs, the root with all, whatever is spent meanwhile."""
    left: dict[str, Any] = {}
    last = True

    async def work(child: Run, item: str) -> None:
        for i in range(3):
            await child.step(f"s{i}", lambda: 1, cost={"tokens": 10}, usage=lambda v: {"tokens": 7})
        if last and item == "b":
            await child.step("hang", asyncio.Event().wait, cost={"tokens": 20})
        await child.step("more", lambda: 1, cost={"tokens": 1})
        left[item] = child.remaining("tokens")

    async def body(run: Run, input: Any) -> None:
        await run.map("m", work, ["a", "b"], key_of=str, budget=Budget(tokens=100), limit=1)
        left["root"] = run.remaining("tokens")

    workflow = Workflow("w", body)
    async with Runtime.open(fast_path, workflows=[workflow]) as runtime:
        await runtime.start(workflow, run_id="r", budget=Budget(tokens=1000))
        async with asyncio.timeout(10):
            while "m/b/hang" not in runtime.view("r").steps:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    last = False
    async with Runtime.open(fast_path, workflows=[workflow]) as runtime:
        await (await runtime.resume("r")).result()
        assert runtime.view("r").spent()["tokens"] == 64
    assert left == {"a": 78, "b": 58, "root": 936}  # 'hang' was lost, and is charged


async def test_a_scope_beside_another_does_not_pay_for_it(fast_path: Path) -> None:
    async def body(run: Run, input: Any) -> Any:
        async with run.scope("work", Budget(tokens=10)) as work:
            await work.step("s", lambda: 1, cost={"tokens": 10})
        async with run.scope("work2", Budget(tokens=10)) as other:
            return other.remaining("tokens")

    assert await play(fast_path, body) == 10


async def test_seconds_bound_a_scope_and_its_calls(fast_path: Path) -> None:
    clock = ManualClock()

    async def body(run: Run, input: Any) -> list[str]:
        found: list[str] = []
        async with run.scope("a", Budget(seconds=10)) as scope:
            await scope.sleep("nap", 4)
            with pytest.raises(StepFailed) as failed:
                await scope.step("s", asyncio.Event().wait)
            found.append(failed.value.message)
            with pytest.raises(BudgetExceeded) as refused:
                await scope.step("t", lambda: 1)
            found.append(refused.value.unit)
        await run.step("outside", lambda: 1)
        return found

    async def turn() -> None:
        await clock.sleepers(1)
        await clock.advance(4)
        await clock.sleepers(1)
        await clock.advance(6)

    turning = asyncio.create_task(turn())
    assert await play(fast_path, body, clock=clock) == ["no end after 6 s", "seconds"]
    await turning


async def test_seconds_do_not_count_while_nobody_holds_the_run(fast_path: Path) -> None:
    clock = ManualClock()

    async def body(run: Run, input: Any) -> str:
        await run.step("s", asyncio.sleep, 0)
        await run.wait("go")
        return await run.step("t", lambda: "in time")

    workflow = Workflow("w", body)
    async with Runtime.open(fast_path, workflows=[workflow], clock=clock) as runtime:
        await runtime.start(workflow, run_id="r", budget=Budget(seconds=60))
        async with asyncio.timeout(10):
            while not runtime.view("r").waits:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    await clock.advance(1_000_000)
    async with Runtime.open(fast_path, workflows=[workflow], clock=clock) as runtime:
        await runtime.answer("r", "go", 1)
        new = await runtime.fork("r", before="s")
        await clock.advance(1_000_000)
        assert await (await runtime.resume("r")).result() == "in time"
        await runtime.answer(new, "go", 1)
        assert await (await runtime.resume(new)).result() == "in time"


async def test_depth_and_fan_out_hold_for_all_that_is_below(fast_path: Path) -> None:
    now = most = 0

    async def leaf(child: Run, item: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1

    async def body(run: Run, input: Any) -> str:
        async with run.scope("a") as a, a.scope("b", Budget(fan_out=9)) as b:
            await b.map("m", leaf, range(6), key_of=str, limit=5)
            async with b.scope("c") as c:
                with pytest.raises(BudgetExceeded) as refused:
                    async with c.scope("d"):
                        pass
        return refused.value.unit

    assert await play(fast_path, body, Budget(depth=3, fan_out=2)) == "depth"
    assert most == 2


async def test_a_map_needs_room_for_one(fast_path: Path) -> None:
    async def body(run: Run, input: Any) -> None:
        async def nothing(child: Run, item: int) -> None: ...

        await run.map("m", nothing, [1], key_of=str, limit=0)

    with pytest.raises(WorkflowError, match="limit 0"):
        await play(fast_path, body)


def test_money_is_counted_in_whole_millionths() -> None:
    assert Budget(usd=0.29, units={"gpu": 3}).limits() == {"micro_usd": 290_000, "gpu": 3}
