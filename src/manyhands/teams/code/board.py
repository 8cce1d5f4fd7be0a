"""What the orchestrator sees of the state of things: time left, tasks, context, plan.

Invariant: every line is true of the journal, whatever an agent said; what agents wrote, or what a
command printed, never stands at the beginning of one.
"""

from __future__ import annotations

from manyhands.agents.encoding import one_line
from manyhands.agents.workspace.shown import shown_path
from manyhands.runtime import Run
from manyhands.teams.code.case import Case
from manyhands.teams.code.records import Merge, Task, TaskState

_MERGES = {
    Merge.MERGED: "its changes are in the workspace",
    Merge.CONFLICT: "CONFLICT, its changes are NOT in the workspace",
    Merge.HELD: "its changes are NOT in the workspace",
    Merge.REFUSED: "REFUSED, its changes are NOT in the workspace",
}


def board(run: Run, case: Case) -> str:
    """To be kept in a step."""
    return "\n".join([*_left(run), *_tasks(case), *_plan(case), *_context(case)])


def _left(run: Run) -> list[str]:
    found: list[str] = []
    seconds = run.time_left()
    if seconds is not None:
        found.append(f"{seconds / 60:.1f} minutes")
    for unit, name in (("requests", "requests"), ("tokens", "tokens")):
        if (left := run.remaining(unit)) is not None:
            found.append(f"{left:,} {name}")
    if (money := run.remaining("micro_usd")) is not None:
        found.append(f"${money / 1e6:.2f}")
    return [f"Left: {', '.join(found) or 'no limit on time, requests or money'}."]


def _tasks(case: Case) -> list[str]:
    if not case.tasks:
        return ["Tasks: none yet."]
    open_ones = {task.id for task in case.held()}
    return ["Tasks:", *(f"- {task_line(t, t.id in open_ones)}" for t in case.tasks.values())]


def task_line(task: Task, is_open: bool) -> str:
    line = f"{task.id} ({task.role}): {task.state}"
    if task.ending and task.state not in (TaskState.COMPLETE, TaskState.RUNNING):
        line += f" ({task.ending.replace('_', ' ')})"
    if task.merge in _MERGES:
        told = _MERGES[task.merge] if is_open or task.merge is Merge.MERGED else "taken up"
        line += f"; {told} ({len(task.changed)} file{'s' * (len(task.changed) != 1)})"
    if task.unsupported:
        line += f"; {len(task.unsupported)} claims without evidence"
    return f"{line}; “{one_line(task.title)}”"


def _plan(case: Case) -> list[str]:
    if not case.plan:
        return []
    return ["Plan:", *(f"- [{step.status}] {one_line(step.text)}" for step in case.plan)]


def _context(case: Case) -> list[str]:
    shown = case.store.shown()
    return [f"Context store:\n{shown}"] if shown else ["Context store: empty."]


def told(task: Task) -> str:
    """A task's report, as the orchestrator reads it: what is known first, its words after."""
    lines = [f"Task {task_line(task, task.held is not None)}"]
    if task.detail:
        lines.append(f"Why it ended so: {one_line(task.detail, 600)}")
    if task.changed:
        lines.append(f"Changed: {_some(task.changed)}")
    if task.held is not None:
        lines.append(
            f"Not in the workspace: {one_line(task.held.why, 2_000)}. To go on from these changes, "
            f"delegate with takes_up = {task.id}; to give them up, name it in leave_out."
        )
    for check in task.checks:
        ended = "passed" if check.passed else f"FAILED ({check.code})"
        lines.append(f"Check `{one_line(check.command)}`: {ended}")
        if not check.passed:
            lines.append(f"> {_quoted(check.output)}")
    lines += [f"Claimed without evidence: {one_line(each, 300)}" for each in task.unsupported]
    lines += [f"Context: {one_line(each, 1_000)}" for each in task.findings]
    lines += [f"Open: {one_line(each, 300)}" for each in task.open]
    who = f"{one_line(task.by)}, a person, says in its place" if task.by else "It says"
    lines.append(f"{who}: {_quoted(task.summary) or '(nothing)'}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Behind a line's beginning: those after the first have one of their own."""
    return "\n> ".join(text.splitlines())


def _some(paths: tuple[str, ...], most: int = 40) -> str:
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(map(shown_path, paths[:most])) + more
