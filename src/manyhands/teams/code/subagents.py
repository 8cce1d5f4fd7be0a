"""An explorer's and a coder's work: in a workspace of its own, reported, verified, merged.

Invariants: an explorer's workspace is not writable, and its toolbox has no tool that writes; a
coder's change reaches the common workspace only as a merge, after its checks passed; a task is
``complete`` only with an answer that was accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from manyhands.agents.context import Item
from manyhands.agents.ending import is_spent
from manyhands.agents.report import Ending, Report, ReportStatus
from manyhands.agents.stepcheck.watch import Watch
from manyhands.agents.tools import Toolbox
from manyhands.agents.turn import Check as Judge
from manyhands.agents.workspace.toolset import workspace_tools
from manyhands.agents.workspace.workspace import Workspace
from manyhands.errors import BudgetExceeded, StepFailed
from manyhands.runtime import Budget, Effect, Run
from manyhands.teams.code.case import Case
from manyhands.teams.code.claims import evidence_of, unsupported
from manyhands.teams.code.commands import run_checks
from manyhands.teams.code.handing import Beginning, items_for, still_marked, task_text
from manyhands.teams.code.keeping import keep
from manyhands.teams.code.records import (
    Check,
    CoderAnswer,
    Delegation,
    ExplorerAnswer,
    Found,
    Merge,
    Task,
    TaskState,
)
from manyhands.teams.code.states import hashes
from manyhands.teams.code.store import Offer
from manyhands.teams.code.trunk import Merging
from manyhands.teams.code.world import CodersWorld

_STATES = {
    ReportStatus.COMPLETE: TaskState.COMPLETE,
    ReportStatus.PARTIAL: TaskState.PARTIAL,
    ReportStatus.FAILED: TaskState.FAILED,
}


async def explore(run: Run, case: Case, delegation: Delegation) -> Task:
    start = await case.trunk.start(run, "start")
    beginning = Beginning(start, start)
    items = await items_for(run, case, delegation, beginning)
    async with Workspace(case.desk.ground, start, writable=False) as workspace:
        report = await case.crew.ask(
            run,
            _role(case, delegation),
            task_text(delegation),
            ExplorerAnswer,
            items=items,
            toolbox=Toolbox.of(*workspace_tools(workspace)),
            limits=case.limits(parallel_calls=4),
            budget=_budget(delegation),
        )
        answer = report.value
        notes = await _keep(run, case, delegation, workspace, answer.findings if answer else ())
    task = _task(delegation, report, notes)
    if answer is None:
        return task
    missing = tuple(f"not found: {each}" for each in answer.not_found)
    return task.model_copy(update={"summary": answer.summary, "open": missing})


async def code(run: Run, case: Case, delegation: Delegation) -> Task:
    beginning = await _beginning(run, case, delegation)
    items = await items_for(run, case, delegation, beginning)
    async with Workspace(case.desk.ground, beginning.tree, writable=True) as workspace:
        try:
            return await _coded(run, case, delegation, beginning, items, workspace)
        except (BudgetExceeded, StepFailed) as error:
            if is_spent(error):
                await _keep_change(run, case, delegation, beginning, workspace)
            raise


async def _coded(
    run: Run,
    case: Case,
    delegation: Delegation,
    beginning: Beginning,
    items: Sequence[Item],
    workspace: Workspace,
) -> Task:
    report = await case.crew.ask(
        run,
        _role(case, delegation),
        task_text(delegation),
        CoderAnswer,
        items=items,
        toolbox=Toolbox.of(*workspace_tools(workspace)),
        checks=_judges(run, case, delegation, beginning, workspace),
        limits=case.limits(parallel_calls=1),  # of one workspace, one change after the other
        watch=Watch(tree=lambda: workspace.tree.hash),
        world=CodersWorld(workspace, run.read_blob, case.desk.ignored),
        budget=_budget(delegation),
    )
    answer = report.value
    notes = await _keep(run, case, delegation, workspace, answer.findings if answer else ())
    checks = await _checks(run, case, delegation, report, workspace)
    hold = _why_held(run, case, report, checks, beginning, workspace)
    merging = await case.trunk.take(run, beginning.onto, workspace.tree, hold=hold)
    passed = [check.command for check in checks if check.passed]
    wrong = unsupported(workspace, answer, merging.paths, passed) if answer else []
    task = _task(delegation, report, notes)
    if report.by and task.state is TaskState.COMPLETE and merging.merge is Merge.HELD:
        task = task.model_copy(update={"state": TaskState.PARTIAL})
    task = task.model_copy(
        update={
            "summary": answer.summary if answer else "",
            "open": answer.open if answer else (),
            "checks": checks,
            "unsupported": tuple(wrong),
            **_fate(merging),
        }
    )
    await _refresh(run, case, delegation, merging)
    return task


async def _refresh(run: Run, case: Case, delegation: Delegation, merging: Merging) -> None:
    """What rests on a file that the merge changed is stale. Nobody is left to be told of it where
    the budget is gone: the task is what it is all the same."""
    if merging.merge is not Merge.MERGED:
        return
    found = hashes(case.desk.ground, run.read_blob, merging.tree, merging.paths)
    try:
        await case.store.refresh(run, "stale", found, version=merging.version, since=delegation.id)
    except (BudgetExceeded, StepFailed) as error:
        if not is_spent(error):
            raise


def _fate(merging: Merging) -> dict[str, object]:
    return {"changed": merging.paths, "merge": merging.merge, "held": merging.held}


async def _keep_change(
    run: Run, case: Case, delegation: Delegation, beginning: Beginning, workspace: Workspace
) -> None:
    """Of a coder whose time or money ended before anybody could judge its work."""
    why = "the budget ended before its coder's work could be judged"
    merging = await case.trunk.take(run, beginning.onto, workspace.tree, hold=why, key="cut-off")
    task = case.tasks[delegation.id]
    case.tasks[delegation.id] = task.model_copy(update=_fate(merging))


async def _beginning(run: Run, case: Case, delegation: Delegation) -> Beginning:
    if not delegation.takes_up:
        start = await case.trunk.start(run, "start")
        return Beginning(start, start)
    held = case.tasks[delegation.takes_up].held
    assert held is not None
    return Beginning(*await case.trunk.taken_up(run, held))


def _role(case: Case, delegation: Delegation) -> Any:
    role = case.desk.roles[delegation.role]
    return role if delegation.max_turns is None else replace(role, max_turns=delegation.max_turns)


def _budget(delegation: Delegation) -> Budget | None:
    return None if delegation.minutes is None else Budget(seconds=delegation.minutes * 60)


def _judges(
    run: Run, case: Case, delegation: Delegation, beginning: Beginning, workspace: Workspace
) -> Mapping[str, Judge]:
    """What a coder's answer must pass: no marks of a conflict, and the commands of its task."""

    async def checked(_: CoderAnswer) -> str:
        marked = still_marked(case.desk.ground, workspace.tree, beginning.conflicts, run.read_blob)
        if marked:
            return f"there are marks of a conflict still in {', '.join(marked)}"
        if not delegation.checks:
            return ""
        found = await run_checks(
            run, case.desk.ground, workspace.tree, delegation.checks, case.order.seconds
        )
        last = found[-1]
        return "" if last.passed else f"`{last.command}` failed:\n{last.output}"

    return {"checked": checked}


async def _checks(
    run: Run,
    case: Case,
    delegation: Delegation,
    report: Report[CoderAnswer],
    workspace: Workspace,
) -> tuple[Check, ...]:
    """Those of an accepted answer have passed; of any other they are run once more, for what it
    leaves may be good all the same, and a person's word is no check."""
    if not delegation.checks:
        return ()
    if report.status is ReportStatus.COMPLETE and not report.by:
        return tuple(Check(command=each, passed=True, code=0) for each in delegation.checks)
    try:
        return await run.step(
            "checks",
            lambda: run_checks(
                run, case.desk.ground, workspace.tree, delegation.checks, case.order.seconds
            ),
            effect=Effect.IDEMPOTENT,
            returns=tuple[Check, ...],
        )
    except (BudgetExceeded, StepFailed) as error:
        if not is_spent(error):
            raise
        why = f"not run to its end: {error.what}"
        return (Check(command=delegation.checks[0], passed=False, output=why),)


def _why_held(
    run: Run,
    case: Case,
    report: Report[CoderAnswer],
    checks: Sequence[Check],
    beginning: Beginning,
    workspace: Workspace,
) -> str:
    if still_marked(case.desk.ground, workspace.tree, beginning.conflicts, run.read_blob):
        return "there are marks of a conflict in it"
    passed = all(check.passed for check in checks)
    if report.status is ReportStatus.COMPLETE and report.by and not passed:
        return f"{report.by} reported it as done, and a check of it fails"
    if report.status is ReportStatus.COMPLETE or (checks and passed):
        return ""
    return "its coder did not come to an end, and no check says that it is good as it is"


async def _keep(
    run: Run, case: Case, delegation: Delegation, workspace: Workspace, found: Sequence[Found]
) -> tuple[str, ...]:
    """Findings go into the context store; what is to be said of each."""
    notes: list[str] = []
    for number, each in enumerate(found):
        evidence, wrong = evidence_of(run, workspace, each)
        offer = Offer(
            id=each.id,
            kind=each.kind,
            content=each.content,
            evidence=tuple(evidence),
            supersedes=each.supersedes,
        )
        note = await keep(run, case, f"found/{number}", offer, delegation.id)
        notes.append(f"{note}{f' ({wrong})' if wrong else ''}")
    return tuple(notes)


def _task(
    delegation: Delegation,
    report: Report[ExplorerAnswer] | Report[CoderAnswer],
    notes: tuple[str, ...],
) -> Task:
    state = _STATES[report.status]
    if state is TaskState.FAILED and report.ending is Ending.TIME:
        state = TaskState.TIMED_OUT
    return Task(
        id=delegation.id,
        role=delegation.role,
        title=delegation.title,
        state=state,
        agent=report.agent,
        ending=report.ending,
        detail=report.detail,
        findings=notes,
        takes_up=delegation.takes_up,
        turns=report.turns,
        by=report.by,
    )
