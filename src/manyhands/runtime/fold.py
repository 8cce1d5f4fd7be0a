"""The one reducer: events -> the state of a run. Live view, replay and export all use it.

Invariant: the state after n events depends on those n events alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from manyhands.errors import JournalTooNew
from manyhands.runtime.artifacts import Artifact, Artifacts
from manyhands.runtime.budget import Budget
from manyhands.runtime.events import Event, Status, Type
from manyhands.runtime.holds import Holds, covers


@dataclass(slots=True)
class StepState:
    """``outcome``: ``started``, ``retrying``, ``done``, ``failed`` or ``in_doubt``.

    ``seq``: its first event; ``started_seq``: its latest start. ``failures``: failed attempts that
    were to be tried again. ``retries``: how often a person had its failure tried again. ``lost``:
    spent on attempts that came to nothing. ``actor``: who ordered it, where that was a person.
    """

    key: str
    scope: str
    effect: str
    args: str
    seq: int
    started_seq: int = 0
    attempts: int = 1
    failures: int = 0
    retries: int = 0
    outcome: str = "started"
    epoch: int = 0
    started_at: float = 0.0
    ended_at: float | None = None
    cost: dict[str, int] = field(default_factory=dict[str, int])
    used: dict[str, int] = field(default_factory=dict[str, int])
    lost: Counter[str] = field(default_factory=Counter[str])
    event: Event | None = None
    settled: dict[str, Any] | None = None
    actor: str = ""

    @property
    def finished(self) -> bool:
        return self.outcome in ("done", "failed")


@dataclass(slots=True)
class CommandState:
    """``id``: its idempotency key."""

    id: str
    seq: int
    verb: str
    target: str
    message: Any
    decided_on: int | None
    ts: float


@dataclass(slots=True)
class RunState:
    """Everything that is known of a run. Times are unix seconds.

    ``active``: seconds held by a process; what passed between the last event and a crash is not
    known, and not in it. ``stops``: scope -> the event that asked it to stop, or killed it;
    ``kills``: those that were killed. ``origin``: of a fork, the run that began its history.
    """

    run_id: str
    workflow: str = ""
    version: int = 0
    status: Status = Status.RUNNING
    epoch: int = 0
    seq: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    active: float = 0.0
    error: dict[str, Any] | None = None
    budget: Budget = field(default_factory=Budget)
    input: Event | None = None
    output: Event | None = None
    forked_from: str = ""
    origin: str = ""
    steps: dict[str, StepState] = field(default_factory=dict[str, StepState])
    records: dict[str, Event] = field(default_factory=dict[str, Event])
    scopes: dict[str, tuple[Budget, float]] = field(default_factory=dict[str, tuple[Budget, float]])
    timers: dict[str, float] = field(default_factory=dict[str, float])
    waits: dict[str, int] = field(default_factory=dict[str, int])
    answers: dict[str, list[CommandState]] = field(default_factory=dict[str, list["CommandState"]])
    holds: Holds = field(default_factory=Holds)
    rebudgeted: set[str] = field(default_factory=set[str])
    stops: dict[str, int] = field(default_factory=dict[str, int])
    kills: set[str] = field(default_factory=set[str])
    commands: list[CommandState] = field(default_factory=list[CommandState])
    artifacts: Artifacts = field(default_factory=Artifacts)

    def apply(self, event: Event) -> None:
        """Fold one event in. Types with a colon are records; an unknown one is a newer schema's."""
        if event.type not in _GAPS:
            self.active += max(0.0, event.ts - self.updated_at) if self.updated_at else 0.0
        self.seq, self.updated_at, self.epoch = event.seq, event.ts, event.epoch
        if ":" in event.type:
            self.records[event.key] = event
            return
        reduce = _REDUCERS.get(event.type)
        if reduce is None:
            raise JournalTooNew(
                f"event {event.seq} of run {self.run_id} has type {event.type!r}, unknown here",
                next="install a newer manyhands",
            )
        reduce(self, event)

    @property
    def paused(self) -> bool:
        """Whether the whole run is."""
        return "" in self.holds.pauses

    def stop_of(self, path: str) -> int | None:
        """The first event that asked the scope ``path``, or one around it, to stop."""
        return min((seq for at, seq in self.stops.items() if covers(at, path)), default=None)

    def killed(self, path: str) -> bool:
        """Whether the scope ``path``, or one around it, was killed (of the whole run it is not
        kept: such a run goes on when it is resumed)."""
        return any(covers(at, path) for at in self.kills)

    def in_doubt(self) -> list[StepState]:
        return [s for s in self.steps.values() if s.outcome == "in_doubt"]

    def spent(self, under: str = "") -> Counter[str]:
        """All that was used, and all that was reserved and then lost to a crash.

        ``under``: by the steps of this scope and those inside it ('': of the whole run).
        """
        total: Counter[str] = Counter()
        for step in self.steps.values():
            if not under or step.key.startswith(f"{under}/"):
                total.update(step.used)
                total.update(step.lost)
        return total

    def seconds(self, under: str = "") -> float:
        """From the first step's start to the last one's end in a scope, and those inside it. What
        the budget refused never started."""
        begun = [s for s in self.steps.values() if s.started_at]
        steps = [s for s in begun if not under or s.key.startswith(f"{under}/")]
        if not steps:
            return 0.0
        first = min(s.started_at for s in steps)
        return max(s.ended_at or self.updated_at for s in steps) - first

    def reserved(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for step in self.steps.values():
            if step.outcome == "started":
                total.update(step.cost)
        return total


def _created(s: RunState, e: Event) -> None:
    s.workflow, s.version = e.data["workflow"], e.data["version"]
    s.created_at, s.input = e.ts, e
    s.budget = Budget.model_validate(e.data["budget"])


def _forked(s: RunState, e: Event) -> None:
    s.origin = s.origin or str(e.data["run_id"])
    s.forked_from = f"{e.data['run_id']}@{e.data['before']}"
    s.status, s.error, s.output = Status.INTERRUPTED, None, None
    s.stops.clear()  # what was asked of the other run
    s.holds.clear()


def _opened(s: RunState, e: Event) -> None:
    s.status, s.error = Status.RUNNING, None
    if (budget := e.data.get("budget")) is not None:
        s.budget = Budget.model_validate(budget)
    for step in s.steps.values():
        if step.outcome == "started":
            step.lost.update(step.cost)
            step.cost = {}
            step.outcome = "in_doubt" if step.effect == "once" else "retrying"
    retry = set(e.data.get("retry", ()))
    for key in [k for k in retry if k in s.steps]:
        step = s.steps[key]
        step.lost.update(step.used)
        step.used, step.outcome, step.event, step.failures = {}, "retrying", None, 0
        step.retries += 1


def _blocked(s: RunState, e: Event) -> None:
    s.status = Status.BLOCKED
    s.error = e.data


def _ended(s: RunState, e: Event) -> None:
    s.status = Status(e.data["status"])
    s.error, s.output = e.data.get("error"), e


def _scope(s: RunState, e: Event) -> None:
    s.scopes[e.key] = (Budget.model_validate(e.data), s.active)


def _started(s: RunState, e: Event) -> None:
    d = e.data
    step = s.steps.get(e.key)
    if step is None:
        step = s.steps[e.key] = StepState(
            e.key, d.get("scope", ""), d["effect"], d.get("args", ""), e.seq
        )
        step.actor = d.get("actor", "")
    step.attempts, step.outcome, step.epoch = d.get("attempt", 1), "started", e.epoch
    step.started_seq = e.seq
    step.cost, step.started_at, step.ended_at = d.get("cost", {}), e.ts, None


def _end_step(s: RunState, e: Event, outcome: str) -> None:
    step = s.steps[e.key]
    step.outcome, step.ended_at, step.event = outcome, e.ts, e
    used = e.data.get("used", step.cost)
    if outcome == "done" or e.data.get("final", True):
        step.used = used
    else:
        step.lost.update(used)
        step.outcome = "retrying"
        step.failures += 1
    step.cost = {}


def _refused(s: RunState, e: Event) -> None:
    """A failure before any start: a reservation that did not fit."""
    if e.key not in s.steps:
        d = e.data
        s.steps[e.key] = StepState(
            e.key, d.get("scope", ""), d.get("effect", "idempotent"), d.get("args", ""), e.seq
        )
    _end_step(s, e, "failed")


def _in_doubt(s: RunState, e: Event) -> None:
    s.steps[e.key].outcome = "in_doubt"


def _settled(s: RunState, e: Event) -> None:
    step = s.steps[e.key]
    step.settled = e.data
    if e.data["action"] == "retry":
        step.outcome = "retrying"
    else:
        step.outcome, step.event, step.ended_at = (
            "done" if e.data["action"] == "result" else "failed",
            e,
            e.ts,
        )


def _command(s: RunState, e: Event) -> None:
    d = e.data
    command = CommandState(
        d["id"], e.seq, d["verb"], d["target"], d["message"], d.get("decided_on"), e.ts
    )
    s.commands.append(command)
    match command.verb:
        case "answer":
            s.answers.setdefault(command.target, []).append(command)
        case "stop":
            s.stops.setdefault(command.target, e.seq)
        case "kill" if command.target:
            s.stops.setdefault(command.target, e.seq)
            s.kills.add(command.target)
        case "budget":
            _rebudget(s, command.target, command.message)
        case _:
            pass
    s.holds.command(e.seq, command.verb, command.target, command.message)


def _rebudget(s: RunState, target: str, limits: dict[str, Any]) -> None:
    """Those limits that are named, in the place of the old ones; all else stays."""
    if not target:
        s.budget = s.budget.model_copy(update=limits)
        return
    s.rebudgeted.add(target)
    if target in s.scopes:
        budget, since = s.scopes[target]
        s.scopes[target] = (budget.model_copy(update=limits), since)


def _put(s: RunState, e: Event) -> None:
    s.artifacts.put(Artifact.model_validate(e.data | {"seq": e.seq}))
    s.records[e.key] = e


def _marked(s: RunState, e: Event) -> None:
    s.artifacts.mark_as(e.data)
    s.records[e.key] = e


#: Nobody held the run between the event before and these.
_GAPS = frozenset[str]({Type.RUN_OPENED, Type.RUN_FORKED})

_REDUCERS: dict[str, Callable[[RunState, Event], None]] = {
    Type.RUN_CREATED: _created,
    Type.RUN_FORKED: _forked,
    Type.RUN_OPENED: _opened,
    Type.RUN_BLOCKED: _blocked,
    Type.RUN_ENDED: _ended,
    Type.SCOPE_OPENED: _scope,
    Type.STEP_STARTED: _started,
    Type.STEP_DONE: lambda s, e: _end_step(s, e, "done"),
    Type.STEP_FAILED: _refused,
    Type.STEP_IN_DOUBT: _in_doubt,
    Type.STEP_SETTLED: _settled,
    Type.TIMER_SET: lambda s, e: s.timers.__setitem__(e.key, e.data["wake_at"]),
    Type.WAIT_SET: lambda s, e: s.waits.__setitem__(e.key, e.seq),
    Type.COMMAND: _command,
    Type.ARTIFACT_PUT: _put,
    Type.ARTIFACT_MARKED: _marked,
}
