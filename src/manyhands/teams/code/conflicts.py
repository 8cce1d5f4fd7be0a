"""Where two sides cannot both be had, and the text in which that is to be resolved.

Invariant: the marks in a text are longer than any run of such characters at the beginning of a line
of either side, so what stands between marks is found again whatever the files hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from manyhands.agents.workspace.tree import Node

#: What the marks call the two sides and the state that both began from.
OURS, BEFORE, THEIRS = "workspace", "before", "task"
_RUN = re.compile(rb"^(<{7,}|\|{7,}|={7,}|>{7,})", re.MULTILINE)


class ConflictKind(StrEnum):
    """``TEXT``: the same lines; ``ADDED``: both made the file, ``DELETED``: one changed and one
    deleted it; ``BINARY``: no text, or none that could be merged; ``LINK``: where a link leads;
    ``MODE``: permissions alone; ``KIND``: a file and a link; ``FOLDER``: one side has a file where
    the other has a folder."""

    TEXT = "text"
    ADDED = "added"
    DELETED = "deleted"
    BINARY = "binary"
    LINK = "link"
    MODE = "mode"
    KIND = "kind"
    FOLDER = "folder"


class Side(BaseModel):
    """How one side stands. ``node``: what is there (None: nothing, or a folder with files in it).
    ``lines``: first and last line of each span in conflict, in this side's file; where the side
    has no line there, last is first - 1. Of lines that stand there several times, the occurrence
    nearest to the span is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: Node | None = None
    lines: tuple[tuple[int, int], ...] = ()


class Conflict(BaseModel):
    """``text``: the whole file with marks, of a conflict in text ('': of all else)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    kind: ConflictKind
    before: Side = Side()
    ours: Side = Side()
    theirs: Side = Side()
    text: str = ""


def marker_size(contents: Sequence[bytes]) -> int:
    """How long marks have to be for these files."""
    runs = [len(found[0]) for content in contents for found in _RUN.finditer(content)]
    return max(runs, default=6) + 1


def spans(
    marked: bytes, size: int, ours: bytes, before: bytes, theirs: bytes
) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The lines in conflict on each side, in the order ours, before, theirs."""
    starts = _starts(size)
    views: list[list[bytes]] = [[], [], []]
    blocks: list[list[tuple[int, int]]] = [[], [], []]
    inside: int | None = None
    for line in _lines(marked):
        if inside is None and line.startswith(starts[0]):
            inside = 0
        elif inside is not None and inside < 2 and line.startswith(starts[inside + 1]):
            inside += 1
        elif inside == 2 and line.startswith(starts[3]):
            inside = None
            continue
        elif inside is not None:
            views[inside].append(line)
            begun, _ = blocks[inside][-1]
            blocks[inside][-1] = (begun, len(views[inside]))
            continue
        else:
            for view in views:
                view.append(line)
            continue
        blocks[inside].append((len(views[inside]), len(views[inside])))
    files = [_lines(each) for each in (ours, before, theirs)]
    return tuple(_placed(*each) for each in zip(views, blocks, files))


def _starts(size: int) -> tuple[bytes, bytes, bytes, bytes]:
    return (
        b"<" * size + f" {OURS}".encode(),
        b"|" * size + f" {BEFORE}".encode(),
        b"=" * size,
        b">" * size + f" {THEIRS}".encode(),
    )


def _lines(content: bytes) -> list[bytes]:
    found = content.split(b"\n")
    if not found[-1]:
        found.pop()
    return [line.removesuffix(b"\r") for line in found]


def _placed(
    view: Sequence[bytes], blocks: Sequence[tuple[int, int]], lines: Sequence[bytes]
) -> tuple[tuple[int, int], ...]:
    """Where the blocks of a side's view of the merge stand in that side's own file."""
    found: list[tuple[int, int]] = []
    after = shift = 0
    for begun, ended in blocks:
        block, near = list(view[begun:ended]), max(begun + shift, after)
        places = [
            i
            for i in range(after, len(lines) - len(block) + 1)
            if list(lines[i : i + len(block)]) == block
        ]
        at = min(places, key=lambda i: abs(i - near), default=min(near, len(lines)))
        found.append((at + 1, at + len(block)))
        after, shift = at + len(block), at - begun
    return tuple(found)
