"""The state of one order: everything in it is rebuilt by a replay.

Invariant: nothing here decides what an agent is told; that is always a journaled step, for agents
at work at the same time may come to it in another order on replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from manyhands.agents.crew import Crew
from manyhands.agents.request import Limits
from manyhands.agents.role import Role
from manyhands.agents.workspace.ground import Ground
from manyhands.ports import Model
from manyhands.teams.code.records import Check, Merge, Order, Step, Task, TaskState
from manyhands.teams.code.store import Store
from manyhands.teams.code.trunk import Trunk

#: Of one request.
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Desk:
    """What the team is handed. ``models``: role -> chain, for every role of ``roles``.

    ``ignored``: paths that are no part of anybody's work. ``enforced``: what sandboxes keep here
    and what not, for the journal. ``notes``: what the user should know of what there is and is not.
    """

    models: Mapping[str, Sequence[Model]]
    roles: Mapping[str, Role]
    ground: Ground
    ignored: Callable[[str], bool]
    protected: Callable[[str], bool]
    enforced: Mapping[str, object] = field(default_factory=dict[str, object])
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Case:
    """``tasks``: in the order in which they were accepted. ``checked``: tree hash -> what the
    check said of it, as far as this process knows. ``left_out``: tasks whose changes the
    orchestrator gave up. ``ended``: why it stopped early."""

    order: Order
    desk: Desk
    store: Store = field(default_factory=Store)
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    plan: tuple[Step, ...] = ()
    checked: dict[str, Check] = field(default_factory=dict[str, Check])
    summary: str = ""
    ending: str = ""
    ended: str = ""
    left_out: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list[str])
    crew: Crew = field(init=False)
    trunk: Trunk = field(init=False)
    slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        desk = self.desk
        self.crew = Crew(desk.models, desk.roles)
        self.trunk = Trunk(desk.ground, desk.ignored, desk.protected)
        self.slots = asyncio.Semaphore(self.order.coders)

    def limits(self, parallel_calls: int) -> Limits:
        patience = self.order.patience
        return Limits(
            attempts=ATTEMPTS,
            parallel_calls=parallel_calls,
            first_token_seconds=patience,
            idle_seconds=patience,
        )

    def takers(self) -> dict[str, str]:
        """Task -> the task that takes its changes up, or has done so."""
        found = [t for t in self.tasks.values() if t.takes_up]
        return {t.takes_up: t.id for t in found if t.at_work or _stands_for_another(t)}

    def held(self) -> list[Task]:
        """Tasks whose changes are not in the workspace, and that none has taken up."""
        taken = {t.takes_up for t in self.tasks.values() if _stands_for_another(t)}
        return [t for t in self.tasks.values() if t.held is not None and t.id not in taken]

    def conflicts(self) -> list[Task]:
        return [task for task in self.held() if task.merge is Merge.CONFLICT]


def _stands_for_another(task: Task) -> bool:
    """Whether what became of its change is what became of the one that it took up. One that failed
    with nothing to show for it has left that as it was; so has one whose change was refused."""
    if task.merge is Merge.NOTHING:
        return task.state is TaskState.COMPLETE
    return task.merge is not Merge.REFUSED
