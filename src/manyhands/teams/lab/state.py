"""What the parts of the lab share while a study runs: the study, its places, its slots, its state.

Invariant: everything mutable here is a function of the study, the order and the values of finished
steps, so a replay rebuilds it exactly; nothing in it comes from a clock or from who finished first.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from manyhands.ports import JobExit, JobRunner
from manyhands.teams.lab.cast import Brief, Cast
from manyhands.teams.lab.gate import GateSettings, gate_at
from manyhands.teams.lab.hosts import Curves, Hosts
from manyhands.teams.lab.pruning import PRUNED
from manyhands.teams.lab.records import (
    Ablation,
    Experiment,
    Factorial,
    GateDecision,
    Hypothesis,
    LedgerRow,
    Master,
    Measurement,
    Note,
    Record,
    Verdict,
)
from manyhands.teams.lab.repository import Repository
from manyhands.teams.lab.study import Study

#: The folder inside a study that holds what its runs leave behind. It ignores itself in git.
FOLDER = ".manyhands"

#: How a run ends whose processes went on after it: no metric is taken from it.
OUTLIVED = "outlived"

#: How a run ends that could not be begun, in a study that wraps up.
NOT_RUN = "not_run"


class AwayJobs(Record):
    """Training on other machines. Seconds: ``silence_seconds`` without output end a job; ``queue_``
    until it begins; ``outage_`` that its machine may not be reached. ``attempts``: where machines
    fail."""

    silence_seconds: float = Field(default=1800.0, gt=0)
    queue_seconds: float = Field(default=3600.0, gt=0)
    outage_seconds: float = Field(default=900.0, gt=0)
    attempts: int = Field(default=3, ge=1)


class HubJobs(AwayJobs):
    """The Hub's machines. ``packages``: what training needs installed. ``namespace``: who pays ('':
    whose token it is). Dollars are limits."""

    flavor: str = "cpu-basic"
    image: str = ""
    packages: tuple[str, ...] = ()
    usd_per_job: float = Field(default=1.0, gt=0)
    usd_per_campaign: float = Field(default=10.0, gt=0)
    usd_per_minute: float | None = Field(default=None, ge=0)
    namespace: str = ""


class SshJobs(AwayJobs):
    """A host: ``[USER@]HOST[:PORT]``. ``python``: 3.11 or newer, with what training needs.
    ``folder``: for jobs and shared data there ('': in its cache). ``config``: for ``ssh -F``."""

    host: str = Field(min_length=1)
    python: str = "python3"
    folder: str = ""
    config: str = ""


class SlurmJobs(AwayJobs):
    """A cluster whose file system holds the study. ``minutes``: the job's limit there (0: that of
    the study, and five). ``options``: further ones of ``sbatch``, by their long names.
    ``isolation``: a level that each node must offer ("auto": what it has). ``folder``: for jobs,
    shared with the nodes ('': in the study's own)."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    gres: str = ""
    constraint: str = ""
    cpus: int = Field(default=0, ge=0)
    minutes: int = Field(default=0, ge=0)
    options: dict[str, str] = Field(default_factory=dict)
    isolation: Literal["auto", "bubblewrap", "landlock", "process"] = "auto"
    folder: str = ""


#: What may be changed of a study that has begun: nothing of it bears on what is measured.
LIMITS = frozenset(
    {*AwayJobs.model_fields, "usd_per_job", "usd_per_campaign", "usd_per_minute", "minutes"}
)


class Order(Record):
    """What was asked for: the workflow's input. None (of ``papers``: '') leaves the study's own
    setting. ``papers``: the source of papers, a folder's path absolute. ``hub``, ``ssh``,
    ``slurm``: where training runs; at most one (None of all: on this machine). ``cache``: an
    absolute folder in which studies share what `prepare` makes ('': in the study's own). ``race``:
    the run whose slots it shares with others ('': its own)."""

    study: str
    seed: int = 1
    runs: int | None = Field(default=None, ge=1)
    experiments: int | None = Field(default=None, ge=1)
    slots: int | None = Field(default=None, ge=1)
    plateau: int | None = Field(default=None, ge=1)
    campaign: str = ""
    race: str = ""
    models: dict[str, str] = Field(default_factory=dict)
    papers: str = ""
    hub: HubJobs | None = None
    ssh: SshJobs | None = None
    slurm: SlurmJobs | None = None
    cache: str = ""

    @property
    def away(self) -> HubJobs | SshJobs | SlurmJobs | None:
        return self.hub or self.ssh or self.slurm

    def with_limits(self, limits: Mapping[str, Any]) -> Order:
        """With new limits on the jobs. Raises ValueError for what cannot be changed any more."""
        if not limits:
            return self
        for name, jobs in (("hub", self.hub), ("ssh", self.ssh), ("slurm", self.slurm)):
            if jobs is not None:
                changed = type(jobs).model_validate(jobs.model_dump() | dict(limits))
                return self.model_copy(update={name: changed})
        raise ValueError("its jobs run on this machine, without such limits")


@dataclass(frozen=True, slots=True, eq=False)
class _Wish:
    owner: str
    wanted: int | None
    patient: bool
    given: asyncio.Future[int]


class Pool:
    """So many places to run a job, for one study or several at once.

    Who wants one place and no other is served before those who take any. Of these a free place goes
    to the owner that has the fewest jobs running, then to the one that has had the fewest; of its
    jobs to one that is not patient, then to the one that has waited longest. The lowest free number
    is given.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = set(range(count))
        self._waiting: list[_Wish] = []
        self._running: Counter[str] = Counter()
        self._had: Counter[str] = Counter()

    @asynccontextmanager
    async def take(
        self, owner: str, wanted: int | None, patient: bool = False
    ) -> AsyncGenerator[int]:
        given: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        wish = _Wish(owner, wanted, patient, given)
        self._waiting.append(wish)
        self._hand_out()
        try:
            yield await given
        finally:
            self._waiting = [each for each in self._waiting if each is not wish]
            if given.done() and not given.cancelled():
                self._running[owner] -= 1
                self._free.add(given.result())
                self._hand_out()

    def _hand_out(self) -> None:
        while ranks := [
            (w.wanted is None, self._running[w.owner], self._had[w.owner], w.patient, at)
            for at, w in enumerate(self._waiting)
            if not w.given.done() and (w.wanted in self._free or (w.wanted is None and self._free))
        ]:
            wish = self._waiting.pop(min(ranks)[-1])
            slot = min(self._free) if wish.wanted is None else wish.wanted
            self._free.remove(slot)
            self._running[wish.owner] += 1
            self._had[wish.owner] += 1
            wish.given.set_result(slot)


class Slots:
    """What one study has of a pool: by default all of its own. ``count``: runs at once."""

    def __init__(self, count: int, pool: Pool | None = None, owner: str = "") -> None:
        self.count = count
        self._pool = pool or Pool(count)
        self._owner = owner

    @asynccontextmanager
    async def take(self, slot: int | None = None, *, patient: bool = False) -> AsyncGenerator[int]:
        """``slot``: that one and no other (None, or one that there is not: any). ``patient``: after
        all others of this study."""
        wanted = slot if slot is not None and slot < self._pool.count else None
        async with self._pool.take(self._owner, wanted, patient) as place:
            yield place


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run of a study keeps its files. ``sealed`` is never readable to an experiment."""

    root: Path
    run: Path
    prepared: Path

    @classmethod
    def of(cls, study: Study, run_id: str, cache: str = "") -> Places:
        """``cache``: a folder for what is prepared, in which studies share it."""
        root = study.dir / FOLDER
        prepared = Path(cache) if cache else root / "prepared"
        return cls(root, root / run_id, prepared / study.fingerprint[:16])

    @property
    def data(self) -> Path:
        return self.prepared / "data"

    @property
    def sealed(self) -> Path:
        return self.prepared / "sealed"

    def job(self, key: str) -> Path:
        return self.run / "jobs" / key

    def worktree(self, experiment: str) -> Path:
        return self.run / "worktrees" / experiment

    def make(self) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        (self.root / ".gitignore").write_text("*\n")


@dataclass(frozen=True, slots=True)
class Pair:
    """One seed, run by the master and by the candidate."""

    seed: int
    master: Measurement
    candidate: Measurement

    @property
    def both(self) -> tuple[Measurement, Measurement]:
        return self.master, self.candidate

    @property
    def mixed(self) -> bool:
        """The two ran on different kinds of machines: they tell nothing of each other."""
        return self.candidate.host != self.master.host

    def gain(self, sign: float) -> float | None:
        """Positive is better; None where one of the two gave no metric, or they are mixed."""
        if self.candidate.metric is None or self.master.metric is None or self.mixed:
            return None
        return sign * (self.candidate.metric - self.master.metric)

    def holdout_gain(self, sign: float) -> float | None:
        if self.candidate.holdout is None or self.master.holdout is None or self.mixed:
            return None
        return sign * (self.candidate.holdout - self.master.holdout)


@dataclass(slots=True)
class Candidate:
    """An experiment under way. ``verdict`` is None while it may still be promoted.

    ``measured``: its runs, and the master's beside them, each with its metric's difference from
    the master on the same seed (None: no metric).
    """

    id: str
    hypothesis: Hypothesis
    parent: str
    commit: str = ""
    files: dict[str, str] = field(default_factory=dict[str, str])
    diff: str = ""
    fingerprint: str = ""
    comment: str = ""
    verdict: Verdict | None = None
    rule: str = ""
    screen_gain: float | None = None
    decision: GateDecision | None = None
    holdout_gain: float | None = None
    rebased_from: str = ""
    first_parent: str = ""
    new: str = ""
    measured: list[tuple[Measurement, float | None]] = field(
        default_factory=list[tuple[Measurement, float | None]]
    )

    def end(self, verdict: Verdict, rule: str, why: str) -> None:
        self.verdict, self.rule, self.comment = verdict, rule, why

    def reject(self, rule: str, why: str) -> None:
        self.end(Verdict.REJECTED, rule, why)

    def fail(self, run: Measurement) -> None:
        """End with what a run without a metric calls for."""
        verdicts = {
            JobExit.TIMED_OUT.value: Verdict.TIMED_OUT,
            OUTLIVED: Verdict.REJECTED,
            NOT_RUN: Verdict.INCONCLUSIVE,
            PRUNED: Verdict.NOT_BETTER,
        }
        self.end(verdicts.get(run.exit, Verdict.CRASHED), run.exit, run.detail)

    def on(self, master: str) -> Candidate:
        """The same experiment, its hypothesis now about another master."""
        self.hypothesis = self.hypothesis.model_copy(update={"parent": master})
        return self

    def decide(self, decision: GateDecision, pairs: Sequence[Pair], sign: float) -> None:
        """Take the gate's word, and the runs that it rests on."""
        self.decision, self.verdict, self.rule = decision, Verdict(decision.verdict), "gate"
        self.comment = decision.reason
        gains = [h for p in pairs if (h := p.holdout_gain(sign)) is not None]
        self.holdout_gain = sum(gains) / len(gains) if gains else None
        for pair in pairs:
            delta = pair.gain(sign)
            self.measured.append((pair.master, 0.0))
            self.measured.append((pair.candidate, None if delta is None else sign * delta))
            if pair.candidate.metric is None:
                self.fail(pair.candidate)

    def record(self) -> Experiment:
        assert self.verdict is not None
        return Experiment(
            id=self.id,
            hypothesis=self.hypothesis,
            candidate=self.commit,
            parent=self.parent,
            verdict=self.verdict,
            rule=self.rule,
            screen_gain=self.screen_gain,
            decision=self.decision,
            holdout_gain=self.holdout_gain,
            rebased_from=self.rebased_from,
            comment=self.comment,
            diff=self.diff,
            new=self.new,
        )


def gate_of(study: Study) -> GateSettings:
    promotion = study.config.promotion
    return GateSettings(
        alpha=promotion.alpha, max_pairs=promotion.max_pairs, min_gain=promotion.min_gain
    )


#: Fewer runs than this confirm no drop: the gate's first look, at which it may stop as futile.
LEAST_TO_CONFIRM = 2 * 3
#: Of the ablation's alpha, the part of each of its two tests. What is left over is for a change
#: that is put back in another's place.
TEST_SHARE = 0.4


def ablation_gate(study: Study, count: int) -> GateSettings:
    """The gate of one of ``count`` changes that are taken out side by side."""
    rules = study.config.ablation
    return gate_at(TEST_SHARE * rules.alpha / count, rules.max_pairs)


def dropped_of(ablation: Ablation | None) -> frozenset[str]:
    """The experiments whose changes the ablation took out."""
    lines = ablation.lines if ablation is not None else ()
    return frozenset(line.experiment for line in lines if line.fate == "dropped")


#: How the name of one begins who fills a role and takes time for it.
THINKS = "model:"


@dataclass(frozen=True, slots=True)
class Ground:
    """What an experiment is made on, as it was when it was begun: the master and its ``files``, the
    programs ``seen`` until then, what its worker is told, and the curves it is ended by."""

    master: Master
    files: dict[str, str]
    seen: dict[str, str]
    brief: Brief
    known: Curves | None


@dataclass(frozen=True, slots=True)
class Screening:
    """A candidate that is under way. ``runs``: how many are reserved for it."""

    candidate: Candidate
    task: asyncio.Task[None]
    runs: int


@dataclass(slots=True)
class Lab:
    """One study in progress. ``runs``: training runs so far, over all phases, without those of
    ``screening``, the candidates that are under way, oldest first. ``made``: the experiment, the
    hypothesis and the parent of each commit. ``canaries``: how many there were. ``uneven``:
    programs measure otherwise in one place than in the others. ``ending``: the rounds are over, and
    what was held back for the end may be used."""

    order: Order
    study: Study
    repository: Repository
    jobs: JobRunner
    cast: Cast
    slots: Slots
    places: Places
    base: str
    master: Master
    master_files: dict[str, str]
    campaign: str
    run_id: str
    environment: str = ""
    documents: dict[str, str] = field(default_factory=dict[str, str])
    history: list[Experiment] = field(default_factory=list[Experiment])
    promising: list[Candidate] = field(default_factory=list[Candidate])
    screening: deque[Screening] = field(default_factory=deque[Screening])
    notes: list[Note] = field(default_factory=list[Note])
    seen: dict[str, str] = field(default_factory=dict[str, str])
    attempts: set[str] = field(default_factory=set[str])
    steers: list[str] = field(default_factory=list[str])
    rows: list[LedgerRow] = field(default_factory=list[LedgerRow])
    runs: int = 0
    experiments: int = 0
    hypotheses: int = 0
    row: int = 0
    masters: list[Master] = field(default_factory=list[Master])
    made: dict[str, tuple[str, str, str]] = field(default_factory=dict[str, tuple[str, str, str]])
    hosts: Hosts = field(default_factory=Hosts)
    canaries: int = 0
    uneven: bool = False
    ending: bool = False
    late_seeds: int = 0
    ablation: Ablation | None = None
    factorials: list[Factorial] = field(default_factory=list[Factorial])

    @property
    def limit(self) -> int:
        return self.order.runs if self.order.runs is not None else self.study.config.budget.runs

    @property
    def runs_left(self) -> int:
        """For what is begun now: without what is reserved for what is under way, and what is held
        back for the end of the campaign."""
        reserved = sum(each.runs for each in self.screening)
        return self.limit - self.runs - reserved - (0 if self.ending else self.held_back)

    def count(self, measured: Iterable[Measurement]) -> None:
        """Training runs that were done."""
        self.runs += len([*measured])

    @property
    def held_back(self) -> int:
        """Runs for the ablation: from the first promotion on, and only if they test a change."""
        rules = self.study.config.ablation
        share = int(rules.share * self.limit)
        useful = rules.enabled and self.master.version > 0 and share >= self.least_ablation
        return share if useful else 0

    @property
    def least_ablation(self) -> int:
        """Runs that it takes to show that one change helps, or to take it out."""
        return 2 * ablation_gate(self.study, 1).first + LEAST_TO_CONFIRM

    @property
    def least_runs(self) -> int:
        """Fewer runs than this can promote nothing: a screening, if nothing waits, and a gate."""
        screening = 0 if self.promising else self.study.config.promotion.screen_seeds
        return screening + 2 * self.gate.first

    @property
    def experiments_left(self) -> int:
        limit = self.order.experiments or self.study.config.budget.experiments
        return limit - self.experiments if limit is not None else self.runs_left

    @property
    def plateau(self) -> int:
        """Experiments in a row without a promotion that end the study."""
        return self.order.plateau or self.study.config.budget.plateau

    @property
    def since_promotion(self) -> int:
        """Experiments since the last promotion, or since the start."""
        verdicts = [e.verdict for e in reversed(self.history)]
        found = Verdict.PROMOTED in verdicts
        return verdicts.index(Verdict.PROMOTED) if found else len(verdicts)

    @property
    def gate(self) -> GateSettings:
        return gate_of(self.study)

    @property
    def overlaps(self) -> bool:
        """Whether a round is begun before the one before it is landed: where someone is asked who
        thinks. An algorithm knows at once what it proposes, and better with one round more."""
        asked = ("researcher", "planner", "reviewer", "worker")
        wanted = self.study.config.slots.overlap
        if wanted != "auto":
            return wanted
        return any(self.cast.names[role].startswith(THINKS) for role in asked)

    def room(self) -> int:
        """How many experiments this round may begin: two for each slot, leaving enough for a first
        look at what waits already; and, beside others that are under way, for a whole test of one
        of those, so that what is learnt late in a small budget can still be used."""
        if self.since_promotion >= self.plateau:
            return 0
        spare = self.runs_left - 2 * self.gate.first
        spare -= 2 * self.gate.max_pairs * bool(self.screening)
        screens = spare // self.study.config.promotion.screen_seeds
        return min(2 * self.slots.count, screens, self.experiments_left)

    def take_promising(self, *, only_clear: bool) -> list[Candidate]:
        """The best by screening: one at a time on few slots, so that a winner's master is what the
        next is measured against; side by side where slots would stand idle.

        ``only_clear``: leave those waiting whose screening shows less than the noise. To confirm
        one costs as much as to screen a dozen new ideas, so that is for when ideas run out.
        """
        if self.runs_left < 2 * self.gate.first:
            return []
        self.promising.sort(key=lambda c: (-(c.screen_gain or 0.0), c.id))
        bar = self.master.noise_sd if only_clear else -float("inf")
        clear = sum((c.screen_gain or 0.0) >= bar for c in self.promising)
        count = min(max(1, self.slots.count // 4), clear)
        taken, self.promising = self.promising[:count], self.promising[count:]
        return taken

    def pin(self, seed: int) -> int | None:
        """The slot for all runs that are compared on this seed, where slots are known to differ
        (None: any)."""
        return seed % self.slots.count if self.hosts.several or self.uneven else None

    def next_row(self) -> int:
        self.row += 1
        return self.row

    @property
    def sign(self) -> float:
        """Makes a gain positive when it is better."""
        return -1.0 if self.study.config.metric.direction == "lower" else 1.0

    def baseline_seeds(self) -> list[int]:
        first = self.order.seed * 1_000_000
        return list(range(first, first + self.study.config.promotion.baseline_seeds))

    def fresh_seeds(self, candidate: Candidate, used: int, count: int) -> list[int]:
        """Seeds that no run of this study has had: each experiment and parent have their own."""
        first = self.order.seed * 1_000_000 + int(candidate.id[1:]) * 1000
        first += 200 * (self.master.version % 5) + used
        return list(range(first, first + count))

    def more_seeds(self, count: int) -> list[int]:
        """Seeds for the end of the campaign, each handed out once: a billion above all others."""
        first = 1_000_000_000 + self.order.seed * 1_000_000 + self.late_seeds
        self.late_seeds += count
        return list(range(first, first + count))

    @property
    def surviving(self) -> list[Experiment]:
        """The promoted changes that the master has, in the order of their promotion."""
        dropped = dropped_of(self.ablation)
        won = {e.id: e for e in self.history if e.verdict is Verdict.PROMOTED}
        order = [m.experiment for m in self.masters if m.experiment in won]
        return [won[name] for name in order if name not in dropped]

    def ground(self) -> Ground:
        known = self.hosts.known(self.master.commit) if self.study.config.pruning.enabled else None
        return Ground(self.master, self.master_files, dict(self.seen), self.brief(), known)

    def brief(self) -> Brief:
        waiting = (*self.promising, *(each.candidate for each in self.screening))
        return Brief(
            study=self.study,
            master=self.master,
            files=self.master_files,
            history=tuple(self.history),
            pending=tuple(c.hypothesis for c in waiting),
            notes=tuple(self.notes),
            documents=self.documents,
            steers=tuple(self.steers),
            attempts=frozenset(self.attempts),
            repository=self.repository,
            masters=tuple(self.masters),
        )

    def manifest(self) -> dict[str, Any]:
        """What a reader needs to know of how this study runs."""
        isolation = self.jobs.isolation
        return {
            "study": self.study.name,
            "dir": str(self.study.dir),
            "base": self.base,
            "campaign": self.campaign,
            "slots": self.slots.count,
            "runs": self.order.runs or self.study.config.budget.runs,
            "fillers": self.cast.names,
            "environment": self.environment,
            "isolation": {"level": isolation.level, "notes": list(isolation.notes)},
        }
