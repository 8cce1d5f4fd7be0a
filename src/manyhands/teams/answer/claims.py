"""What the answer team's parts hand to each other: findings, what they rest on, what is wrong.

Invariant: a record is frozen and carries words only; whether a citation holds is for `citations`.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Citation(_Record):
    """``passage``: its id, such as "routing.md#3"; ``quote``: its words, verbatim."""

    passage: str
    quote: str


class Finding(_Record):
    """One statement, a sentence or two, and what it rests on."""

    text: str
    citations: tuple[Citation, ...] = ()


class IssueKind(StrEnum):
    UNSUPPORTED = "unsupported"
    CONTRADICTION = "contradiction"
    VAGUE = "vague"
    MISSING = "missing"
    OFF_QUESTION = "off-question"


class Issue(_Record):
    """``span``: the words of the draft that it is about ('' for something missing).

    ``by``: "critic", or "check:<name>" where a mechanical check found it.
    """

    kind: IssueKind
    span: str
    why: str
    by: str = "critic"
