"""Programs with a change more or less: taken out of a master, put on it, or rebuilt one by one.

Invariant: a program that is made here is a commit that depends on its parents and the change alone,
so a step that is repeated makes the same one; and nothing is guessed: where a change cannot be
taken out or put in by itself, there is no commit but a sentence that says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from manyhands.errors import StudyError
from manyhands.runtime import Run
from manyhands.teams.lab.evidence import message_of
from manyhands.teams.lab.experiment import setting_patch
from manyhands.teams.lab.memory import value_text
from manyhands.teams.lab.records import Experiment, FileEdit, Hypothesis, Record
from manyhands.teams.lab.settings import Setting, apply, find_settings
from manyhands.teams.lab.state import Lab, dropped_of


class Made(Record):
    """A program, or (``commit`` empty) why there is none."""

    commit: str = ""
    why: str = ""


async def without(run: Run, lab: Lab, commit: str, changes: Sequence[Experiment]) -> Made:
    """``commit`` without these promoted changes, the latest taken out first."""
    made = Made(commit=commit)
    for change in reversed(changes):
        step = partial(_taken_out, lab, change)
        made = await run.step(f"without-{change.id}", step, made.commit, returns=Made)
        if not made.commit:
            return made
    await _keep(run, lab, made.commit)
    return made


async def together(run: Run, lab: Lab, commit: str, changes: Sequence[Experiment]) -> Made:
    """``commit`` with these changes made, in order."""
    made = Made(commit=commit)
    for change in changes:
        step = partial(_put_in, lab, change)
        made = await run.step(f"with-{change.id}", step, made.commit, returns=Made)
        if not made.commit:
            return made
    await _keep(run, lab, made.commit)
    return made


async def _keep(run: Run, lab: Lab, commit: str) -> None:
    ref = f"refs/manyhands/{lab.run_id}/made/{commit[:20]}"
    await run.step("keep", lab.repository.keep, ref, commit)


async def editable(lab: Lab, commit: str) -> dict[str, str]:
    """The texts of the editable files at ``commit``."""
    paths = [p for p in await lab.repository.files(commit) if lab.study.editable(p)]
    return await lab.repository.texts(commit, paths)


def _setting(files: dict[str, str], name: str) -> Setting | None:
    try:
        return find_settings(files).get(name)
    except StudyError:
        return None


async def _taken_out(lab: Lab, change: Experiment, commit: str) -> Made:
    """A setting is set back to what it was before; another edit is reverted by a merge."""
    message = f"without {change.id}"
    if change.hypothesis.kind == "setting":
        files = await editable(lab, commit)
        now = _setting(files, change.hypothesis.setting)
        before = _setting(await editable(lab, change.parent), change.hypothesis.setting)
        if now is not None and before is not None:
            if value_text(now.value) != value_text(change.hypothesis.value):
                return Made(why=f"{now.name} was set again by a later change")
            text = apply(files[now.path], now.name, before.value)
            edit = FileEdit(path=now.path, text=text)
            return Made(commit=await lab.repository.commit_edits(commit, (edit,), message))
    reverted = await lab.repository.revert(change.candidate, commit, message)
    if reverted is None:
        return Made(why="later changes stand on the same lines: it cannot be taken out alone")
    if await lab.repository.same_tree(reverted, commit):
        return Made(why="nothing of it is left in the program")
    return Made(commit=reverted)


async def _put_in(lab: Lab, change: Experiment, commit: str, message: str = "") -> Made:
    """A setting is set; another edit is merged. ``message``: of the commit ('': the change's)."""
    text = message or f"{change.id}: {change.hypothesis.title}"
    if change.hypothesis.kind == "setting":
        try:
            patch = setting_patch(await editable(lab, commit), change.hypothesis)
        except StudyError as error:
            return Made(why=error.what)
        made: str | None = await lab.repository.commit_edits(commit, patch.edits, text)
    else:
        made = await lab.repository.rebase(change.candidate, commit, text)
    if made is None:
        return Made(why="it stands on the same lines as another change")
    if await lab.repository.same_tree(made, commit):
        return Made(why="it changes nothing there")
    return Made(commit=made)


def combined(first: Hypothesis, second: Hypothesis) -> bool:
    """Whether two changes can be in one program: they don't set the same thing."""
    return first.kind != "setting" or first.setting != second.setting


# ---------------------------------------------------------------- the branch


async def rebuilt(run: Run, lab: Lab) -> str:
    """From the study's beginning to its master: a commit per surviving change, each with its
    evidence in the message, each building the next program; returns the last.

    What cannot be told apart (its lines were changed again later) becomes one commit with the
    evidence of all of it, so that the branch ends at the master's very files.
    """
    commit, rest = lab.base, list(lab.surviving)
    while rest:
        change = rest[0]
        step, message = partial(_put_in, lab, change), message_of(lab, (change,))
        made = await run.step(f"clean-{change.id}", step, commit, message, returns=Made)
        if not made.commit:
            break
        commit = made.commit
        rest.pop(0)
    if not await run.step("whole", lab.repository.same_tree, commit, lab.master.commit):
        told = rest or list(lab.surviving)
        message = message_of(lab, told, whole=not rest)
        start = commit if rest else lab.base
        adopt = partial(lab.repository.adopt_tree, start, lab.master.commit, message)
        commit = await run.step("clean-rest", adopt)
    return commit


def fate_of(lab: Lab, experiment: str) -> str:
    """What became of a promoted change in the end, in a word; '' where it was not looked at."""
    if experiment in dropped_of(lab.ablation):
        return "dropped"
    lines = lab.ablation.lines if lab.ablation is not None else ()
    return next((line.fate for line in lines if line.experiment == experiment), "")
