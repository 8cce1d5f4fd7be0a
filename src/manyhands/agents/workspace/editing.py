"""Exact replacement in the bytes of a file, and refusals that say what is there instead.

Invariant: what is not part of a match stays as it is, byte by byte: line ends, bytes that are no
UTF-8, a missing newline at the end. An edit that would not do exactly what was asked is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from manyhands.agents.workspace.places import alike, as_utf8
from manyhands.agents.workspace.shown import excerpt, shown_path, text_of_bytes
from manyhands.errors import ToolError

#: Where something like it is looked for when there is no match.
_MOST_LINES, _MOST_COLUMNS, _MOST_TOLD = 5_000, 200, 20


class Edit(BaseModel):
    """``old`` -> ``new`` in ``path`` ('': that of the call)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    old: str = Field(description="The text to replace, exactly as it is in the file.")
    new: str = Field(description="The text to put in its place.")
    path: str = Field(default="", description="The file; empty: the call's own path.")
    all: bool = Field(default=False, description="Replace every occurrence.")


@dataclass(frozen=True, slots=True)
class Edited:
    """``lines``: of the new content, where it was changed."""

    data: bytes
    lines: tuple[int, ...]


def apply(path: str, data: bytes, edit: Edit) -> Edited:
    """Raises `ToolError` unless ``old`` is there once (or ``all`` is given) and differs."""
    if not edit.old:
        raise ToolError(
            f"old is empty: there is nothing to look for in {shown_path(path)}",
            next="give the text to replace; write makes a whole file",
        )
    if edit.old == edit.new:
        raise ToolError(
            f"old and new are the same: {excerpt(edit.old)}; nothing would change",
            next="give the text as it shall be in new",
        )
    old, new = as_utf8("old", edit.old), as_utf8("new", edit.new)
    if _only_crlf(data):
        new = _crlf(new)
        old = old if old in data else _crlf(old)
    found = places(data, old)
    if not found:
        raise _not_there(path, data, edit.old)
    if len(found) > 1 and not edit.all:
        lines = ", ".join(str(_line_of(data, at)) for at in found[:_MOST_TOLD])
        count, more = (f"{len(found)} times", "")
        if len(found) > _MOST_TOLD:
            count, more = f"more than {_MOST_TOLD} times", ", …"
        raise ToolError(
            f"old is in {shown_path(path)} {count}, beginning at lines {lines}{more}",
            next="give more of the text around the one that is meant, or all=true",
        )
    if old == new:
        raise ToolError(
            f"old and new differ in line ends alone, and {shown_path(path)} has CRLF throughout",
            next="change line ends with bash, if that is meant",
        )
    return _replaced(data, old, new)


def places(data: bytes, old: bytes) -> list[int]:
    """Where ``old`` begins, those that overlap included; no more than are told, and one."""
    found: list[int] = []
    at = data.find(old)
    while at >= 0 and len(found) <= _MOST_TOLD:
        found.append(at)
        at = data.find(old, at + 1)
    return found


def _replaced(data: bytes, old: bytes, new: bytes) -> Edited:
    """From left to right, without those that overlap one before."""
    kept = data.split(old)
    lines: list[int] = []
    line = 1
    for part in kept[:-1]:
        line += part.count(b"\n")
        lines.append(line)
        line += new.count(b"\n")
    return Edited(new.join(kept), tuple(lines))


def _only_crlf(data: bytes) -> bool:
    return b"\r\n" in data and data.count(b"\n") == data.count(b"\r\n")


def _crlf(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _line_of(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def _not_there(path: str, data: bytes, old: str) -> ToolError:
    """What is most like it, and what differs."""
    lines = text_of_bytes(data).split("\n")
    what = f"old is not in {shown_path(path)} ({len(lines)} lines)"
    wanted = old.split("\n")
    if numbers := _line_numbers(wanted):
        return ToolError(
            f"{what}: it begins with a line number, as read shows it: {excerpt(numbers)}",
            next="leave the numbers and the tab after them out",
        )
    told = _but_for_blanks(lines, wanted) or _nearest(lines, wanted)
    return ToolError(
        f"{what}{told}", next="read the file around there, and give the text exactly as it is"
    )


def _line_numbers(wanted: list[str]) -> str:
    """Such as ``    12\t``."""
    head, tab, _ = wanted[0].partition("\t")
    return wanted[0][:20] if tab and head.strip().rstrip("ec").isdecimal() else ""


def _but_for_blanks(lines: list[str], wanted: list[str]) -> str:
    """Where all lines are equal but for blanks."""
    plain = [_plain(line) for line in wanted]
    while len(plain) > 1 and not plain[0]:
        plain, wanted = plain[1:], wanted[1:]
    while len(plain) > 1 and not plain[-1]:
        plain, wanted = plain[:-1], wanted[:-1]
    text = "\n".join(["", *map(_plain, lines), ""])
    at = text.find("\n".join(["", *plain, ""])) if any(plain) else -1
    return _difference(lines, wanted, text.count("\n", 0, at)) if at >= 0 else ""


def _difference(lines: list[str], wanted: list[str], at: int) -> str:
    last = at + len(wanted)
    where = f"line {last}" if len(wanted) == 1 else f"lines {at + 1}-{last}"
    pairs = zip(range(at, last), wanted, strict=True)
    number = next((i for i, text in pairs if lines[i] != text), at)
    return (
        f"; {where} are equal to it but for blanks or line ends. Line {number + 1}:\n"
        f"  in the file: {excerpt(lines[number])}\n  in old:      {excerpt(wanted[number - at])}"
    )


def _plain(line: str) -> str:
    return "".join(line.split())


def _nearest(lines: list[str], wanted: list[str]) -> str:
    """The line that is most like the longest one of ``old``."""
    one = max(wanted, key=lambda line: len(line.strip()))[:_MOST_COLUMNS]
    if not one.strip():
        return ""
    known = {line[:_MOST_COLUMNS]: i for i, line in reversed([*enumerate(lines[:_MOST_LINES])])}
    found = alike(one, list(known), 3, 0.5)
    if not found:
        return "; no line of it is like one of old" + (
            f" (of its first {_MOST_LINES} lines)" if len(lines) > _MOST_LINES else ""
        )
    near = "\n".join(f"  line {known[each] + 1}: {excerpt(each)}" for each in found)
    return f". Of old: {excerpt(one)}; most like it in the file:\n{near}"
