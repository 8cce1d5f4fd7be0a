"""What the answer team hands around and keeps. All of it is journaled, so all of it is frozen.

The ``…Answer`` types are what models are asked for; the rest is the harness's own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from manyhands.agents.crew import AgentCost
from manyhands.teams.answer.claims import Finding, Issue, IssueKind

#: Subtasks of a plan that a supervisor makes.
LEAST, MOST = 2, 4


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]


class Way(StrEnum):
    SINGLE = "single"
    TEAM = "team"


class Order(Record):
    """A question and how to go about it. The journal keeps it: a resumed run does the same.

    ``docs``: a folder of documents ('': none); ``urls``: hosts that pages may be fetched from;
    ``mcp``: tool servers of ``manyhands.toml``; ``python``: whether agents get a sandboxed Python.
    ``models``: role -> model, '' for all others. ``workers``: at once. ``project``: the folder
    whose ``.manyhands`` keeps the index and the memory; ``memory``: recall and keep findings there.

    ``patience``: seconds of silence of a model, or of one of its tools, that are taken for a hang.
    """

    question: str = Field(min_length=1)
    docs: str = ""
    urls: tuple[str, ...] = ()
    mcp: tuple[str, ...] = ()
    python: bool = True
    route: Literal["auto", "single", "team"] = "auto"
    models: dict[str, str] = Field(default_factory=dict)
    workers: int = Field(default=MOST, ge=1)
    max_revisions: int = Field(default=2, ge=0)
    patience: float = Field(default=30.0, gt=0)
    project: str = ""
    memory: bool = False


class Route(Record):
    """``by``: ``order``, ``rule:<name>`` or ``model:<name>``."""

    way: Way
    reason: str
    by: str


class RouteAnswer(Record):
    way: Way
    reason: str


class Subtask(Record):
    """``needs``: ids of subtasks whose reports it depends on."""

    id: Id
    title: str = Field(min_length=1, max_length=120)
    question: str = Field(min_length=1, max_length=2000)
    needs: tuple[Id, ...] = ()


class PlanAnswer(Record):
    subtasks: tuple[Subtask, ...]


class Plan(Record):
    """``by``: who made it; ``fallback``: why it is not what a supervisor said ('': it is)."""

    subtasks: tuple[Subtask, ...]
    by: str
    fallback: str = ""


class WorkAnswer(Record):
    findings: tuple[Finding, ...]
    not_found: tuple[str, ...] = ()


class Work(Record):
    """What a worker came to. ``round``: 0, then one for each revision. ``agent``: its scope.

    ``ending``: how its turns ended (`manyhands.agents.report.Ending`); ``detail``: its last words.
    ``by``: the person who reported in its place.
    """

    subtask: str
    round: int
    agent: str
    status: Literal["complete", "partial", "failed"]
    findings: tuple[Finding, ...] = ()
    not_found: tuple[str, ...] = ()
    ending: str = ""
    detail: str = ""
    by: str = ""


class SynthesisAnswer(Record):
    findings: tuple[Finding, ...]
    decision: str = ""


class Part(Record):
    """``subtask``: whose findings these are ('': a synthesis of several)."""

    subtask: str
    title: str
    findings: tuple[Finding, ...]


class Draft(Record):
    """``issues``: what the mechanical checks say of it. ``by``: ``combiner`` or a model."""

    number: int
    parts: tuple[Part, ...]
    by: str
    decision: str = ""
    issues: tuple[Issue, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for part in self.parts for finding in part.findings)

    @property
    def text(self) -> str:
        """As the critic and the checks read it."""
        lines = [finding.text for finding in self.findings]
        return "\n".join([*lines, self.decision] if self.decision else lines)


class Verdict(StrEnum):
    SHIP = "ship"
    REVISE = "revise"


class Objection(Record):
    """An issue in a critic's words."""

    kind: IssueKind
    span: str = ""
    why: str


class CriticAnswer(Record):
    verdict: Verdict
    issues: tuple[Objection, ...] = ()


class Critique(Record):
    """``issues``: the checks' and then the critic's. ``by``: the critic's model ('': none did).
    ``set_aside``: issues of the critic that name no words of the draft."""

    draft: int
    verdict: Verdict
    issues: tuple[Issue, ...]
    by: str = ""
    set_aside: tuple[str, ...] = ()


class Revision(Record):
    """Who ran again because of what, and whether fewer issues were left."""

    number: int
    ran: tuple[str, ...]
    issues_before: int
    issues_after: int

    @property
    def helped(self) -> bool:
        return self.issues_after < self.issues_before


class Source(Record):
    """A citation of the answer. ``number``: as in the text; ``hash``: of the source as it was
    read."""

    number: int
    passage: str
    title: str
    quote: str
    hash: str


class Dropped(Record):
    """A statement that is not in the answer, and why."""

    text: str
    why: str


class Outcome(Record):
    """The whole result.

    ``answer``: Markdown with numbered citations. ``complete``: every subtask was answered, every
    part of the question is addressed, no issue is open. ``checked``: there were sources, and
    statements that they do not support are not in the answer.
    """

    question: str
    answer: str
    complete: bool
    checked: bool
    route: Route
    plan: Plan
    reports: tuple[Work, ...]
    drafts: tuple[Draft, ...]
    critiques: tuple[Critique, ...]
    revisions: tuple[Revision, ...]
    sources: tuple[Source, ...]
    dropped: tuple[Dropped, ...]
    missing: tuple[str, ...]
    open_issues: tuple[Issue, ...]
    notes: tuple[str, ...]
    agents: tuple[AgentCost, ...]
    seconds: float
    requests: int
    tokens: int
    micro_usd: int
