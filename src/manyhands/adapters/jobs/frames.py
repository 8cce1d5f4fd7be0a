"""The lines that a job on another machine prints, for both ends of it.

Invariant: whatever bytes a job prints are the same bytes at home, and none of them can be taken
for a line of ours: each line begins with a mark, and what a job prints stands behind one of two of
them. Lines without a mark are of the machine (``uv``, the Hub itself, a crash of ours).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

#: A whole line of output; any other bytes; a fact, as JSON; a piece of the files that come back.
TEXT, BYTES, FACT, FILES = "mh| ", "mh> ", "mh= ", "mh# "
#: Characters of one line.
_LONGEST = 3_000


@dataclass(frozen=True, slots=True)
class Output:
    data: bytes


@dataclass(frozen=True, slots=True)
class Fact:
    name: str
    value: Any


@dataclass(frozen=True, slots=True)
class Piece:
    data: bytes


@dataclass(frozen=True, slots=True)
class Noise:
    text: str


Frame = Output | Fact | Piece | Noise


def output_lines(data: bytes) -> Iterator[str]:
    """What a job has printed since the last time."""
    for line in data.splitlines(keepends=True):
        text = _plain(line)
        if text is not None:
            yield TEXT + text
            continue
        for at in range(0, len(line), _LONGEST * 3 // 4):
            yield BYTES + _encoded(line[at : at + _LONGEST * 3 // 4])


def _plain(line: bytes) -> str | None:
    """Its text, if it is a whole line that any log keeps as it is."""
    if not line.endswith(b"\n") or len(line) > _LONGEST:
        return None
    try:
        text = line[:-1].decode()
    except UnicodeDecodeError:
        return None
    return text if text == text.strip() and all(c.isprintable() for c in text) else None


def fact(name: str, value: Any) -> str:
    return FACT + json.dumps({name: value})


def file_lines(data: bytes) -> Iterator[str]:
    size = _LONGEST * 3 // 4
    for at in range(0, len(data), size):
        yield FILES + _encoded(data[at : at + size])


def parse(line: str) -> Frame:
    """Raises ValueError for a line with a mark that is not as it should be."""
    line = line.rstrip("\r\n")
    mark, rest = line[: len(TEXT)], line[len(TEXT) :]
    if mark == TEXT or line == TEXT.rstrip():
        return Output(rest.encode() + b"\n")
    if mark == BYTES:
        return Output(base64.b64decode(rest, validate=True))
    if mark == FILES:
        return Piece(base64.b64decode(rest, validate=True))
    if mark == FACT:
        return _fact(json.loads(rest))
    return Noise(line)


def _fact(told: object) -> Fact:
    if not isinstance(told, dict) or len(cast(dict[str, Any], told)) != 1:
        raise ValueError("a fact is one name and its value")
    ((name, value),) = cast(dict[str, Any], told).items()
    return Fact(name, value)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
