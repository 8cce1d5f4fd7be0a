"""The code team on a terminal task: what it is handed, and what its work is worth.

Invariant: the tests are no part of what the team is handed; the reward is theirs, whatever the team
says of its work.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from manyhands.agents.workspace.ground import Ground
from manyhands.agents.workspace.tree import Tree
from manyhands.evals.tasks import Task
from manyhands.evals.verifying import Verdict, verify
from manyhands.ports import Sandboxes
from manyhands.teams.code.records import Order, Outcome


def order_for(task: Task, base: Path, *, project: Path, **more: object) -> Order:
    """``base``: from `prepare`. ``more``: other fields of the order, as the user has them."""
    given: dict[str, object] = {
        "instruction": task.instruction,
        "repo": str(base),
        "as_is": True,
        "task": str(task.path),
        "keep_git": True,
        "place": task.workdir,
        "env": dict(task.env),
        "seconds": min(task.agent_seconds, 600.0),
        "memory_mb": task.memory_mb,
        "disk_mb": task.disk_mb,
        "project": str(project),
    }
    return Order.model_validate(given | more)


async def reward_of(
    task: Task, sandboxes: Sandboxes, outcome: Outcome, read: Callable[[str], bytes]
) -> Verdict:
    """The tests' word on the outcome's final state. ``read`` gives the run's blobs."""
    tree = Tree.model_validate_json(read(outcome.tree))
    ground = Ground(
        sandboxes, Path(outcome.base), limits=task.limits(), env=task.env, place=task.workdir
    )
    async with ground.at(tree, read) as sandbox:
        return await verify(task, sandbox)
