"""The result as the user gets it: the change, what the check says of it, what is not in it.

Invariant: ``complete`` is what the check says of the very state that the patch leads to. No model
is needed here, so this also ends a run whose budget is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from manyhands.agents.ending import step_or_do
from manyhands.agents.workspace.tree import Tree
from manyhands.runtime import ArtifactStatus, Run
from manyhands.teams.code.case import Case
from manyhands.teams.code.commands import run_check
from manyhands.teams.code.patches import unified_diff
from manyhands.teams.code.records import Check, FileChange, Outcome, Task, TaskState
from manyhands.teams.code.states import Changed, States
from manyhands.teams.code.trunk import load


async def conclude(run: Run, case: Case) -> Outcome:
    head = await step_or_do(run, "final", lambda: _head(run, case), str)
    tree = load(run, head)
    check = await _final_check(run, case, tree)
    patch = await step_or_do(run, "patch", lambda: _patch(run, case, tree), str)
    left = _left(case)
    no_check = case.ending == "answered" and not case.ended and not left
    files = _files(run, case, tree)
    complete = check.passed if check is not None else no_check

    async def made() -> Outcome:
        spent = run.spent()
        return Outcome(
            instruction=case.order.instruction,
            complete=complete,
            summary=case.summary,
            check=check,
            patch=patch,
            tree=head,
            base=str(case.desk.ground.base),
            files=files,
            tasks=tuple(case.tasks.values()),
            plan=case.plan,
            context=tuple(case.store.shown().splitlines()),
            left=(*left, *_given_up(case)),
            notes=(*case.notes, *_hidden(run, case, files)),
            ending=case.ended or case.ending,
            agents=case.crew.costs(run),
            seconds=round(run.seconds(), 3),
            requests=spent.get("requests", 0),
            tokens=spent.get("tokens", 0),
            micro_usd=spent.get("micro_usd", 0),
        )

    outcome = await step_or_do(run, "outcome", made, Outcome)
    await run.put(
        "patch-artifact",
        "patch",
        run.read_blob(patch),
        kind="patch",
        status=ArtifactStatus.ACCEPTED if complete else ArtifactStatus.PROPOSED,
    )
    return outcome


async def _head(run: Run, case: Case) -> str:
    return await run.blob(case.trunk.head(run).model_dump_json().encode())


async def _final_check(run: Run, case: Case, tree: Tree) -> Check | None:
    order, ground = case.order, case.desk.ground
    if not order.check:
        return None

    async def made() -> Check:
        known = case.checked.get(tree.hash)
        return known or await run_check(run, ground, tree, order.check, order.seconds)

    return await step_or_do(run, "last-check", made, Check)


async def _patch(run: Run, case: Case, tree: Tree) -> str:
    ignored = case.desk.ignored
    text = await unified_diff(case.desk.ground, run.read_blob, Tree(), tree, ignored)
    return await run.blob(text.encode())


def _files(run: Run, case: Case, tree: Tree) -> tuple[FileChange, ...]:
    states = States(case.desk.ground, run.read_blob)
    found = states.changed(Tree(), tree, case.desk.ignored)
    return tuple(FileChange(path=each.path, kind=_kind(each)) for each in found)


def _kind(change: Changed) -> Literal["added", "changed", "deleted"]:
    if change.after is None:
        return "deleted"
    is_old_folder = change.after.kind == "folder" and not change.after.mode
    return "changed" if change.before is not None or is_old_folder else "added"


def _hidden(run: Run, case: Case, files: Sequence[FileChange]) -> list[str]:
    """The journal hides secrets, also in a line that the change takes out of a file."""
    before = [(f.path, case.desk.ground.content(Tree(), f.path, run.read_blob)) for f in files]
    paths = [path for path, content in before if content and run.hide(content) != content]
    told = "held a secret of this machine, which the patch hides: git cannot apply it, --apply can"
    return [f"{', '.join(paths)} {told}"] if paths else []


def _left(case: Case) -> tuple[str, ...]:
    """What is open and not in the patch, task by task, and why it ended early."""
    found = [case.ended] if case.ended else []
    for task in case.tasks.values():
        if task.state in (TaskState.WAITING, TaskState.RUNNING):
            found.append(f"{task.id} was not done: {task.detail or 'it was not started'}")
    return (*found, *(_why(task) for task in case.held() if task.id not in case.left_out))


def _given_up(case: Case) -> list[str]:
    found = [task for task in case.held() if task.id in case.left_out]
    return [f"{_why(task)}; the orchestrator gave them up" for task in found]


def _why(task: Task) -> str:
    assert task.held is not None
    count = len(task.changed)
    files = "1 file" if count == 1 else f"{count} files"
    return f"{task.id}: changes in {files} are not in the patch: {task.held.why}"
