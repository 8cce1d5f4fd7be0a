"""The agents of one run of a team: who fills which role, and what each of them took.

Invariant: an agent of a team is run through `Crew.ask`, so that its cost is counted, and its
failure is a report and not an exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from manyhands.agents.context import Item
from manyhands.agents.driving import World
from manyhands.agents.report import Report
from manyhands.agents.request import Limits
from manyhands.agents.role import Role
from manyhands.agents.stepcheck.watch import Watch
from manyhands.agents.tools import Toolbox
from manyhands.agents.turn import WATCH, Check, Inbox, run_agent
from manyhands.ports import Model
from manyhands.runtime import Budget, Run

A = TypeVar("A", bound=BaseModel)

#: Who looks at the flagged steps of all agents of a team.
JUDGE = "judge"


class AgentCost(BaseModel):
    """What one agent took. ``seconds``: from its first step to the end of its last. ``reported``:
    tokens as the server counted them (0: it did not). What agents below it took is theirs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    agent: str
    role: str
    model: str
    status: str
    seconds: float
    requests: int
    tokens: int
    micro_usd: int
    reported: int


@dataclass(slots=True)
class _Ran:
    role: str
    scope: str
    model: str
    report: Report[Any] | None = None


@dataclass(slots=True)
class Crew:
    """``models``: role -> chain, for every role of ``roles``, and for `JUDGE` if there is one."""

    models: Mapping[str, Sequence[Model]]
    roles: Mapping[str, Role]
    _ran: list[_Ran] = field(default_factory=list[_Ran])

    async def ask(
        self,
        run: Run,
        role: Role | str,
        task: str,
        output: type[A],
        *,
        items: Iterable[Item] = (),
        toolbox: Toolbox | None = None,
        checks: Mapping[str, Check] | None = None,
        limits: Limits | None = None,
        inbox: Inbox | None = None,
        watch: Watch | None = WATCH,
        world: World | None = None,
        budget: Budget | None = None,
        key: str | None = None,
    ) -> Report[A]:
        """One agent works on ``task``, within ``budget`` and that of its role; of its role's tools
        it gets those that ``toolbox`` holds.

        Raises `BudgetExceeded` where the budget of a scope around it is gone.
        """
        chosen = self.roles[role] if isinstance(role, str) else role
        key = key or chosen.name
        chosen = replace(chosen, budget=tighter(chosen.budget, budget))
        if toolbox is not None:
            there = tuple(name for name in chosen.tools if name in toolbox)
            chosen = replace(chosen, tools=there)
        chain = self.models[chosen.name]
        ran = _Ran(chosen.name, run.key(key), chain[0].name)
        self._ran.append(ran)
        judge = self.models.get(JUDGE)
        if judge and watch is not None and watch.judge is None:
            watch = replace(watch, judge=judge[0])
        ran.report = report = await run_agent(
            run,
            chosen,
            task,
            model=chain,
            output=output,
            items=items,
            toolbox=toolbox,
            checks=checks,
            limits=limits,
            inbox=inbox,
            watch=watch,
            world=world,
            on_text=_watched,
            key=key,
        )
        return report

    def costs(self, run: Run) -> tuple[AgentCost, ...]:
        """Of every agent, in the order of their scopes. ``run``: the outermost scope."""
        scopes = {ran.scope for ran in self._ran}
        found: list[AgentCost] = []
        for ran in sorted(self._ran, key=lambda r: r.scope):
            below = [s for s in scopes if s.startswith(f"{ran.scope}/")]
            direct = [s for s in below if not any(s.startswith(f"{o}/") for o in below)]
            found.append(_cost(run, ran, direct))
        return tuple(found)


def tighter(one: Budget | None, other: Budget | None) -> Budget | None:
    """Of each limit the lower one."""
    if one is None or other is None:
        return one or other
    limits = [each.model_dump(exclude_none=True, exclude={"units"}) for each in (one, other)]
    names = limits[0].keys() | limits[1].keys()
    least = {name: min(each[name] for each in limits if name in each) for name in names}
    return Budget(**least, units=other.units | one.units)


def _watched(_: str) -> None:
    """Makes requests streamed, so that a hang is noticed."""


def _cost(run: Run, ran: _Ran, below: Sequence[str]) -> AgentCost:
    spent = dict(run.spent(ran.scope))
    for scope in below:
        for unit, amount in run.spent(scope).items():
            spent[unit] = spent.get(unit, 0) - amount
    report = ran.report
    return AgentCost(
        agent=ran.scope,
        role=ran.role,
        model=report.model if report else ran.model,
        status=f"{report.status}: {report.ending}" if report else "failed: budget",
        seconds=round(run.seconds(ran.scope), 3),
        requests=spent.get("requests", 0),
        tokens=spent.get("tokens", 0),
        micro_usd=spent.get("micro_usd", 0),
        reported=report.reported if report else 0,
    )
