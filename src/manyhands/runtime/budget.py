"""Budgets that cannot be overshot: the worst case is reserved before a call, settled after it.

Invariant, for every pool and unit at every moment: spent + reserved ≤ limit, unless an earlier
process spent more under a larger limit. A reservation goes along the whole line of enclosing scopes
or nowhere, so parallel children share what their parent has. Whoever waits is served in the order
of arrival, as soon as what it asks for is free. All calls come from one event loop; there is no
await between check and booking.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from manyhands.errors import BudgetExceeded, WorkflowError

#: unit -> whole amount. Units of the agents: ``requests``, ``tokens``, ``micro_usd``.
Amounts = Mapping[str, int]


class Budget(BaseModel):
    """Limits of one scope; None is no limit. ``seconds`` counts while a process holds the run.

    ``depth``: how many scopes may nest below this one. ``fan_out``: how many children of one
    ``map`` may run at once, here and below. ``units``: limits of a workflow's own units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int | None = Field(default=None, ge=0)
    requests: int | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, gt=0)
    depth: int | None = Field(default=None, ge=0)
    fan_out: int | None = Field(default=None, ge=1)
    units: dict[str, int] = Field(default_factory=dict)

    def limits(self) -> dict[str, int]:
        """Unit -> limit, money in millionths of a dollar."""
        found = dict(self.units)
        if self.tokens is not None:
            found["tokens"] = self.tokens
        if self.requests is not None:
            found["requests"] = self.requests
        if self.usd is not None:
            found["micro_usd"] = round(self.usd * 1_000_000)
        return found

    def within(self, outer: Budget) -> Budget:
        """This budget, with the depth and fan-out that ``outer`` leaves to a scope inside it."""
        left = None if outer.depth is None else outer.depth - 1
        return self.model_copy(
            update={
                "depth": _least(self.depth, left),
                "fan_out": _least(self.fan_out, outer.fan_out),
            }
        )


def _least(*limits: int | None) -> int | None:
    return min((n for n in limits if n is not None), default=None)


@dataclass(slots=True, eq=False)
class Span:
    """A limit on the seconds of a scope that began when the run had been active for ``since``."""

    path: str
    seconds: float
    since: float

    def left(self, active: float) -> float:
        """Raises `BudgetExceeded` when nothing is left."""
        gone = active - self.since
        if gone >= self.seconds:
            raise BudgetExceeded(self.path, "seconds", 0, gone, self.seconds)
        return self.seconds - gone


@dataclass(slots=True, eq=False)
class _Waiter:
    cost: Amounts
    line: list[Pool]
    granted: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class Pool:
    """What one scope may spend, has spent and has promised."""

    path: str
    limits: dict[str, int]
    parent: Pool | None = None
    spent: Counter[str] = field(default_factory=Counter[str])
    reserved: Counter[str] = field(default_factory=Counter[str])
    waiters: deque[_Waiter] = field(default_factory=deque[_Waiter])

    def line(self) -> list[Pool]:
        pools: list[Pool] = [self]
        pool = self.parent
        while pool is not None:
            pools.append(pool)
            pool = pool.parent
        return pools

    def remaining(self, unit: str) -> int | None:
        """The tightest limit of the line less what is spent and reserved; None: no limit."""
        left = [
            p.limits[unit] - p.spent[unit] - p.reserved[unit]
            for p in self.line()
            if unit in p.limits
        ]
        return min(left) if left else None

    async def reserve(self, cost: Amounts) -> None:
        """Book ``cost`` along the line, waiting while other reservations may still be given back.

        Raises `BudgetExceeded` when it would not fit even then. Cancelling it books nothing.
        """
        line = self.line()
        tight = _tight(line, cost) or _queue_for(line, cost)
        if tight is None:
            _book(line, cost)
            return
        waiter = _Waiter(cost, line, asyncio.get_running_loop().create_future())
        tight.waiters.append(waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def _withdraw(self, waiter: _Waiter) -> None:
        granted = waiter.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            self.settle(waiter.cost, {})
            return
        for pool in waiter.line:
            if waiter in pool.waiters:
                pool.waiters.remove(waiter)
                serve(pool)  # those behind it may fit

    def settle(self, cost: Amounts, used: Amounts) -> None:
        """Give ``cost`` back and book ``used``, which is never more (see `clip`)."""
        line = self.line()
        for pool in line:
            pool.reserved.subtract(cost)
            pool.spent.update(used)
        for pool in line:
            serve(pool)


def _book(line: list[Pool], cost: Amounts) -> None:
    for pool in line:
        pool.reserved.update(cost)


def _tight(line: list[Pool], cost: Amounts) -> Pool | None:
    """None: it fits. A pool: it may fit later, when that one gets something back."""
    tight: Pool | None = None
    for pool in line:
        for unit, asked in cost.items():
            limit = pool.limits.get(unit)
            if limit is None or asked == 0:
                continue
            if pool.spent[unit] + asked > limit:
                raise BudgetExceeded(pool.path, unit, asked, pool.spent[unit], limit)
            if pool.spent[unit] + pool.reserved[unit] + asked > limit:
                tight = pool
    return tight


def _queue_for(line: list[Pool], cost: Amounts, me: _Waiter | None = None) -> Pool | None:
    """A pool where somebody waits already for one of these units: nobody is overtaken."""
    for pool in line:
        for waiter in pool.waiters:
            if waiter is me:
                break
            if any(waiter.cost.get(u, 0) and cost[u] and u in pool.limits for u in cost):
                return pool
    return None


def serve(pool: Pool) -> None:
    """Grant, refuse or move on those who wait here, first come first served."""
    for waiter in list(pool.waiters):
        if waiter.granted.done():  # cancelled, and about to withdraw
            continue
        try:
            tight = _queue_for(waiter.line, waiter.cost, waiter) or _tight(waiter.line, waiter.cost)
        except BudgetExceeded as error:
            pool.waiters.remove(waiter)
            waiter.granted.set_exception(error)
            continue
        if tight is None:
            pool.waiters.remove(waiter)
            _book(waiter.line, waiter.cost)
            waiter.granted.set_result(None)
        elif tight is not pool:
            pool.waiters.remove(waiter)
            tight.waiters.append(waiter)


def check_cost(key: str, cost: Amounts) -> None:
    """Raises `WorkflowError` for a cost that is not a whole amount of zero or more."""
    for unit, amount in cast(Mapping[str, Any], cost).items():
        if not _whole(amount) or amount < 0:
            raise WorkflowError(
                f"step {key!r} costs {amount!r} {unit}",
                next="give the worst case as a whole number, 0 or more",
            )


def _whole(amount: Any) -> bool:
    return isinstance(amount, int) and not isinstance(amount, bool)


def clip(cost: Amounts, usage: Any) -> tuple[dict[str, int], bool]:
    """What to book for a call that reserved ``cost`` and says it used ``usage``; and: disputed?

    A unit that the usage leaves out, or gives as anything but a whole number of zero or more, is
    charged in full; one above the reservation is charged at the reservation and disputed: a
    server's word cannot break a limit.
    """
    if not isinstance(usage, Mapping):
        return dict(cost), True
    said = cast(Mapping[Any, Any], usage)
    used = {
        u: (said[u] if _whole(said.get(u)) and 0 <= said[u] <= c else c) for u, c in cost.items()
    }
    return used, any(u not in cost or used[u] != amount for u, amount in said.items() if amount)
