"""Any order of asking, settling and cancelling over any tree of pools: nothing overshoots, nothing
leaks, nobody waits for what is free."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manyhands.errors import BudgetExceeded
from manyhands.runtime.budget import Pool, clip

UNITS = ("tokens", "requests")
LIMITS = st.dictionaries(st.sampled_from(UNITS), st.integers(0, 30), max_size=2)
COST = st.dictionaries(st.sampled_from(UNITS), st.integers(0, 12), min_size=1, max_size=2)


class Ask:
    def __init__(self, pool: Pool, cost: dict[str, int], task: asyncio.Task[None]) -> None:
        self.pool, self.cost, self.task = pool, cost, task

    @property
    def granted(self) -> bool:
        done = self.task.done() and not self.task.cancelled()
        return done and self.task.exception() is None

    @property
    def waiting(self) -> bool:
        return not self.task.done()


class Budgets(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.pools: list[Pool] = []
        self.asks: list[Ask] = []
        self.spent: dict[int, Counter[str]] = {}

    def teardown(self) -> None:
        for ask in self.asks:
            ask.task.cancel()
        self.turn()
        self.loop.close()

    def turn(self) -> None:
        async def settle_down() -> None:
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.run_until_complete(settle_down())

    @initialize(limits=LIMITS)
    def root(self, limits: dict[str, int]) -> None:
        self.add(Pool("", limits, None))

    def add(self, pool: Pool) -> None:
        self.pools.append(pool)
        self.spent[id(pool)] = Counter()

    @precondition(lambda self: len(self.pools) < 6)
    @rule(data=st.data(), limits=LIMITS)
    def nest(self, data: Any, limits: dict[str, int]) -> None:
        parent = data.draw(st.sampled_from(self.pools))
        self.add(Pool(f"{parent.path}/x", limits, parent))

    @rule(data=st.data(), cost=COST)
    def ask(self, data: Any, cost: dict[str, int]) -> None:
        pool = data.draw(st.sampled_from(self.pools))
        self.asks.append(Ask(pool, cost, self.loop.create_task(pool.reserve(cost))))
        self.turn()

    def settle_one(self, ask: Ask, usage: Any) -> None:
        self.asks.remove(ask)
        used, _ = clip(ask.cost, usage)
        ask.pool.settle(ask.cost, used)
        for pool in ask.pool.line():
            self.spent[id(pool)].update(used)

    @precondition(lambda self: any(a.granted for a in self.asks))
    @rule(data=st.data(), usage=st.dictionaries(st.sampled_from(UNITS), st.integers(-5, 50)))
    def settle(self, data: Any, usage: Any) -> None:
        self.settle_one(data.draw(st.sampled_from([a for a in self.asks if a.granted])), usage)
        self.turn()

    @precondition(lambda self: any(a.waiting for a in self.asks))
    @rule(data=st.data(), settle_first=st.booleans())
    def cancel(self, data: Any, settle_first: bool) -> None:
        """Also in the very moment in which it is granted."""
        ask = data.draw(st.sampled_from([a for a in self.asks if a.waiting]))
        granted = [a for a in self.asks if a.granted]
        if settle_first and granted:
            self.settle_one(data.draw(st.sampled_from(granted)), {"tokens": 0, "requests": 0})
        self.asks.remove(ask)
        ask.task.cancel()
        self.turn()

    @invariant()
    def nothing_overshoots(self) -> None:
        for pool in self.pools:
            for unit, limit in pool.limits.items():
                assert pool.spent[unit] + pool.reserved[unit] <= limit

    @invariant()
    def nothing_leaks(self) -> None:
        for pool in self.pools:
            booked: Counter[str] = Counter()
            for ask in self.asks:
                if ask.granted and pool in ask.pool.line():
                    booked.update(ask.cost)
            assert all(pool.reserved[unit] == booked[unit] for unit in UNITS)
            assert all(pool.spent[unit] == self.spent[id(pool)][unit] for unit in UNITS)

    @invariant()
    def who_waits_waits_for_a_reason(self) -> None:
        queued = [w for pool in self.pools for w in pool.waiters]
        assert len(queued) == sum(a.waiting for a in self.asks)
        if queued and not any(a.granted and any(a.cost.values()) for a in self.asks):
            raise AssertionError("somebody waits, and nobody holds anything")

    @invariant()
    def a_refusal_was_right(self) -> None:
        for ask in [a for a in self.asks if a.task.done() and not a.granted]:
            assert isinstance(ask.task.exception(), BudgetExceeded)
            self.asks.remove(ask)


Budgets.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestBudgets = Budgets.TestCase
