"""The state of one question: everything in it is rebuilt by a replay.

Invariant: an agent of the team is run through `Case.ask`, so that it has the order's limits and its
cost is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from manyhands.agents.context import Item
from manyhands.agents.crew import Crew
from manyhands.agents.report import Report
from manyhands.agents.request import Limits
from manyhands.agents.role import Role
from manyhands.agents.tools import Toolbox
from manyhands.agents.turn import Check, Inbox
from manyhands.ports import Fetcher, Model
from manyhands.runtime import Budget, Run
from manyhands.teams.answer.board import Board
from manyhands.teams.answer.memory import Memory
from manyhands.teams.answer.records import (
    Critique,
    Draft,
    Order,
    Plan,
    Revision,
    Route,
    Work,
)
from manyhands.teams.answer.shelves import Shelves

A = TypeVar("A", bound=BaseModel)

#: Of one request.
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Desk:
    """What the team is handed. ``models``: role -> chain, for every role of ``roles``.

    ``tools``: those that need nothing of the case (``now``, ``python``, those of tool servers).
    ``notes``: what the user should know of what there is and is not.
    """

    models: Mapping[str, Sequence[Model]]
    roles: Mapping[str, Role]
    shelves: Shelves
    tools: Toolbox = field(default_factory=Toolbox)
    fetcher: Fetcher | None = None
    memory: Memory | None = None
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Case:
    """``work``: subtask -> reports, oldest first. ``notes``: what the user should know.

    ``checked``: there is something that a citation can name. ``ended``: why it stopped early.
    """

    order: Order
    desk: Desk
    route: Route | None = None
    plan: Plan | None = None
    checked: bool = False
    recalled: tuple[Item, ...] = ()
    board: Board = field(default_factory=Board)
    work: dict[str, list[Work]] = field(default_factory=dict[str, list[Work]])
    drafts: list[Draft] = field(default_factory=list[Draft])
    critiques: list[Critique] = field(default_factory=list[Critique])
    revisions: list[Revision] = field(default_factory=list[Revision])
    notes: list[str] = field(default_factory=list[str])
    ended: str = ""
    crew: Crew = field(init=False)

    def __post_init__(self) -> None:
        self.crew = Crew(self.desk.models, self.desk.roles)

    @property
    def question(self) -> str:
        return self.order.question

    @property
    def limits(self) -> Limits:
        patience = self.order.patience
        return Limits(attempts=ATTEMPTS, first_token_seconds=patience, idle_seconds=patience)

    async def ask(
        self,
        run: Run,
        role: str,
        task: str,
        output: type[A],
        *,
        items: Iterable[Item] = (),
        toolbox: Toolbox | None = None,
        checks: Mapping[str, Check] | None = None,
        inbox: Inbox | None = None,
        budget: Budget | None = None,
        key: str | None = None,
    ) -> Report[A]:
        """One agent works on ``task``, within ``budget`` and that of its role.

        Raises `BudgetExceeded` where the run's budget is gone.
        """
        return await self.crew.ask(
            run,
            role,
            task,
            output,
            items=items,
            toolbox=toolbox,
            checks=checks,
            limits=self.limits,
            inbox=inbox,
            budget=budget,
            key=key,
        )

    def latest(self, subtask: str) -> Work | None:
        """The last report that said anything; the last of all where none did."""
        reports = self.work.get(subtask, [])
        useful = [work for work in reports if work.status != "failed" or work.findings]
        return (useful or reports or [None])[-1]

    @property
    def latest_work(self) -> list[Work]:
        """Of each subtask, in the plan's order."""
        found = [self.latest(each.id) for each in self.plan.subtasks] if self.plan else []
        return [work for work in found if work is not None]
