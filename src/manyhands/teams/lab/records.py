"""What the lab persists: the words of the lab as typed records, each JSON in the journal.

Invariant: every number in a `LedgerRow` that is called a metric came from the harness's own
evaluator, never from the output of code that an agent edited.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

Literalish = bool | int | float | str


class Record(BaseModel):
    """Frozen, and closed to unknown fields: a typo in a model's answer is an error, not data."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Verdict(StrEnum):
    """How an experiment ended. ``BASELINE`` marks the measurements of a master; ``KEPT``,
    ``DROPPED`` and ``MEASURED`` those of the end of a campaign, and no experiment."""

    BASELINE = "baseline"
    PROMOTED = "promoted"
    NOT_BETTER = "not_better"
    INCONCLUSIVE = "inconclusive"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    REJECTED = "rejected"
    STALE = "stale"
    KEPT = "kept"
    DROPPED = "dropped"
    MEASURED = "measured"


class Phase(StrEnum):
    """Why a run was made. Only ``CONFIRM`` runs count towards a reported gain. ``CANARY``: the
    master again. ``ABLATE``: the final master, and it without a change; ``FACTORIAL``: with and
    without two of them."""

    BASELINE = "baseline"
    SCREEN = "screen"
    CANARY = "canary"
    CONFIRM = "confirm"
    HOLDOUT = "holdout"
    ABLATE = "ablate"
    FACTORIAL = "factorial"


class Idea(Record):
    """From the researcher: one change worth trying and where the thought came from."""

    title: str
    rationale: str
    source: str = ""


class Citation(Record):
    """A paper's own words, found in its text by the harness. ``passage``: the id of where they
    begin; ``title`` and ``url`` are empty where the source does not say."""

    paper: str
    title: str = ""
    url: str = ""
    passage: str
    quote: str


class FoundIdea(Idea):
    """An idea that is one exact change already, as in a `Hypothesis`."""

    kind: Literal["setting", "structural"]
    setting: str = ""
    value: Literalish | None = None
    instructions: str = ""
    citation: Citation | None = None


class Hypothesis(Record):
    """From the planner: exactly one change to exactly one parent.

    A ``setting`` change names one existing setting and its new value; a ``structural`` one says in
    words what the worker shall edit. ``expected_gain``: in the metric's unit. ``expected_cost``: in
    training runs until its verdict. ``rank``: 0 is the best of its round by gain per run.
    ``citation``: of the paper that it comes from.
    """

    id: str
    title: str
    rationale: str
    kind: Literal["setting", "structural"]
    parent: str
    setting: str = ""
    value: Literalish | None = None
    instructions: str = ""
    expected_gain: float | None = None
    expected_cost: float = 1.0
    source: str = ""
    rank: int = 0
    citation: Citation | None = None


class Review(Record):
    """From the reviewer. ``rule`` names the rule that a refusal rests on; ``new`` says why what was
    accepted is no duplicate."""

    hypothesis: str
    accepted: bool
    rule: str = ""
    reason: str = ""
    new: str = ""


class FileEdit(Record):
    """The whole new text of one editable file, relative to the study's folder."""

    path: str
    text: str


class Patch(Record):
    """From the worker: what it changed and what it says about it (a stranger's words)."""

    edits: tuple[FileEdit, ...]
    comment: str = ""


class Measurement(Record):
    """One training run and the harness's evaluation of what it left behind.

    ``metric`` is None unless ``exit`` is ``ok`` and the evaluator gave a finite number.
    ``candidate`` and ``parent`` are commit hashes. Times are seconds, memory MB (peak, whole tree).
    ``host``: the kind of machine that trained it ('': not known). ``rungs``: what the training said
    of its loss on the way (`pruning.RUNGS`).
    """

    key: str
    candidate: str
    seed: int
    phase: Phase
    exit: str
    metric: float | None
    holdout: float | None = None
    duration: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    slot: int = 0
    started_at: float = 0.0
    detail: str = ""
    log: str = ""
    cost_usd: float = 0.0
    host: str = ""
    rungs: tuple[float | None, ...] = ()


class GateDecision(Record):
    """The promotion test's outcome. ``gain`` is positive when better, from confirmation runs only.

    ``low``/``high``: bounds of the gain, each of which holds alone with probability 1 - alpha (None
    below six pairs at the default alpha).
    """

    verdict: Literal["promoted", "not_better", "inconclusive"]
    pairs: int
    looks: int
    gain: float
    low: float | None
    high: float | None
    p_value: float
    alpha: float
    reason: str


class LedgerRow(Record):
    """One run, one row. ``delta`` is metric minus the master's on the same seed (None: not known).

    ``paper``: the id of the paper that the change comes from, and the passage.
    ``fillers`` maps each role to who filled it: ``optuna-tpe``, ``rules``, ``model:<name>``, …
    """

    row: int
    campaign: str
    experiment: str
    hypothesis: str
    title: str
    phase: Phase
    parent: str
    candidate: str
    seed: int
    worker: str
    fillers: dict[str, str]
    metric: float | None
    delta: float | None
    holdout: float | None
    duration: float
    cpu_seconds: float
    peak_memory_mb: float
    exit: str
    verdict: Verdict
    rule: str = ""
    cost_usd: float = 0.0
    created_at: float = 0.0
    started_at: float = 0.0
    slot: int = -1
    comment: str = ""
    environment: str = ""
    paper: str = ""
    host: str = ""


class Experiment(Record):
    """One hypothesis from start to verdict. ``candidate`` is empty when no patch came to be.
    ``new``: why its program is no duplicate."""

    id: str
    hypothesis: Hypothesis
    candidate: str
    parent: str
    verdict: Verdict
    rule: str = ""
    screen_gain: float | None = None
    decision: GateDecision | None = None
    holdout_gain: float | None = None
    rebased_from: str = ""
    comment: str = ""
    diff: str = ""
    new: str = ""


class Master(Record):
    """The promoted program. ``reference`` maps seed -> metric: its confirmation runs.

    Candidates are screened against ``reference``; they are promoted against a fresh measurement.
    ``program`` and ``structure`` are hashes of its syntax: of the whole, and of what remains where
    the numbers of its settings are left open.
    """

    commit: str
    experiment: str
    version: int
    reference: dict[int, float]
    noise_sd: float
    program: str = ""
    structure: str = ""


class Note(Record):
    """From the memory-keeper. ``expires_with`` is what it rests on: '' for nothing (it holds for
    ever), or a master's commit, ``program:HASH`` or ``structure:HASH``."""

    kind: Literal["do_not_repeat", "near_miss", "insight"]
    text: str
    experiment: str
    fingerprint: str = ""
    expires_with: str = ""


class Anomaly(Record):
    kind: str
    text: str
    experiment: str = ""


# ---------------------------------------------------------------- the end of a campaign


class Ablated(Record):
    """A promoted change, taken out of the final master. ``gains``: per seed, how much better the
    master is with it; ``low`` and ``high`` bound their mean, each with probability 1 - alpha.

    ``dropped``: it is not shown to help. ``undecided``: the budget ended first. ``inseparable``: it
    cannot be taken out alone. Only what is ``dropped`` leaves the master.
    """

    experiment: str
    title: str
    fate: Literal["kept", "dropped", "undecided", "inseparable"]
    why: str
    gains: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    p_value: float | None = None

    @property
    def gain(self) -> float | None:
        return sum(self.gains) / len(self.gains) if self.gains else None


class Ablation(Record):
    """The leave-one-out of a campaign. ``confirmation``: of the master against the program without
    what was dropped (None: nothing to confirm, or no runs for it). ``skipped``: why there was none
    ('': there was). ``left``: the training runs that were left when it began."""

    master: str
    reduced: str = ""
    lines: tuple[Ablated, ...] = ()
    confirmation: GateDecision | None = None
    skipped: str = ""
    alpha: float = 0.05
    runs: int = 0
    left: int = 0


class Factorial(Record):
    """Two changes with and without each other on the same seeds.

    ``interaction``: both - first - second + neither, positive when they help each other; ``low``
    and ``high`` bound it at ``level``, shared by all factorials of the campaign (None: too few
    seeds). ``experiment``: the combination's own, where it was put to the promotion test.
    """

    first: str
    second: str
    titles: tuple[str, str]
    kind: Literal["promoted", "near misses", "near miss and promoted"]
    seeds: int = 0
    interaction: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.05
    experiment: str = ""
    why: str = ""

    @property
    def evidence(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)
