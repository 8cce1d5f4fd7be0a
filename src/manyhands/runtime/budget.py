"""Budgets that cannot be overshot: the worst case is reserved before a call, settled after it.

Invariant, for every pool and unit at every moment: spent + reserved ≤ limit. A reservation goes
along the whole line of enclosing scopes or nowhere, so parallel children share what their parent
has. All calls come from one event loop; there is no await between check and booking.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from manyhands.errors import BudgetExceeded

#: unit -> whole amount. Units of the agents: ``requests``, ``tokens``, ``micro_usd``.
Amounts = Mapping[str, int]


class Budget(BaseModel):
    """Limits of one scope; None is no limit. ``seconds`` counts while a process holds the run.

    ``depth``: how many scopes may nest below this one. ``fan_out``: how many children of one
    ``map`` may run at once. ``units``: limits of a workflow's own units.
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
            found["micro_usd"] = int(self.usd * 1_000_000)
        return found


@dataclass(slots=True)
class Pool:
    """What one scope may spend, has spent and has promised."""

    path: str
    limits: dict[str, int]
    parent: Pool | None = None
    spent: Counter[str] = field(default_factory=Counter[str])
    reserved: Counter[str] = field(default_factory=Counter[str])
    waiters: list[asyncio.Future[None]] = field(default_factory=list[asyncio.Future[None]])

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

        Raises `BudgetExceeded` when it would not fit even then.
        """
        line = self.line()
        while (tight := self._check(line, cost)) is not None:
            waiter = asyncio.get_running_loop().create_future()
            tight.waiters.append(waiter)
            await waiter
        for pool in line:
            pool.reserved.update(cost)

    @staticmethod
    def _check(line: list[Pool], cost: Amounts) -> Pool | None:
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

    def settle(self, cost: Amounts, used: Amounts) -> None:
        """Give ``cost`` back and book ``used``, which is never more (see `clip`)."""
        for pool in self.line():
            pool.reserved.subtract(cost)
            pool.spent.update(used)
            waiters, pool.waiters = pool.waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def charge(self, used: Amounts) -> None:
        """Book what an earlier process spent."""
        for pool in self.line():
            pool.spent.update(used)


def clip(cost: Amounts, usage: Amounts) -> tuple[dict[str, int], bool]:
    """What to book for a call that reserved ``cost`` and says it used ``usage``; and: disputed?

    A unit that the usage leaves out, or gives below zero, is charged in full; one above the
    reservation is charged at the reservation and disputed: a server's word cannot break a limit.
    """
    used = {u: (usage[u] if u in usage and 0 <= usage[u] <= c else c) for u, c in cost.items()}
    return used, any(u not in cost or used[u] != amount for u, amount in usage.items() if amount)
