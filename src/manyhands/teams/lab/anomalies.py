"""What a person should look at: jobs that should not run, numbers that should not be.

Invariant: an anomaly is a fact of the ledger or of the jobs at hand, named by its kind; nothing is
changed because of it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import Literal

from manyhands.teams.lab.hosts import changes, offsets
from manyhands.teams.lab.ledger import duration, finite, plain
from manyhands.teams.lab.pruning import DIVERGED
from manyhands.teams.lab.records import (
    Anomaly,
    Experiment,
    LedgerRow,
    Master,
    Phase,
    Record,
    Verdict,
)
from manyhands.teams.lab.trends import dear_runs, idle_slots, plateau, shotgun

Direction = Literal["lower", "higher"]

#: A screening gain of so many standard deviations that confirmation does not bear out is a flag.
JUMP = 10.0
#: Re-measurements of a master may differ from its reference by so many standard errors.
DRIFT = 4.0
_SURVIVORS = re.compile(r"(\d+) left-over process")


class ActiveJob(Record):
    """A job that runs now. ``candidate`` and ``seed`` say what it measures.

    ``hypothesis`` is the change that it tests (``memory.fingerprint``). ``last_output_at`` is None
    where it is not known; then its start counts. Times are unix seconds.
    """

    id: str
    kind: Literal["prepare", "experiment"]
    experiment: str = ""
    hypothesis: str = ""
    candidate: str = ""
    seed: int = -1
    slot: int = -1
    started_at: float = 0.0
    last_output_at: float | None = None


def sign_of(direction: Direction) -> float:
    """What makes a delta a gain: -1 where lower is better."""
    return -1.0 if direction == "lower" else 1.0


class PairGain(Record):
    """One seed's gains, on the validation split and on the sealed one (None: not measured)."""

    seed: int
    gain: float
    holdout: float | None


def paired(experiment: Experiment, rows: Sequence[LedgerRow], sign: float) -> tuple[PairGain, ...]:
    """Candidate against master, seed by seed, from the experiment's confirmation rows."""
    mine = [r for r in rows if r.experiment == experiment.id and r.phase is Phase.CONFIRM]
    master = {r.seed: r for r in mine if r.verdict is Verdict.BASELINE}
    pairs: list[PairGain] = []
    for row in mine:
        other = master.get(row.seed)
        if row.candidate != experiment.candidate or other is None or other is row:
            continue
        if row.metric is None or other.metric is None:
            continue
        both = row.holdout is not None and other.holdout is not None
        sealed = sign * ((row.holdout or 0.0) - (other.holdout or 0.0)) if both else None
        gain = sign * (row.metric - other.metric)
        pairs.append(PairGain(seed=row.seed, gain=gain, holdout=sealed))
    return tuple(pairs)


def anomalies(
    rows: Sequence[LedgerRow],
    *,
    experiments: Sequence[Experiment],
    masters: Sequence[Master],
    direction: Direction,
    active: Sequence[ActiveJob] = (),
    now: float = 0.0,
    quiet_after: float = 300.0,
    slots: int = 1,
) -> tuple[Anomaly, ...]:
    """Everything that a person should look at, jobs first, each thing once.

    The first three are those of burtenshaw/multiautoresearch; there, "more than one active job per
    experiment" suffices, here the two must measure the same (a pair is two jobs by design).
    ``quiet_after``: a job without output for so many seconds counts as stuck. ``slots``: how many
    runs may go on at once.
    """
    sign = sign_of(direction)
    found = [
        *_job_anomalies(active),
        *_stuck(active, now, quiet_after),
        *_without_metric(rows),
        *_diverged(rows),
        *_survivors(rows),
        *_jumps(experiments, masters),
        *(a for e in experiments if (a := _only_on_validation(e, rows, sign))),
        *_drift(rows, masters),
        *_offsets(rows),
        *_changes(rows),
        *shotgun(experiments),
        *idle_slots(rows, slots),
        *dear_runs(rows),
        *plateau(experiments, masters),
    ]
    return tuple({(a.kind, a.text): a for a in found}.values())


def _job_anomalies(active: Sequence[ActiveJob]) -> Iterator[Anomaly]:
    same_work: dict[tuple[str, str, int], list[str]] = defaultdict(list)
    same_change: dict[str, dict[str, None]] = defaultdict(dict)
    for job in active:
        if job.kind == "prepare":
            if job.experiment:
                text = f"the prepare job {job.id} carries the label of {job.experiment}"
                yield _anomaly("prepare-with-experiment", text, job.experiment)
            continue
        same_work[job.experiment, job.candidate, job.seed].append(job.id)
        if job.hypothesis:
            same_change[job.hypothesis][job.experiment] = None
    for (experiment, _, seed), jobs in same_work.items():
        if experiment and len(jobs) > 1:
            text = (
                f"{experiment} runs {len(jobs)} times at once with seed {seed}: {', '.join(jobs)}"
            )
            yield _anomaly("duplicate-job", text, experiment)
    for change, owners in same_change.items():
        if len(owners) > 1:
            text = f"{change} is active under {len(owners)} ids: {', '.join(owners)}"
            yield _anomaly("duplicate-hypothesis", text, next(iter(owners)))


def _anomaly(kind: str, text: str, experiment: str = "") -> Anomaly:
    return Anomaly(kind=kind, text=plain(text, 300), experiment=experiment)


def _stuck(active: Sequence[ActiveJob], now: float, quiet_after: float) -> Iterator[Anomaly]:
    for job in active:
        silent = now - (job.started_at if job.last_output_at is None else job.last_output_at)
        if silent > quiet_after:
            known = "known of it" if job.last_output_at is None else "printed"
            text = f"{job.id}: for {duration(silent)} nothing was {known}"
            yield _anomaly("stuck-job", text, job.experiment)


def _without_metric(rows: Sequence[LedgerRow]) -> Iterator[Anomaly]:
    silent: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in rows:
        if finite(row.metric) is None and row.exit in ("no_metric", "ok"):
            silent[row.experiment].append(row)
    for experiment, failed in silent.items():
        why = f": {failed[-1].comment}" if failed[-1].comment else ""
        runs = "1 run" if len(failed) == 1 else f"{len(failed)} runs"
        yield _anomaly(
            "no-metric", f"{experiment}: {runs} trained and gave no metric{why}", experiment
        )


def _diverged(rows: Sequence[LedgerRow]) -> Iterator[Anomaly]:
    for row in rows:
        if row.exit == DIVERGED:
            yield _anomaly("diverging", f"{row.experiment}: {row.comment}", row.experiment)


def _survivors(rows: Sequence[LedgerRow]) -> Iterator[Anomaly]:
    for row in rows:
        said = _SURVIVORS.search(row.comment)
        if said:
            text = f"{row.experiment}, row {row.row}: {said[1]} processes outlived their job"
            yield _anomaly("survivors", text, row.experiment)


def _jumps(experiments: Sequence[Experiment], masters: Sequence[Master]) -> Iterator[Anomaly]:
    noise = {master.commit: master.noise_sd for master in masters}
    last = masters[-1].noise_sd if masters else 0.0
    for experiment in experiments:
        sd = noise.get(experiment.parent, last)
        gain = finite(experiment.screen_gain)
        if gain is None or sd <= 0 or gain <= JUMP * sd or experiment.verdict is Verdict.PROMOTED:
            continue
        text = (
            f"{experiment.id} gained {gain:.4g} ({gain / sd:.0f} sd) in screening and is "
            f"{experiment.verdict.value.replace('_', ' ')}"
        )
        yield _anomaly("implausible-jump", text, experiment.id)


def _only_on_validation(
    experiment: Experiment, rows: Sequence[LedgerRow], sign: float
) -> Anomaly | None:
    """A gain that the sealed split does not share: below a quarter of it, by four errors."""
    both = [(p.gain, p.holdout) for p in paired(experiment, rows, sign) if p.holdout is not None]
    if len(both) < 3:
        return None
    seen, sealed = fmean(g for g, _ in both), fmean(h for _, h in both)
    gaps = [g - h for g, h in both]
    if seen <= 0 or sealed >= seen / 4 or fmean(gaps) <= 4 * stdev(gaps) / len(gaps) ** 0.5:
        return None
    text = f"{experiment.id} gains {seen:.4g} on validation and {sealed:.4g} on the sealed holdout"
    return _anomaly("only-on-validation", text, experiment.id)


def _drift(rows: Sequence[LedgerRow], masters: Sequence[Master]) -> Iterator[Anomaly]:
    """Did the machine change under a master? Its later runs against those it was promoted with."""
    for master in masters:
        again = [
            row.metric
            for row in rows
            if row.candidate == master.commit
            and row.verdict is Verdict.BASELINE
            and row.phase in (Phase.CONFIRM, Phase.CANARY)
            and finite(row.metric) is not None
            and row.metric is not None
        ]
        before = list(master.reference.values())
        if not again or not before or master.noise_sd <= 0:
            continue
        error = master.noise_sd * (1 / len(again) + 1 / len(before)) ** 0.5
        away = abs(fmean(again) - fmean(before)) / error
        if away > DRIFT:
            text = (
                f"master {master.commit[:12]} measures {fmean(again):.5g} now and "
                f"{fmean(before):.5g} when it was promoted: {away:.1f} standard errors apart"
            )
            yield _anomaly("noise-drift", text, master.experiment)


def _offsets(rows: Sequence[LedgerRow]) -> Iterator[Anomaly]:
    for found in offsets(rows):
        way = "higher" if found.offset > 0 else "lower"
        text = (
            f"on {found.place} the same programs measure {abs(found.offset):.4g} {way} than "
            f"elsewhere: {found.errors:.1f} standard errors"
        )
        yield _anomaly("off-host-drift", text)


def _changes(rows: Sequence[LedgerRow]) -> Iterator[Anomaly]:
    for row, before, kind in changes(rows):
        text = f"from row {row} on, runs are on {kind}, too; before, they were on {before}"
        yield _anomaly("hardware-change", text)
