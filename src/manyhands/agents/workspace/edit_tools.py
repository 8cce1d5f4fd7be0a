"""``edit`` and ``multi_edit``: all or nothing, and only what was asked for.

Invariant: files are read through the sandbox before and after; a call that is refused, or does not
come to its end, has changed no file (see `Workspace.act`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from manyhands.agents.tools import Tool
from manyhands.agents.workspace import editing
from manyhands.agents.workspace.editing import Edit
from manyhands.agents.workspace.file_tools import (
    MARGIN,
    RESULT_BYTES,
    Lines,
    count_lines,
    numbered,
    said,
)
from manyhands.agents.workspace.places import content, file_inside, put
from manyhands.agents.workspace.shown import shown_path, text_of_bytes
from manyhands.agents.workspace.tree import blob_name
from manyhands.agents.workspace.workspace import Act, Workspace
from manyhands.errors import ToolError
from manyhands.ports import Sandbox
from manyhands.runtime import Run

MOST_EDITS = 200
#: Lines around a change that are shown, columns of them, and changes.
_AROUND, _COLUMNS, _MOST_CHANGES = 2, 200, 4


async def change(sandbox: Sandbox, path: str, edits: Sequence[Edit]) -> Act:
    """Each edit sees what those before it have made; files are written when all have gone well."""
    before: dict[str, bytes] = {}
    after: dict[str, bytes] = {}
    lines: dict[str, list[int]] = {}
    for i, edit in enumerate(edits):
        try:
            name = file_inside(sandbox, edit.path or path)
            if name not in after:
                before[name] = after[name] = (await content(sandbox, name)).data
            done = await asyncio.to_thread(editing.apply, name, after[name], edit)
        except ToolError as error:
            if len(edits) == 1:
                raise
            what = f"edit {i + 1} of {len(edits)}: {error.what}\nNothing was changed."
            raise ToolError(what, next=error.next) from error
        after[name] = done.data
        lines.setdefault(name, []).extend(done.lines)
    changed = {name: data for name, data in after.items() if data != before[name]}
    await put(sandbox, changed, before)
    told = [_told(name, before[name], data, lines[name]) for name, data in after.items()]
    return Act(
        text="\n".join(told),
        paths=tuple(after),
        contents={name: blob_name(data) for name, data in after.items()},
    )


def _told(name: str, before: bytes, after: bytes, lines: list[int]) -> str:
    places = f"{len(lines)} place{'s' if len(lines) > 1 else ''}"
    if before == after:
        return f"{shown_path(name)}: the edits cancel each other out; it is as it was"
    sizes = f"{count_lines(before)} -> {count_lines(after)} lines"
    head = f"edited {shown_path(name)}: {places}, {sizes}, {blob_name(after)[:19]}"
    found = Lines.of(text_of_bytes(after)).lines
    shown: list[str] = []
    last = 0
    for line in sorted(set(lines))[:_MOST_CHANGES]:
        first, end = max(line - _AROUND, last + 1, 1), min(line + _AROUND, len(found))
        shown += ["   ..."] if last and first > last + 1 else []
        shown += [numbered(at, found[at - 1], 1, _COLUMNS) for at in range(first, end + 1)]
        last = max(last, end)
    return "\n".join([head, "now around there:", *shown] if shown else [head])


def edit_tool(workspace: Workspace) -> Tool:
    async def doing(sandbox: Sandbox, path: str, old: str, new: str, every: bool) -> Act:
        return await change(sandbox, path, [Edit(old=old, new=new, all=every)])

    async def edit(run: Run, path: str, old: str, new: str, all: bool = False) -> str:
        """Replace a text in a file. It must be there exactly, and once.

        Args:
            path: The file, by its path from the workspace's folder.
            old: The text to replace, exactly as it is, without line numbers.
            new: The text to put in its place.
            all: Replace every occurrence.
        """
        path = workspace.ground.plain(path)
        return said(await workspace.act(run, doing, path, old, new, all, timeout=MARGIN))

    return Tool.from_function(edit, None, result_bytes=RESULT_BYTES)


def multi_edit_tool(workspace: Workspace) -> Tool:
    async def doing(sandbox: Sandbox, edits: Sequence[Edit], path: str) -> Act:
        if not 1 <= len(edits) <= MOST_EDITS:
            raise ToolError(f"{len(edits)} edits; 1 to {MOST_EDITS} are allowed", next="give those")
        return await change(sandbox, path, edits)

    async def multi_edit(run: Run, edits: list[Edit], path: str = "") -> str:
        """Several replacements, in one file or in several: all are made, or none.

        Args:
            edits: One after the other; each sees what those before it have made.
            path: The file of those that name none.
        """
        plain = workspace.ground.plain
        edits = [each.model_copy(update={"path": plain(each.path)}) for each in edits]
        return said(await workspace.act(run, doing, edits, plain(path), timeout=MARGIN))

    return Tool.from_function(multi_edit, None, result_bytes=RESULT_BYTES)
