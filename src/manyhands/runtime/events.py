"""What a journal holds: a closed set of events.

Everything else (status, timeline, spend, artifacts) is a fold over these; see `fold`. Events that a
workflow writes itself have a type with a colon in it (``lab:row``, ``agent:context``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: Bumped when a reader of the old form would misread the new. Golden journals of each stay.
SCHEMA = 1

#: A value whose JSON text is longer than this (characters) is stored once, as a blob.
INLINE_LIMIT = 4096


class Type(StrEnum):
    RUN_CREATED = "run.created"
    RUN_FORKED = "run.forked"
    RUN_OPENED = "run.opened"
    RUN_BLOCKED = "run.blocked"
    RUN_ENDED = "run.ended"
    SCOPE_OPENED = "scope.opened"
    STEP_STARTED = "step.started"
    STEP_DONE = "step.done"
    STEP_FAILED = "step.failed"
    STEP_IN_DOUBT = "step.in_doubt"
    STEP_SETTLED = "step.settled"
    TIMER_SET = "timer.set"
    WAIT_SET = "wait.set"
    COMMAND = "command"
    ARTIFACT_PUT = "artifact.put"
    ARTIFACT_MARKED = "artifact.marked"


class Effect(StrEnum):
    """What repeating a step would do.

    ``pure``: nothing; ``idempotent``: the same again; both are run again after a crash. ``once``:
    something that must not happen twice; after a crash in the middle it is *in doubt*.
    """

    PURE = "pure"
    IDEMPOTENT = "idempotent"
    ONCE = "once"


class Status(StrEnum):
    """``interrupted``: its process is gone and did not end it. ``blocked``: a person decides, or
    sees to what the run needs.
    ``damaged``: what the journal has of it cannot be read; no event says this, only a reader."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    KILLED = "killed"
    DAMAGED = "damaged"


ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.STOPPED, Status.KILLED})


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a journal. ``value`` is JSON text; ``ref`` names a blob that holds it instead."""

    seq: int
    epoch: int
    ts: float
    type: str
    key: str
    data: dict[str, Any]
    value: str | None = None
    ref: str | None = None
