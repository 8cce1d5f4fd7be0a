"""What a sub-agent is handed: its task, the items of the context store, files, what it takes up.

Invariant: what is named is there, or the delegation is refused before anything starts; what was
left out or cut is said in the item itself.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from manyhands.agents.context import Item
from manyhands.agents.tools import cut
from manyhands.agents.workspace.ground import Ground, Read
from manyhands.agents.workspace.tree import Tree, blob_name
from manyhands.errors import ToolError
from manyhands.runtime import Run
from manyhands.teams.code.board import told
from manyhands.teams.code.case import Case
from manyhands.teams.code.conflicts import holds_marks
from manyhands.teams.code.packing import pack
from manyhands.teams.code.records import Delegation
from manyhands.teams.code.trunk import Clash

#: Bytes of the context store, of one file and of a folder's list that an agent is handed.
CONTEXT_BYTES, FILE_BYTES, LISTED = 24_000, 16_000, 200


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a sub-agent begins. ``onto``: the version of the workspace that its change will be
    told from; ``tree``: the state that it finds; ``conflicts``: what is to be settled in it."""

    onto: Tree
    tree: Tree
    conflicts: tuple[Clash, ...] = ()


def task_text(delegation: Delegation) -> str:
    parts = [f"Your task: {delegation.title}", delegation.instructions]
    if delegation.returns:
        parts.append(f"Your report has to hold: {delegation.returns}")
    if delegation.checks:
        listed = "\n".join(f"- `{command}`" for command in delegation.checks)
        parts.append(f"Your work is accepted when these commands succeed:\n{listed}")
    return "\n\n".join(parts)


async def items_for(
    run: Run, case: Case, delegation: Delegation, beginning: Beginning
) -> tuple[Item, ...]:
    """Journaled: what two agents at work at the same time write does not change it on replay."""

    def made() -> list[Item]:
        text = f"{delegation.title}\n{delegation.instructions}"
        packed = pack(case.store, delegation.context, text, CONTEXT_BYTES)
        return [
            *_taken_up(case, delegation, beginning),
            *_reports(case, delegation),
            *packed.items,
            *_files(run, case, delegation.files, beginning.tree),
        ]

    return tuple(await run.step("handed", made, returns=list[Item]))


def _reports(case: Case, delegation: Delegation) -> Iterable[Item]:
    for id in delegation.depends_on:
        task = case.tasks[id]
        yield Item(f"The report on {id}", told(task), origin=f"task:{id}", agent=task.agent)


def _taken_up(case: Case, delegation: Delegation, beginning: Beginning) -> Iterable[Item]:
    if not delegation.takes_up:
        return
    task = case.tasks[delegation.takes_up]
    text = "Your workspace holds the changes of this task, which are not in the common one yet.\n"
    if beginning.conflicts:
        text += (
            "They conflict with what others have changed since. Each place is marked in the file "
            "with <<<<<<<, |||||||, ======= and >>>>>>>: above what is in the common workspace, "
            "in the middle what both began from, below the change of this task. Bring both "
            "together, and leave no mark. Files without marks are as the common workspace has "
            f"them:\n{''.join(map(_clash, beginning.conflicts))}"
        )
    yield Item(f"You go on from {task.id}", text + told(task), f"task:{task.id}", task.agent)


def _clash(clash: Clash) -> str:
    if clash.marks:
        longer = f", with {clash.marks} characters" if clash.marks > 7 else ""
        return f"- {clash.path}: marked{longer}\n"
    other = f"this task's content: {clash.theirs}, for read_more" if clash.theirs else "gone in it"
    return f"- {clash.path} ({clash.kind}): not marked; {other}\n"


def _files(run: Run, case: Case, paths: Iterable[str], tree: Tree) -> Iterable[Item]:
    for path in paths:
        yield shown(run, case.desk.ground, tree, path)


def shown(run: Run, ground: Ground, tree: Tree, path: str) -> Item:
    """A file's content or a folder's list. Raises `ToolError` where there is neither."""
    plain = _plain(ground, path)
    content = ground.content(tree, plain, run.read_blob)
    if content is not None:
        name = blob_name(content)
        text = content.decode("utf-8", "backslashreplace")
        status = "added" if len(text.encode()) <= FILE_BYTES else "compacted"
        title = f"The file {plain} ({len(content)} bytes)"
        return Item(
            title, cut(text, FILE_BYTES, name), f"file:{plain}@{name}", "workspace", status=status
        )
    below = _below(ground, tree, plain)
    if not below:
        raise ToolError(
            f"there is no file or folder {path!r} in the workspace",
            next="correct the path, or leave it out",
        )
    more = [f"({len(below) - LISTED} more)"] if len(below) > LISTED else []
    text = "\n".join([*below[:LISTED], *more])
    return Item(f"The folder {plain or '.'}", text, f"folder:{plain}", "workspace")


def _plain(ground: Ground, path: str) -> str:
    found = posixpath.normpath(ground.plain(path) or ".")
    return "" if found == "." else found


def _below(ground: Ground, tree: Tree, path: str) -> list[str]:
    """Files below a folder, as the state has them; none for what is no folder of it."""
    if path.startswith(("..", "/")):
        return []
    root = ground.base / path
    found = {
        each.relative_to(ground.base).as_posix()
        for each in (root.rglob("*") if root.is_dir() and not root.is_symlink() else ())
        if ".git" not in each.relative_to(ground.base).parts and not each.is_dir()
    }
    prefix = f"{path}/" if path else ""
    for name, node in tree.nodes.items():
        if name.startswith(prefix):
            (found.discard if node.kind == "gone" else found.add)(name)
    return sorted(found)


def still_marked(ground: Ground, tree: Tree, conflicts: Iterable[Clash], read: Read) -> list[str]:
    """Of the files that had marks of a conflict, those that have some still."""
    return [
        each.path
        for each in conflicts
        if each.marks and holds_marks(ground.content(tree, each.path, read) or b"", each.marks)
    ]
