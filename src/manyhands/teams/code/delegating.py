"""Delegations: refused before anything starts or run to their end, in the order of their needs.

Invariants: a task starts only when all that it depends on is complete and in the workspace; every
task ends in a state that its events bear out, whatever its agent or the machine did; one that
fails costs the others nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from manyhands.agents.workspace.tree import Tree
from manyhands.errors import BudgetExceeded, StepFailed, ToolError
from manyhands.runtime import Run
from manyhands.teams.code.case import Case
from manyhands.teams.code.handing import shown
from manyhands.teams.code.records import Delegation, Merge, Task, TaskState
from manyhands.teams.code.subagents import code, explore

_WORK = {"explorer": explore, "coder": code}
_DONE = (Merge.MERGED, Merge.NOTHING)


async def delegated(run: Run, case: Case, delegations: Sequence[Delegation]) -> list[Task]:
    """Run them, those that do not depend on each other at once. Raises `ToolError` for what cannot
    be started; then none is."""

    def accepted() -> str:
        """With nothing awaited between the look and the entry: calls come at the same time."""
        problem = _problem(run, case, delegations)
        if not problem:
            _enter(case, delegations)
        return problem

    problem: str = await run.step("accepted", accepted, returns=str)
    if problem:
        raise ToolError(problem, next="correct it and delegate again; nothing was started")
    _enter(case, delegations)
    for each in delegations:
        about = {"id": each.id, "role": each.role, "title": each.title, "agent": run.key(each.id)}
        about |= {"depends_on": list(each.depends_on), "takes_up": each.takes_up}
        await run.record(f"{each.id}/waiting", "code:waiting", about)
    ended = {each.id: asyncio.Event() for each in delegations}

    async def one(scope: Run, delegation: Delegation) -> Task:
        try:
            return await _when_ready(scope, case, delegation, ended)
        finally:
            ended[delegation.id].set()

    return await run.map("tasks", one, delegations, key_of=lambda each: each.id)


async def _when_ready(
    run: Run, case: Case, delegation: Delegation, ended: Mapping[str, asyncio.Event]
) -> Task:
    for id in delegation.depends_on:
        await ended[id].wait()
    lacking = [id for id in delegation.depends_on if not _is_done(case.tasks[id])]
    if lacking:
        told = "; ".join(
            f"{id} is {case.tasks[id].state}, {case.tasks[id].merge}" for id in lacking
        )
        task = case.tasks[delegation.id].model_copy(update={"detail": f"not started: {told}"})
        case.tasks[delegation.id] = task
        await run.record("task", "code:task", task.model_dump(mode="json"))
        return task
    async with case.slots:
        return await _run(run, case, delegation)


def _is_done(task: Task) -> bool:
    return task.state is TaskState.COMPLETE and task.merge in _DONE


async def _run(run: Run, case: Case, delegation: Delegation) -> Task:
    running = case.tasks[delegation.id].model_copy(update={"state": TaskState.RUNNING})
    case.tasks[delegation.id] = running
    await run.record("running", "code:running", {"id": delegation.id, "scope": run.path})
    try:
        task = await _WORK[delegation.role](run, case, delegation)
    except StepFailed as error:
        state = TaskState.TIMED_OUT if error.kind == TimeoutError.__name__ else TaskState.FAILED
        task = _failed(case, delegation, state, str(error))
    except BudgetExceeded as error:
        case.tasks[delegation.id] = _failed(case, delegation, TaskState.FAILED, error.what)
        raise
    case.tasks[delegation.id] = task
    await run.record("task", "code:task", task.model_dump(mode="json"))
    return task


def _failed(case: Case, delegation: Delegation, state: TaskState, why: str) -> Task:
    """With what became of its change until then."""
    return case.tasks[delegation.id].model_copy(update={"state": state, "detail": why})


def _enter(case: Case, delegations: Sequence[Delegation]) -> None:
    """Twice is once: a replay comes by the second place alone."""
    for each in delegations:
        waiting = Task(
            id=each.id,
            role=each.role,
            title=each.title,
            state=TaskState.WAITING,
            takes_up=each.takes_up,
        )
        case.tasks.setdefault(each.id, waiting)


# -------------------------------------------------------------------- what is refused


def _problem(run: Run, case: Case, delegations: Sequence[Delegation]) -> str:
    """Why they cannot be started ('': they can)."""
    try:
        _check_ids(case, delegations)
        for each in delegations:
            _check_one(run, case, each)
        _check_taken_up(case, delegations)
    except ToolError as error:
        return str(error)
    return ""


def _check_ids(case: Case, delegations: Sequence[Delegation]) -> None:
    if not delegations:
        raise ToolError("there is no task in it", next="give at least one")
    ids = [each.id for each in delegations]
    for id in ids:
        if id in case.tasks or ids.count(id) > 1:
            raise ToolError(f"there is a task {id!r} already", next="give it another id")
    for each in delegations:
        for need in each.depends_on:
            if need not in ids:
                raise ToolError(
                    f"{each.id} depends on {need!r}, which is not in this call; "
                    f"here: {', '.join(ids)}",
                    next="what ended before need not be depended on; name its items in context",
                )
    try:
        TopologicalSorter({e.id: e.depends_on for e in delegations}).prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise ToolError(f"they wait for each other: {circle}", next="break the circle") from error


def _check_one(run: Run, case: Case, delegation: Delegation) -> None:
    case.store.resolve(delegation.context)
    head = case.trunk.head(run) if delegation.files else Tree()
    for path in delegation.files:
        shown(run, case.desk.ground, head, path)
    if delegation.checks and delegation.role != "coder":
        raise ToolError(
            f"{delegation.id}: checks are for coders, it is an explorer",
            next="ask for what you want to know in `returns`",
        )


def _check_taken_up(case: Case, delegations: Sequence[Delegation]) -> None:
    """Changes are taken up by one task at a time: of two, the second would be a conflict."""
    takers = case.takers()
    for each in delegations:
        if not each.takes_up:
            continue
        if each.role != "coder":
            raise ToolError(f"{each.id}: only a coder can take changes up", next="role = coder")
        if other := takers.get(each.takes_up):
            raise ToolError(
                f"{each.id} takes up {each.takes_up!r}, which {other} takes up already",
                next=f"leave it to {other}; if its own changes are held back, take up those",
            )
        open_ones = [task.id for task in case.held()]
        if each.takes_up not in open_ones:
            raise ToolError(
                f"{each.id} takes up {each.takes_up!r}, which has no changes beside the "
                f"workspace; those that have: {', '.join(open_ones) or 'none'}",
                next="leave takes_up out: the workspace holds all other changes",
            )
        takers[each.takes_up] = each.id
