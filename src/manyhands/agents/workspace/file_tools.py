"""``read`` and ``write``: whole files, and parts of them that can be read on.

Invariant: what is shown tells the bytes of the file exactly, and where it ends before the file does
it says so; every line of a file stands behind its number, so no content is taken for the tool's
own words, which stand above and below.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from manyhands.agents.tools import Tool
from manyhands.agents.workspace.places import as_utf8, content, existing, file_inside, put
from manyhands.agents.workspace.shown import escaped, shown_path, text_of_bytes
from manyhands.agents.workspace.tree import blob_name
from manyhands.agents.workspace.workspace import Act, Workspace
from manyhands.errors import ToolError
from manyhands.ports import Sandbox
from manyhands.runtime import Run

#: Of what one call of ``read`` shows: characters of a line, bytes of all lines, lines.
MOST_COLUMNS, MOST_SHOWN, MOST_LINES = 2_000, 24_000, 2_000
#: What the harness lets through of a result: more than these tools ever say.
RESULT_BYTES = 65_536
_BROKEN = re.compile("[\udc80-\udcff]")
#: For opening a sandbox and restoring its state, beside what a tool does.
MARGIN = 90.0


@dataclass(frozen=True, slots=True)
class Lines:
    """A text in lines. ``ends``: how they end: LF, CRLF, mixed, or '' where none ends."""

    lines: Sequence[str]
    ends: str
    closed: bool

    @classmethod
    def of(cls, text: str) -> Lines:
        parts = text.split("\n")
        closed = parts[-1] == "" and len(parts) > 1
        if parts[-1] == "":
            parts.pop()
        ended = parts if closed else parts[:-1]
        crlf = sum(line.endswith("\r") for line in ended)
        ends = "" if not ended else "LF" if not crlf else "CRLF" if crlf == len(ended) else "mixed"
        if ends == "CRLF":
            parts = [line[:-1] for line in ended] + ([] if closed else parts[-1:])
        return cls(parts, ends, closed)


def numbered(number: int, text: str, first: int = 1, most: int = MOST_COLUMNS) -> str:
    """A line behind its number. ``e``: it is escaped; ``c``: it is cut, and says where."""
    part = text[first - 1 : first - 1 + most]
    shown, marked = escaped(part)
    last = first - 1 + len(part)
    is_cut = first > 1 or last < len(text)
    if is_cut:
        on = f"; read on with start={number}, column={last + 1}" if last < len(text) else ""
        shown += f" [columns {first}-{last} of {len(text)}{on}]"
    return f"{number:>6}{'e' if marked else ''}{'c' if is_cut else ''}\t{shown}"


def told(path: str, data: bytes, start: int, count: int, column: int) -> str:
    """What ``read`` says of a file with these bytes. Raises `ToolError` for a line beyond it."""
    text = text_of_bytes(data)
    found = Lines.of(text)
    total = len(found.lines)
    if start > max(total, 1):
        raise ToolError(
            f"{shown_path(path)} has {total} lines; line {start} is not there",
            next=f"give start from 1 to {max(total, 1)}",
        )
    if total and column > max(len(found.lines[start - 1]), 1):
        raise ToolError(
            f"line {start} of {shown_path(path)} has {len(found.lines[start - 1])} characters; "
            f"column {column} is not there",
            next="give a smaller column",
        )
    shown: list[str] = []
    size = 0
    for at in range(start - 1, min(start - 1 + count, total)):
        first = column if at == start - 1 else 1
        most = MOST_COLUMNS * 2 if count == 1 else MOST_COLUMNS
        line = numbered(at + 1, found.lines[at], first, most)
        size += len(line.encode("utf-8", "replace")) + 1
        if shown and size > MOST_SHOWN:
            break
        shown.append(line)
    last = start - 1 + len(shown)
    where = f"lines {start}-{last} of {total}" if total else "empty"
    head = f"{shown_path(path)}: {where}, {len(data)} bytes, {blob_name(data)[:19]}"
    rest = [] if last >= total else [_rest(last, total, len(shown) < count)]
    return "\n".join([head, *_notes(data, text, found, shown), *shown, *rest])


def _rest(last: int, total: int, by_size: bool) -> str:
    why = f"after {MOST_SHOWN} bytes " if by_size else ""
    return f"[cut {why}here: {total - last} more lines; read on with start={last + 1}]"


def _notes(data: bytes, text: str, found: Lines, shown: list[str]) -> list[str]:
    notes: list[str] = []
    if found.ends in ("CRLF", "mixed"):
        how = "all lines end" if found.ends == "CRLF" else "some lines (those with \\r) end"
        notes.append(f"[{how} with CRLF]")
    if data and not found.closed:
        notes.append("[the last line has no newline at its end]")
    if text.startswith("\ufeff"):
        notes.append("[it begins with a byte order mark, shown as \\ufeff]")
    if b"\0" in data:
        notes.append(f"[binary: {data.count(0)} zero bytes]")
    broken = len(_BROKEN.findall(text))
    if broken:
        notes.append(f"[not UTF-8: {broken} bytes of it are none, shown as \\xNN]")
    marks = {mark for line in shown for mark in line[:10].split("\t")[0].strip(" 0123456789")}
    if "e" in marks:
        notes.append("[lines marked e are escaped as in a Python string: \\\\ is one backslash]")
    if "c" in marks:
        notes.append("[lines marked c are cut, and end with which columns are shown]")
    return notes


def count_lines(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n") if data else 0)


def read_tool(workspace: Workspace) -> Tool:
    async def doing(sandbox: Sandbox, path: str, start: int, lines: int, column: int) -> Act:
        if start < 1 or column < 1 or not 1 <= lines <= MOST_LINES:
            raise ToolError(
                f"start={start}, column={column}, lines={lines}: start and column count from 1, "
                f"lines is 1 to {MOST_LINES}",
                next="correct them",
            )
        name = file_inside(sandbox, path)
        data = (await content(sandbox, name)).data
        text = told(name, data, start, lines, column)
        return Act(text=text, paths=(name,), contents={name: blob_name(data)})

    async def read(run: Run, path: str, start: int = 1, lines: int = 400, column: int = 1) -> str:
        """Read a file. Each line is shown behind its number; what is cut is said.

        Args:
            path: The file, by its path from the workspace's folder.
            start: The first line to show, from 1.
            lines: How many lines at most.
            column: For a line that was cut: the character of the first line to go on from.
        """
        act = await workspace.act(
            run,
            doing,
            workspace.ground.plain(path),
            start,
            lines,
            column,
            changes=False,
            timeout=MARGIN,
        )
        return said(act)

    return Tool.from_function(read, None, result_bytes=RESULT_BYTES)


def write_tool(workspace: Workspace) -> Tool:
    async def doing(sandbox: Sandbox, path: str, text: str) -> Act:
        name = file_inside(sandbox, path)
        data = as_utf8("content", text)
        before = await existing(sandbox, name)
        await put(sandbox, {name: data}, {})
        size = f"{count_lines(data)} lines, {len(data)} bytes"
        if before is None:
            told = f"created {shown_path(name)}: {size}"
        elif before == data:
            told = f"{shown_path(name)} is as it was: {size}"
        else:
            told = f"replaced {shown_path(name)}: {size} (was {count_lines(before)} lines)"
        return Act(text=told, paths=(name,), contents={name: blob_name(data)})

    async def write(run: Run, path: str, content: str) -> str:
        """Write a whole file; folders are made. What was in it before is replaced.

        Args:
            path: The file, by its path from the workspace's folder.
            content: All that the file shall hold.
        """
        path = workspace.ground.plain(path)
        return said(await workspace.act(run, doing, path, content, timeout=MARGIN))

    return Tool.from_function(write, None, result_bytes=RESULT_BYTES)


def said(act: Act) -> str:
    """For the model. Raises `ToolError` for a call that was refused."""
    if not act.ok:
        raise ToolError(act.text)
    return act.text
