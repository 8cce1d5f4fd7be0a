"""What an agent hands back: input from a stranger, with its status, its ending and its cost.

Invariant: ``complete`` means that the role's answer arrived and fitted its type; nothing else does.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from manyhands.agents.encoding import encode
from manyhands.errors import AgentError, MalformedAnswer, OutOfTurns
from manyhands.runtime import Evidence

T = TypeVar("T")


class ReportStatus(StrEnum):
    """``partial``: it was made to report before it was done."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


class Ending(StrEnum):
    """Why the turns ended. All but ``answered`` are named after what went wrong last.

    ``stopped``: a person asked it to wrap up, ``killed``: to end at once.
    ``unanswered``: a stop before the work was done. ``question``: it asked a person.
    ``refused``: it would not, ``filtered``: its server would not. ``unaccepted``: its answer fits
    its type and fails a check. ``bad_call``: a call that could not be run, ``tools``: calls that
    ran and failed, turn after turn. ``time``: that of its scope was over, but for its report.
    """

    ANSWERED = "answered"
    OUT_OF_TURNS = "out_of_turns"
    STOPPED = "stopped"
    KILLED = "killed"
    BUDGET = "budget"
    MALFORMED = "malformed"
    UNACCEPTED = "unaccepted"
    UNANSWERED = "unanswered"
    QUESTION = "question"
    REFUSED = "refused"
    EMPTY = "empty"
    CUT = "cut"
    FILTERED = "filtered"
    BAD_CALL = "bad_call"
    TOOLS = "tools"
    LOOP = "loop"
    INTERRUPTED = "interrupted"
    TIME = "time"
    MODEL = "model"


class Spend(BaseModel):
    """What requests have cost, as charged to the budget. Money in millionths of a US dollar."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    micro_usd: int = 0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Spend) -> Spend:
        return Spend(
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            micro_usd=self.micro_usd + other.micro_usd,
        )


class Claim(BaseModel):
    """One thing that an agent says is so, and what it rests on (nothing: a mere assertion)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    evidence: tuple[Evidence, ...] = ()


class Report(BaseModel, Generic[T]):
    """How an agent ended. ``usage`` is the sum of its own requests and of all agents below it.

    ``agent``: its scope's path, under which the journal has every step. ``value``: the typed answer
    (None without one, and for a role that answers in plain text: then ``text``). ``claims``: those
    of the value, if its type has a field of that name. ``detail``: the last thing that went wrong.
    ``reported``: tokens of its own requests as the servers counted them. ``nudges``: pushes;
    ``repairs``: answers shown back; ``salvaged``: replies whose calls were found in their text;
    ``unread``: calls that could not be read; ``fallbacks``: changes of the model. ``by``: the
    person who wrote it in the agent's place ('': the agent did).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent: str
    model: str
    status: ReportStatus
    ending: Ending
    value: T | None = None
    text: str = ""
    claims: tuple[Claim, ...] = ()
    usage: Spend = Spend()
    reported: int = 0
    turns: int = 0
    nudges: int = 0
    repairs: int = 0
    salvaged: int = 0
    unread: int = 0
    fallbacks: int = 0
    detail: str = ""
    by: str = ""

    @property
    def author(self) -> str:
        """``person:NAME`` or ``model:NAME``."""
        return f"person:{self.by}" if self.by else f"model:{self.model}"

    def told(self) -> str:
        """What another agent is shown of it, as JSON: everything but the bookkeeping."""
        shown = self.model_dump(mode="json", exclude={"model", "usage", *_BOOKKEEPING})
        if isinstance(self.value, str):
            del shown["text"]  # it is the value
        kept = {key: told for key, told in shown.items() if told not in ("", None, [])}
        return encode(kept).decode()

    def require(self) -> T:
        """The value of a complete report.

        Raises `MalformedAnswer`, `OutOfTurns` or `AgentError` for any other, naming the ending.
        """
        if self.status is ReportStatus.COMPLETE and self.value is not None:
            return self.value
        kinds = {Ending.MALFORMED: MalformedAnswer, Ending.OUT_OF_TURNS: OutOfTurns}
        raise kinds.get(self.ending, AgentError)(
            f"agent {self.agent!r} ({self.model}) ended {self.status} after {self.turns} turns: "
            f"{self.ending}{': ' + self.detail if self.detail else ''}",
            next=_NEXT.get(self.ending, "read its turns in the journal, then correct its role"),
        )


_BOOKKEEPING = ("reported", "turns", "nudges", "repairs", "salvaged", "unread", "fallbacks")
_NEXT = {
    Ending.OUT_OF_TURNS: "raise max_turns in its role, or give it less to do",
    Ending.BUDGET: "raise the budget and resume the run",
    Ending.CUT: "raise max_tokens in its role",
    Ending.MODEL: "check the model's endpoint, then resume the run with retry of what failed",
    Ending.QUESTION: "answer its question in the task, or let its role ask a person",
    Ending.TIME: "give it more time, or less to do",
    Ending.KILLED: "start it again if its work is still wanted",
    Ending.STOPPED: "start it again if its work is still wanted",
}
