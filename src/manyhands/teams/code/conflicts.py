"""Where two sides cannot both be had, and the text in which that is to be resolved.

Invariant: the marks in a text are longer than any run of such characters at the beginning of a line
of either side, so they are told from what the files hold.
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


class Conflict(BaseModel):
    """``theirs``: what the task's change has there (None: nothing, or a folder with files in it).
    ``text``: the whole file with marks, of a conflict in text ('': of all else); ``marks``: their
    length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    kind: ConflictKind
    theirs: Node | None = None
    text: str = ""
    marks: int = 0


def marker_size(contents: Sequence[bytes]) -> int:
    """How long marks have to be for these files."""
    runs = [len(found[0]) for content in contents for found in _RUN.finditer(content)]
    return max(runs, default=6) + 1


def holds_marks(content: bytes, size: int) -> bool:
    """Whether a file that had marks of that length has some still, with or without their words."""
    lines = content.splitlines()
    return any(line.startswith((b"<" * size, b">" * size)) for line in lines)
