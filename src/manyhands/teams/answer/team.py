"""The answer team: one agent or many, a critic that checks, revision that ends. Its control flow is
`answer`, on one screen."""

from __future__ import annotations

from typing import TypeVar

from manyhands.agents.ending import is_spent
from manyhands.errors import BudgetExceeded, StepFailed
from manyhands.runtime import Run
from manyhands.teams.answer.case import Case, Desk
from manyhands.teams.answer.closing import conclude
from manyhands.teams.answer.combiner import combine
from manyhands.teams.answer.critic import criticise
from manyhands.teams.answer.opening import prepare
from manyhands.teams.answer.records import Order, Outcome, Plan, Route
from manyhands.teams.answer.revision import revise, wanted
from manyhands.teams.answer.router import choose
from manyhands.teams.answer.supervisor import split
from manyhands.teams.answer.workers import investigate

T = TypeVar("T", Route, Plan)


async def answer(run: Run, order: Order, *, desk: Desk) -> Outcome:
    """The best supported answer to the question, whatever fails on the way."""
    case = Case(order, desk)
    try:
        await prepare(run, case)
        await work(run, case)
    except (BudgetExceeded, StepFailed) as error:
        if not is_spent(error):
            raise
        case.ended = f"The budget ended before the work did: {error.what}"
    return await conclude(run, case)


async def work(run: Run, case: Case) -> None:
    """Route, split, investigate, combine; then criticise and revise while that helps."""
    case.route = await note(run, "route", await choose(run, case))
    case.plan = await note(run, "plan", await split(run, case))
    await investigate(run, case, case.plan.subtasks)
    await criticise(run, case, await combine(run, case))
    while wanted(case) and not await over(run, case):
        async with run.scope(f"revision-{len(case.revisions) + 1}") as scope:
            await revise(scope, case)


async def note(run: Run, key: str, value: T) -> T:
    await run.record(key, f"answer:{key}", value.model_dump(mode="json"))
    return value


async def over(run: Run, case: Case) -> bool:
    """Whether a person has asked to stop."""
    if not await run.stopping(f"stop-{len(case.revisions)}"):
        return False
    case.ended = "A person asked to stop."
    return True
