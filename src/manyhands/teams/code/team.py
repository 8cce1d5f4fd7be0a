"""The code team: an orchestrator that cannot touch files delegates to explorers, which cannot
write, and to coders, whose changes are merged. Its control flow is `solve`, on one screen."""

from __future__ import annotations

from manyhands.agents.context import Item
from manyhands.agents.ending import is_spent
from manyhands.agents.workspace.tree import Tree
from manyhands.errors import BudgetExceeded, StepFailed
from manyhands.runtime import Effect, Run
from manyhands.teams.code.case import Case, Desk
from manyhands.teams.code.closing import conclude
from manyhands.teams.code.commands import run_check, survey
from manyhands.teams.code.orchestrating import orchestrate
from manyhands.teams.code.records import Check, Order, Outcome


async def solve(run: Run, order: Order, *, desk: Desk) -> Outcome:
    """A change that does what is wanted and passes the check; or honestly how far it came."""
    case = Case(order, desk, notes=list(desk.notes))
    try:
        await run.record("sandbox", "code:sandbox", dict(desk.enforced))
        await orchestrate(run, case, await look_around(run, case))
    except (BudgetExceeded, StepFailed) as error:
        if not is_spent(error):
            raise
        case.ended = f"The budget ended before the work did: {error.what}"
    return await conclude(run, case)


async def look_around(run: Run, case: Case) -> list[Item]:
    """What is there before anybody has done anything, and what the check says of it."""
    ground, order = case.desk.ground, case.order
    text: str = await run.step("survey", lambda: survey(run, ground), returns=str)
    items = [Item("The workspace", text, run.key("survey"), "harness")]
    if order.check:
        check: Check = await run.step(
            "first-check",
            lambda: run_check(run, ground, Tree(), order.check, order.seconds),
            effect=Effect.IDEMPOTENT,
            returns=Check,
        )
        told = "It passes already." if check.passed else f"It fails now:\n{check.output}"
        items.append(Item(f"The check `{order.check}`", told, run.key("first-check"), "harness"))
    return items
