"""Workers: each looks into one subtask, in parallel, with its own context, tools and budget.

Invariant: whatever becomes of a worker, the team has a `Work` of it that says so; the notes that
one has posted before it failed count as its findings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from manyhands.agents.context import Item
from manyhands.agents.report import Ending, Report
from manyhands.agents.tools import Toolbox
from manyhands.runtime import Budget, Effect, Run
from manyhands.teams.answer.case import Case
from manyhands.teams.answer.checking import problems
from manyhands.teams.answer.claims import Issue
from manyhands.teams.answer.reading import citable, reading_tools
from manyhands.teams.answer.records import Subtask, Way, Work, WorkAnswer

#: Of what is left when the workers begin, their part; the rest is for those who come after.
SHARE = 0.7
UNITS = ("tokens", "requests", "micro_usd")


async def investigate(
    run: Run,
    case: Case,
    subtasks: Sequence[Subtask],
    issues: Sequence[tuple[str, Issue]] = (),
    round: int = 0,
) -> None:
    """All ``subtasks`` at once, but each after those among them that it needs.

    ``issues``: subtask and what is to be mended in its earlier report. The reports are kept in the
    case as they come, so that they are there when the budget ends others.
    """
    budget = await _share(run, 1.0 if is_alone(case) else SHARE / len(subtasks))
    done = {task.id: asyncio.Event() for task in subtasks}

    async def one(scope: Run, task: Subtask) -> None:
        try:
            # A needed one comes earlier in the order, so it has had its slot already.
            await asyncio.gather(*(done[need].wait() for need in task.needs if need in done))
            mine = [issue for subtask, issue in issues if subtask == task.id]
            work = await _work(scope, case, task, mine, round, budget)
            case.work.setdefault(task.id, []).append(work)
            await scope.record("work", "answer:work", work.model_dump(mode="json"))
        finally:
            done[task.id].set()

    limit = case.order.workers
    await run.map("work", one, subtasks, key_of=lambda t: t.id, limit=limit)


def is_alone(case: Case) -> bool:
    return case.route is not None and case.route.way is Way.SINGLE


async def _share(run: Run, part: float) -> Budget:
    """This part of what the run has left."""
    left = await run.step(
        "shares", lambda: {unit: run.remaining(unit) for unit in UNITS}, effect=Effect.PURE
    )
    each = {unit: int(n * part) for unit, n in left.items() if n is not None}
    money = each.get("micro_usd")
    return Budget(
        tokens=each.get("tokens"),
        requests=each.get("requests"),
        usd=None if money is None else money / 1e6,
    )


async def _work(
    run: Run, case: Case, task: Subtask, issues: Sequence[Issue], round: int, budget: Budget
) -> Work:
    alone = is_alone(case)
    report = await case.ask(
        run,
        "solo" if alone else "worker",
        _task(case, task, issues),
        WorkAnswer,
        items=_items(case, task, issues),
        toolbox=toolbox(case, task, alone=alone),
        checks={"cited": lambda answer: problems(case, answer.findings)},
        inbox=None if alone else lambda heard: case.board.unheard(task.id, heard),
        budget=budget,
        key="agent",
    )
    return _worked(run, case, task, round, report)


def _worked(run: Run, case: Case, task: Subtask, round: int, report: Report[WorkAnswer]) -> Work:
    if report.value is None:
        return _without_answer(run, case, task, round, report.ending, report.detail)
    return Work(
        subtask=task.id,
        round=round,
        agent=run.path,
        status="complete" if report.status == "complete" else "partial",
        findings=report.value.findings,
        not_found=report.value.not_found,
        ending=report.ending,
        detail=report.detail,
        by=report.by,
    )


def _without_answer(
    run: Run, case: Case, task: Subtask, round: int, ending: Ending, why: str
) -> Work:
    return Work(
        subtask=task.id,
        round=round,
        agent=run.path,
        status="failed",
        findings=case.board.by(task.id),
        ending=ending,
        detail=why,
    )


# -------------------------------------------------------------------- what a worker is handed


def toolbox(case: Case, task: Subtask, *, alone: bool) -> Toolbox:
    """Its role's tools, of those that there are, and all tools of servers."""
    desk = case.desk
    tools = reading_tools(desk.shelves, desk.fetcher, case.order.patience)
    tools += [citable(tool, desk.shelves) for tool in desk.tools.tools.values()]
    if not alone:
        tools.append(case.board.posting_tool(task.id))
    return Toolbox.of(*tools)


def _task(case: Case, task: Subtask, issues: Sequence[Issue]) -> str:
    told = [task.question]
    if task.question != case.question[: len(task.question)]:
        told.append(f"It is a part of this question, which others work on too:\n{case.question}")
    if issues:
        told.append(
            "You have reported on it before. Report again, the whole of it: mend what the issues "
            "name, keep what they do not."
        )
    return "\n\n".join(told)


def _items(case: Case, task: Subtask, issues: Sequence[Issue]) -> list[Item]:
    items = list(case.recalled)
    for need in task.needs:
        if (work := case.latest(need)) is not None:
            items.append(_report_of(work, f"the report on {need}"))
    if issues:
        if (work := case.latest(task.id)) is not None:
            items.append(_report_of(work, "your earlier report"))
        told = "\n".join(f"- {i.kind}: {i.why} ({i.span!r}, {i.by})" for i in issues)
        items.append(Item("issues", told, agent="critic"))
    return items


def _report_of(work: Work, title: str) -> Item:
    told = work.model_dump_json(include={"status", "findings", "not_found", "detail"})
    return Item(title, told, origin=f"{work.agent}/work", agent=work.agent)
