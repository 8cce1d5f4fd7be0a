"""Paths and files as the tools take them from a model, which may have written anything.

Invariant: what leaves here is a `ToolError` that says what to do next, or a path below the
workspace in one form only; the sandbox itself refuses what leads out through a link.
"""

from __future__ import annotations

import asyncio
import difflib
import posixpath
import time
from collections.abc import Awaitable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from manyhands.agents.workspace.shown import excerpt, shown_path
from manyhands.errors import SandboxError, SandboxFull, SandboxMissing, SandboxRefused, ToolError
from manyhands.ports import FileSlice, Sandbox

T = TypeVar("T")

#: Of a file that is read as a whole, and of one that is written.
MOST_BYTES = 16_000_000
_MOST_NAMES = 5_000
#: For what is like something, in a refusal: letters that are compared, and time.
_MOST_LETTERS, _SECONDS = 200, 0.3


def inside(sandbox: Sandbox, path: str) -> str:
    """The path relative to the workspace, without ``.`` and ``..``; '' is the workspace.

    Raises `ToolError` for what is no path, or leads out.
    """
    if "\0" in path or len(path) > 4096 or not _is_utf8(path):
        raise ToolError(
            f"{excerpt(path)} is not a path ({len(path)} characters; at most 4096, no zero byte, "
            "no half of a surrogate pair)",
            next="name a file of the workspace",
        )
    place = sandbox.workspace.rstrip("/")
    found = posixpath.normpath(path.strip() and path)
    if found.startswith("/"):
        found = "/" + found.lstrip("/")
        if found != place and not found.startswith(f"{place}/"):
            raise ToolError(
                f"{excerpt(path)} is not in the workspace, which is {place}",
                next="name a file of the workspace; bash reads others, where that is allowed",
            )
        found = found[len(place) + 1 :]
    if found == ".." or found.startswith("../"):
        raise ToolError(
            f"{excerpt(path)} leads out of the workspace, which is {place}",
            next="name a file of the workspace by its path from there",
        )
    return "" if found == "." else found


def file_inside(sandbox: Sandbox, path: str) -> str:
    found = inside(sandbox, path)
    if not found or path.endswith("/"):
        raise ToolError(
            f"{excerpt(path)} is a folder", next="name a file; glob lists what a folder holds"
        )
    return found


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_utf8(what: str, text: str) -> bytes:
    """Raises `ToolError` for half a surrogate pair: no file can hold it."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ToolError(
            f"{what} holds half of a surrogate pair at character {error.start}: "
            f"{excerpt(text[max(0, error.start - 10) : error.start + 10])}",
            next="write the whole character, or leave it out",
        ) from error


@contextmanager
def told(path: str) -> Generator[None]:
    """What the sandbox refuses is told to the model; a sandbox that fails is not its fault."""
    try:
        yield
    except (SandboxRefused, SandboxFull) as error:
        raise ToolError(error.what, next=error.next) from error
    except SandboxMissing as error:
        raise ToolError(f"{shown_path(path)}: {error.what}", next="look with glob") from error


async def telling(path: str, call: Awaitable[T]) -> T:
    with told(path):
        return await call


async def content(sandbox: Sandbox, path: str) -> FileSlice:
    """The whole file. Raises `ToolError` for one that is not there (with names that are near),
    is a folder (with what is in it), or has more than `MOST_BYTES`."""
    try:
        with told(path):
            found = await sandbox.read(path, 0, MOST_BYTES + 1)
    except ToolError as error:
        if isinstance(error.__cause__, SandboxMissing):
            raise await _missing(sandbox, path, error) from error
        raise
    if found.size > MOST_BYTES or len(found.data) > MOST_BYTES:
        raise ToolError(
            f"{shown_path(path)} has {found.size} bytes; at most {MOST_BYTES} are read so",
            next="look at parts of it with bash (head, tail, sed -n) or grep",
        )
    return found


async def existing(sandbox: Sandbox, path: str) -> bytes | None:
    """The file's content; None: there is nothing. Raises `ToolError` where something else is."""
    try:
        return (await sandbox.read(path, 0, MOST_BYTES + 1)).data
    except SandboxMissing as error:
        if "does not exist" in error.what or "is no folder" in error.what:
            return None
        raise ToolError(f"{shown_path(path)}: {error.what}", next="choose another path") from error
    except SandboxRefused as error:
        raise ToolError(error.what, next=error.next) from error


async def put(sandbox: Sandbox, after: Mapping[str, bytes], before: Mapping[str, bytes]) -> None:
    """Write files, and read them back. ``before``: what those that are there hold.

    Raises `ToolError` where one cannot be written (then those before it are as they were), and
    `SandboxError` where that is not so: the workspace undoes it.
    """
    written: list[str] = []
    for path, data in after.items():
        try:
            await _put(sandbox, path, data)
        except ToolError:
            for earlier in written:
                await _put_back(sandbox, earlier, before.get(earlier))
            raise
        written.append(path)


async def _put(sandbox: Sandbox, path: str, data: bytes) -> None:
    if len(data) > MOST_BYTES:
        raise ToolError(
            f"{shown_path(path)} would have {len(data)} bytes; at most {MOST_BYTES} are written so",
            next="write less, or make the file with a program",
        )
    with told(path):
        await sandbox.write(path, data)
        found = (await sandbox.read(path)).data
    if found != data:
        raise SandboxError(
            f"{shown_path(path)} was written with {len(data)} bytes; read back it has {len(found)} "
            "or others: something else writes to it",
            next="end what runs in the background, and try again",
        )


async def _put_back(sandbox: Sandbox, path: str, data: bytes | None) -> None:
    try:
        await (sandbox.delete(path) if data is None else sandbox.write(path, data))
    except (SandboxRefused, SandboxFull, SandboxMissing) as error:
        raise SandboxError(
            f"{shown_path(path)} could not be put back: {error.what}", next="try again"
        ) from error


async def _missing(sandbox: Sandbox, path: str, error: ToolError) -> ToolError:
    within = await telling(path, sandbox.glob(f"{_literal(path)}/**/*", 20))
    if within:
        names = ", ".join(shown_path(each) for each in within)
        more = " and more" if len(within) == 20 else ""
        return ToolError(f"{shown_path(path)} is a folder; in it: {names}{more}", next="read one")
    names = await telling(path, sandbox.glob("**/*", _MOST_NAMES))
    near = await asyncio.to_thread(nearest, path, names)
    hint = f"did you mean {', '.join(map(shown_path, near))}?" if near else "look with glob"
    return ToolError(error.what, next=hint)


def nearest(path: str, names: list[str], most: int = 5) -> list[str]:
    """Files of the same name first, then those whose path or name is much like it."""
    base = posixpath.basename(path)[:200]
    same = [each for each in names if posixpath.basename(each).lower() == base.lower()]
    like = alike(path, names, most, 0.75)
    close = set(alike(base, sorted({posixpath.basename(each) for each in names}), most, 0.75))
    near = [each for each in names if posixpath.basename(each) in close]
    return list(dict.fromkeys([*same, *like, *near]))[:most]


def alike(one: str, many: Sequence[str], most: int, least: float) -> list[str]:
    """Those that are most like ``one``, the best first, of as many as there is time for."""
    end = time.monotonic() + _SECONDS
    matcher = difflib.SequenceMatcher(None, "", one[:_MOST_LETTERS])
    found: list[tuple[float, int]] = []
    for i, each in enumerate(many):
        if i % 50 == 0 and time.monotonic() > end:
            break
        matcher.set_seq1(each[:_MOST_LETTERS])
        if matcher.real_quick_ratio() >= least and matcher.quick_ratio() >= least:
            found.append((-matcher.ratio(), i))
    return [many[i] for ratio, i in sorted(found)[:most] if -ratio >= least]


def _literal(path: str) -> str:
    """For a pattern: no character of it is a wildcard."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in path)
