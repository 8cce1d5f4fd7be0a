"""The failure table: what open models and their servers do wrong, and how each must end.

Invariant: every row is data. It says what the server does, how often, and the one outcome that is
right; a harness is judged by it from outside, whatever it is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from manyhands.agents.report import Ending, ReportStatus
from manyhands.testing.faults_acts import Act
from manyhands.testing.faults_task import Talk


class Group(StrEnum):
    SHAPE = "response shape"
    ARGUMENTS = "tool arguments"
    STOPPED = "empty or stopped"
    TEXT = "call in text"
    HTTP = "HTTP status"
    CONNECTION = "connection"
    USAGE = "usage"
    ENDLESS = "never done"
    STREAM = "stream"


class Stage(StrEnum):
    """When the fault is due."""

    CALL = "call"  # where the call should come
    ANSWER = "answer"  # where the answer should come
    ANY = "any"

    def covers(self, talk: Talk) -> bool:
        return self is Stage.ANY or (self is Stage.ANSWER) == (talk.found is not None)


class By(StrEnum):
    """How it recovers. ``TAKEN``: no further request is needed."""

    TAKEN = "taken as it is"
    RETRIED = "the request is sent again"
    TOLD = "the model is told"


@dataclass(frozen=True, slots=True)
class Fault:
    """A row. ``act`` comes ``times`` times where ``at`` says, then the server behaves.

    The right outcome: the true answer (``ends`` None; ``by``: how, where only one way is right), or
    a report of ``status`` with the ending ``ends``. ``whole``, ``streamed``: the kinds of request
    that it is meant for. ``typed``: only where the answer has a type. ``seconds``: the deadline of
    one request that the harness is given.
    """

    group: Group
    name: str
    about: str
    act: Act | Callable[[Talk], Act]
    by: By | None = None
    times: int = 1
    at: Stage = Stage.CALL
    ends: Ending | None = None
    status: ReportStatus = ReportStatus.FAILED
    whole: bool = True
    streamed: bool = True
    typed: bool = False
    seconds: float = 20.0

    @property
    def recovers(self) -> bool:
        return self.ends is None

    @property
    def outcome(self) -> str:
        """As the documentation has it."""
        if self.ends is None:
            return f"recovers: {self.by}" if self.by else "recovers"
        return f"{self.status}: {self.ends}"

    def due(self, talk: Talk) -> bool:
        return self.at.covers(talk)
