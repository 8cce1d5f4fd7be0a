"""``glob`` and ``grep``: by a program inside of the sandbox, so that no pattern hangs the harness.

Invariant: what is left out is counted and said: further matches, binary files, hidden ones.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from manyhands.agents.tools import Tool
from manyhands.agents.workspace import search_program
from manyhands.agents.workspace.file_tools import MARGIN, RESULT_BYTES, said
from manyhands.agents.workspace.places import as_utf8, inside, nearest, telling
from manyhands.agents.workspace.shown import escaped, excerpt, shown_path
from manyhands.agents.workspace.workspace import Act, Workspace
from manyhands.errors import SandboxError, ToolError
from manyhands.ports import ExecResult, Killed, Sandbox
from manyhands.runtime import Run

SECONDS = 20.0
MOST_PATHS, MOST_MATCHES, MOST_CONTEXT, MOST_PATTERN = 1_000, 500, 20, 2_000
#: Bytes that one call shows.
_MOST_SHOWN = 24_000
#: The first Python there is runs it; it leaves no trace in the workspace.
_COMMAND = 'exec "$(command -v python3 || command -v python)" -I -c "$1"'


@dataclass(slots=True)
class _Shown:
    """Lines up to a size; ``left``: how many did not fit."""

    lines: list[str] = field(default_factory=list[str])
    size: int = 0
    left: int = 0

    def add(self, line: str, *, counts: bool = True) -> None:
        self.size += len(line.encode("utf-8", "replace")) + 1
        if self.size <= _MOST_SHOWN and not self.left:
            self.lines.append(line)
        else:
            self.left += counts


def glob_tool(workspace: Workspace) -> Tool:
    async def doing(sandbox: Sandbox, pattern: str, limit: int) -> Act:
        _refuse(pattern, limit, MOST_PATHS)
        glob, path = _split(inside(sandbox, pattern))
        query = {"path": path, "glob": glob, "pattern": None, "limit": limit}
        found = await _search(sandbox, query)
        return Act(text=_paths_told(pattern, found))

    async def glob(run: Run, pattern: str, limit: int = 200) -> str:
        """List the files whose paths fit a pattern, such as src/**/*.py, *.md or {a,b}/*.

        A pattern without a slash fits names in every folder. Hidden files are listed where the
        pattern names the dot.

        Args:
            pattern: ** is any number of folders, * and ? are within a name.
            limit: How many paths at most.
        """
        return said(
            await workspace.act(run, doing, pattern, limit, changes=False, timeout=SECONDS + MARGIN)
        )

    return Tool.from_function(glob, None, result_bytes=RESULT_BYTES)


def grep_tool(workspace: Workspace) -> Tool:
    async def doing(sandbox: Sandbox, query: dict[str, Any]) -> Act:
        _refuse(query["pattern"], query["limit"], MOST_MATCHES)
        _refuse(query["glob"] or "*", 1, 1)
        if not 0 <= query["context"] <= MOST_CONTEXT:
            raise ToolError(
                f"context={query['context']}; 0 to {MOST_CONTEXT} are allowed", next="give less"
            )
        path = inside(sandbox, query["path"])
        found = await _search(sandbox, {**query, "path": path})
        return Act(text=_lines_told(query, found), paths=_seen(found))

    async def grep(
        run: Run,
        pattern: str,
        path: str = "",
        glob: str = "",
        ignore_case: bool = False,
        context: int = 0,
        limit: int = 100,
    ) -> str:
        """Search the lines of files for a regular expression.

        Hidden files are searched where path or glob names the dot; binary ones never.

        Args:
            pattern: A regular expression; a line that holds a match is found.
            path: A folder or a file to search; empty: all of the workspace.
            glob: Only files whose path fits, such as *.py.
            ignore_case: Whether A finds a.
            context: How many lines to show before and after each.
            limit: How many matches at most.
        """
        query = {
            "pattern": pattern,
            "path": workspace.ground.plain(path),
            "glob": glob,
            "ignore_case": ignore_case,
            "context": context,
            "limit": limit,
        }
        return said(await workspace.act(run, doing, query, changes=False, timeout=SECONDS + MARGIN))

    return Tool.from_function(grep, None, result_bytes=RESULT_BYTES)


@cache
def _source() -> str:
    return Path(search_program.__file__).read_text(encoding="utf-8")


def _refuse(pattern: str, limit: int, most: int) -> None:
    size = len(as_utf8("pattern", pattern))
    if not 1 <= size <= MOST_PATTERN or "\0" in pattern:
        raise ToolError(
            f"a pattern of {size} bytes: {excerpt(pattern)}; it has 1 to {MOST_PATTERN}, none zero",
            next="give a shorter one",
        )
    if not 1 <= limit <= most:
        raise ToolError(f"limit={limit}; 1 to {most} are allowed", next="give one of these")


def _split(pattern: str) -> tuple[str, str]:
    """The pattern, and the folder that it is below of: only that is walked."""
    parts = pattern.split("/")
    plain = 0
    while plain < len(parts) - 1 and not set(parts[plain]) & set("*?[{"):
        plain += 1
    return pattern, "/".join(parts[:plain])


async def _search(sandbox: Sandbox, query: dict[str, Any]) -> dict[str, Any]:
    printed = bytearray()
    command = ["/bin/sh", "-c", _COMMAND, "sh", _source()]
    done = await telling(
        query["path"],
        sandbox.exec(
            command, timeout=SECONDS, stdin=json.dumps(query).encode(), on_output=printed.extend
        ),
    )
    if done.killed is not None:
        raise _ended(done, query)
    try:
        found = cast(dict[str, Any], json.loads(printed))
    except ValueError as error:
        said = bytes(printed[-300:]).decode("utf-8", "replace").strip()
        raise SandboxError(
            f"the search program ended with {done.code}: {said}",
            next="is there a python3 of 3.9 or later in the sandbox?",
        ) from error
    if "error" in found:
        raise await _refused(sandbox, query, found)
    return found


def _ended(done: ExecResult, query: dict[str, Any]) -> ToolError:
    if done.killed is Killed.TIME:
        what = f"the search was ended after {SECONDS:g} s: no result"
        if query["pattern"] is None:
            return ToolError(f"{what}; there is too much to look at", next="name a folder")
        return ToolError(
            f"{what}. Pattern {excerpt(query['pattern'])} may try too many ways to match (nested "
            "repetition such as (a+)+), or there is too much to search",
            next="make the pattern simpler, or name a smaller path or glob",
        )
    return ToolError(
        f"the search was ended ({done.killed} limit): {done.detail}",
        next="name a smaller path or glob",
    )


async def _refused(sandbox: Sandbox, query: dict[str, Any], found: dict[str, Any]) -> ToolError:
    if found["error"] == "missing":
        names = await telling(query["path"], sandbox.glob("**/*", 5_000))
        found_near = await asyncio.to_thread(nearest, query["path"], names)
        near = ", ".join(map(shown_path, found_near))
        return ToolError(
            f"{shown_path(query['path'])} does not exist",
            next=f"did you mean {near}?" if near else "look with glob",
        )
    what, given = (
        ("pattern", query["pattern"])
        if found["error"] == "pattern"
        else (
            "glob",
            query["glob"],
        )
    )
    return ToolError(f"{what} {excerpt(given)}: {found['why']}", next="correct it")


def _paths_told(pattern: str, found: dict[str, Any]) -> str:
    shown = _Shown()
    for path in found["paths"]:
        shown.add(shown_path(path))
    total, count = found["total"], len(shown.lines)
    hidden = f"; {found['hidden']} hidden names were not looked at" if found["hidden"] else ""
    if not total:
        return f"no file fits {excerpt(pattern)}{hidden}"
    if count < total:
        head = f"{total} files; the first {count} are shown, {total - count} are left out{hidden}"
    else:
        head = f"{total} file{'s' if total > 1 else ''}{hidden}"
    return "\n".join([head, *shown.lines])


def _lines_told(query: dict[str, Any], found: dict[str, Any]) -> str:
    shown = _Shown()
    last: tuple[str, int] = ("", 0)
    matches = 0
    for path, number, is_match, text, columns in found["lines"]:
        if path != last[0]:
            shown.add(shown_path(path), counts=False)
        elif number > last[1] + 1 and query["context"]:
            shown.add("   --", counts=False)
        last = (path, number)
        line, marked = escaped(text)
        where = f" [columns {columns[0]}-{columns[1]} of {columns[2]}]" if columns else ""
        mark = f"{'e' if marked else ''}{'c' if columns else ''}{':' if is_match else '-'}"
        shown.add(f"{number:>6}{mark} {line}{where}")
        matches += is_match and not shown.left
    total = found["matches"]
    head = f"{total} matching line{'s' * (total != 1)} in {found['in_files']} files"
    if matches < total:
        head += f"; the first {matches} are shown, {total - matches} are left out"
    if not total:
        head = f"no line matches {excerpt(query['pattern'])} in {found['searched']} files"
    return "\n".join([head, *_left_out(found), *_marks(shown.lines), *shown.lines])


def _left_out(found: dict[str, Any]) -> list[str]:
    notes: list[str] = []
    for what, (names, count) in (
        ("binary files were not searched", found["binary"]),
        ("files could not be read, or are too large", found["skipped"]),
    ):
        if count:
            more = f" and {count - len(names)} more" if count > len(names) else ""
            notes.append(f"[{count} {what}: {', '.join(map(shown_path, names))}{more}]")
    if found["hidden"]:
        notes.append(f"[{found['hidden']} hidden names were not looked at]")
    return notes


def _marks(lines: list[str]) -> list[str]:
    heads = "".join(line.lstrip()[:9].split(" ")[0] for line in lines if line.startswith(" "))
    notes = [("e", "escaped as in a Python string"), ("c", "cut, and end with which columns")]
    return [f"[lines marked {mark} are {what}]" for mark, what in notes if mark in heads]


def _seen(found: dict[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line[0] for line in found["lines"]))
