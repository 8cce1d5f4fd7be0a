"""The reporter by templates: what a study has found, what it cost, and what looks wrong.

Invariant: a gain is reported from confirmation runs only; the best single run is named as what it
is, a best of k. Time comes in as an argument. Text of agents is shown as one inert line.

A *gain* is positive when better, whichever way the metric points; a *delta* is metric minus metric.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from manyhands.teams.lab.anomalies import ActiveJob, Direction, PairGain, paired, sign_of
from manyhands.teams.lab.ledger import NOT_RUN, duration, finite, plain, shown_number, text_table
from manyhands.teams.lab.memory import code, markdown
from manyhands.teams.lab.outlook import Campaign, end_markdown
from manyhands.teams.lab.pruning import PRUNED
from manyhands.teams.lab.records import (
    Ablation,
    Anomaly,
    Experiment,
    LedgerRow,
    Master,
    Phase,
    Record,
    Verdict,
)

#: A mark for each verdict, so that none is told by its colour alone.
MARKS: Mapping[Verdict, str] = {
    Verdict.BASELINE: "○",
    Verdict.PROMOTED: "▲",
    Verdict.NOT_BETTER: "▽",
    Verdict.INCONCLUSIVE: "?",
    Verdict.CRASHED: "✗",
    Verdict.TIMED_OUT: "◷",
    Verdict.REJECTED: "⊘",
    Verdict.STALE: "↺",
    Verdict.KEPT: "●",
    Verdict.DROPPED: "✂",
    Verdict.MEASURED: "·",
}


class Holdout(Record):
    """The same pairs on the sealed split: mean gain, its standard error, and how many pairs."""

    gain: float
    error: float | None
    pairs: int

    @property
    def confirmed(self) -> bool:
        """Better on data that nothing was selected on, by more than 1.645 standard errors."""
        return self.gain > 1.645 * (self.error or 0.0)


class PromotionLine(Record):
    experiment: str
    title: str
    gain: float
    low: float | None
    high: float | None
    pairs: int
    holdout: Holdout | None
    fate: str = ""


class Summary(Record):
    """All in the metric's unit, seconds and US dollars. None: not known (yet).

    ``best_metric``: the mean of the present master's confirmation runs. ``best_run``: the best
    single run, a best of ``completed_jobs`` and so too good by chance. ``confirmed_gain``: the sum
    of the gains of those promotions that were not dropped at the end. ``best_delta_vs_master``: the
    largest gain that any confirmation measured against the master of its time. ``pruned_jobs``
    were ended early by the study itself; they are no failures.
    """

    study: str
    metric: str
    direction: Direction
    elapsed: float
    active_jobs: int
    active_experiment_jobs: int
    active_non_experiment_jobs: int
    completed_jobs: int
    failed_jobs: int
    pruned_jobs: int
    anomaly_count: int
    baseline_metric: float | None
    best_metric: float | None
    best_run: float | None
    best_delta_vs_master: float | None
    confirmed_gain: float
    noise_sd: float
    master: str
    experiments: int
    verdicts: dict[str, int]
    promotions: tuple[PromotionLine, ...]
    runs: int
    run_seconds: float
    cpu_seconds: float
    cost_usd: float
    runs_per_hour: float | None
    fillers: dict[str, tuple[str, ...]]


def summarize(
    *,
    study: str,
    metric: str,
    direction: Direction,
    rows: Sequence[LedgerRow],
    experiments: Sequence[Experiment],
    masters: Sequence[Master],
    active: Sequence[ActiveJob] = (),
    found: Sequence[Anomaly] = (),
    started_at: float = 0.0,
    now: float = 0.0,
    ablation: Ablation | None = None,
) -> Summary:
    """The study in numbers. ``masters``: every master so far, the present one last.

    ``found``: the anomalies. ``started_at``, ``now``: unix seconds; equal where not known.
    """
    sign = sign_of(direction)
    ran = [row for row in rows if row.exit != NOT_RUN]
    pruned = sum(row.exit == PRUNED for row in ran)
    ok = [value for row in ran if (value := finite(row.metric)) is not None]
    decided = [e.decision.gain for e in experiments if e.decision and e.decision.looks]
    fates = {e.experiment: e.fate for e in ablation.lines} if ablation is not None else {}
    promoted = [
        line.model_copy(update={"fate": fates.get(e.id, "")})
        for e in experiments
        if (line := _promotion(e, rows, sign))
    ]
    elapsed = max(now - started_at, 0.0)
    training = sum(job.kind == "experiment" for job in active)
    return Summary(
        study=study,
        metric=metric,
        direction=direction,
        elapsed=elapsed,
        active_jobs=len(active),
        active_experiment_jobs=training,
        active_non_experiment_jobs=len(active) - training,
        completed_jobs=len(ok),
        failed_jobs=len(ran) - len(ok) - pruned,
        pruned_jobs=pruned,
        anomaly_count=len(found),
        baseline_metric=_mean(r.metric for r in rows if r.phase is Phase.BASELINE),
        best_metric=_mean(masters[-1].reference.values()) if masters else None,
        best_run=max(ok, key=lambda value: sign * value) if ok else None,
        best_delta_vs_master=max(decided, default=None),
        confirmed_gain=sum(line.gain for line in promoted if line.fate != "dropped"),
        noise_sd=masters[-1].noise_sd if masters else 0.0,
        master=masters[-1].commit if masters else "",
        experiments=len(experiments),
        verdicts=dict(Counter(e.verdict.value for e in experiments)),
        promotions=tuple(promoted),
        runs=len(ran),
        run_seconds=sum(row.duration for row in ran),
        cpu_seconds=sum(row.cpu_seconds for row in ran),
        cost_usd=sum(row.cost_usd for row in rows),
        runs_per_hour=len(ran) / elapsed * 3600 if elapsed > 0 else None,
        fillers=_fillers(rows),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for value in values if (v := finite(value)) is not None]
    return fmean(known) if known else None


def _fillers(rows: Sequence[LedgerRow]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        for role, who in row.fillers.items():
            found[role][who] = None
    return {role: tuple(found[role]) for role in sorted(found)}


def _promotion(
    experiment: Experiment, rows: Sequence[LedgerRow], sign: float
) -> PromotionLine | None:
    decision = experiment.decision
    if experiment.verdict is not Verdict.PROMOTED or decision is None:
        return None
    return PromotionLine(
        experiment=experiment.id,
        title=experiment.hypothesis.title,
        gain=decision.gain,
        low=decision.low,
        high=decision.high,
        pairs=decision.pairs,
        holdout=holdout_of(paired(experiment, rows, sign)) or _told(experiment),
    )


def _told(experiment: Experiment) -> Holdout | None:
    """What the experiment itself says of the sealed split, where its rows are not at hand."""
    if experiment.holdout_gain is None or experiment.decision is None:
        return None
    return Holdout(gain=experiment.holdout_gain, error=None, pairs=experiment.decision.pairs)


def holdout_of(pairs: Sequence[PairGain]) -> Holdout | None:
    """The gain on the sealed split; None where it was not measured."""
    gains = [pair.holdout for pair in pairs if pair.holdout is not None]
    if not gains:
        return None
    error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
    return Holdout(gain=fmean(gains), error=error, pairs=len(gains))


# ---------------------------------------------------------------- as text

#: The heading of the section that depends on how fast the machine was.
COST = "## Cost"


def timeless(text: str) -> str:
    """A rendered summary without what a second run of the same study would measure anew."""
    return re.sub(rf"\n{COST}\n.*?(?=\n## |\Z)", "", text, flags=re.DOTALL)


def render_summary(
    summary: Summary,
    experiments: Sequence[Experiment],
    found: Sequence[Anomaly],
    campaign: Campaign | None = None,
    *,
    last: int = 20,
) -> str:
    """Markdown for a file or a terminal: the result first, then what it rests on.

    ``campaign``: for the sections about its end (None: without them).
    """
    lines = [f"# {markdown(summary.study)}", "", *_result(summary), "", "## Promotions", ""]
    lines += [_promotion_text(line) for line in summary.promotions] or ["- none"]
    lines += end_markdown(campaign) if campaign is not None else []
    lines += ["", "## Anomalies", ""]
    lines += [f"- {code(a.kind)} {markdown(a.text)}" for a in found] or ["- none"]
    lines += ["", "## Experiments", ""]
    lines += [_experiment_line(e) for e in experiments[-last:]] or ["- none"]
    if len(experiments) > last:
        lines.append(f"- … and {len(experiments) - last} earlier")
    lines += ["", COST, "", *_cost(summary), "", "## Who filled the roles", ""]
    lines += [f"- {code(r)}: {markdown(', '.join(w))}" for r, w in summary.fillers.items()]
    return "\n".join(lines) + "\n"


def _result(summary: Summary) -> list[str]:
    name = code(summary.metric)
    way = f"{summary.direction} is better"
    lines = [
        f"- {name} ({way}): {shown_number(summary.baseline_metric)} at the start, "
        f"{shown_number(summary.best_metric)} now "
        f"(confirmed gain {shown_number(summary.confirmed_gain, '+.4g')}, "
        f"noise sd {shown_number(summary.noise_sd, '.3g')})",
    ]
    counts = ", ".join(f"{n} {v.replace('_', ' ')}" for v, n in sorted(summary.verdicts.items()))
    lines.append(f"- {summary.experiments} experiments: {counts or 'none yet'}")
    if summary.best_run is not None:
        lines.append(
            f"- best single run {shown_number(summary.best_run)}: the best of "
            f"{summary.completed_jobs}, so too good by chance"
        )
    if summary.active_jobs:
        lines.append(f"- {summary.active_jobs} jobs run now")
    return lines


def _promotion_text(line: PromotionLine) -> str:
    low, high = finite(line.low), finite(line.high)
    interval = "" if low is None or high is None else f" [{low:+.4g}, {high:+.4g}]"
    sealed = ""
    if line.holdout is not None:
        word = "confirmed" if line.holdout.confirmed else "not confirmed"
        sealed = f"; sealed holdout {line.holdout.gain:+.4g}, {word}"
    return (
        f"- {code(line.experiment)} {markdown(line.title)}: gain {line.gain:+.4g}{interval} "
        f"over {line.pairs} pairs{sealed}{'; **dropped at the end**' * (line.fate == 'dropped')}"
    )


def _experiment_line(experiment: Experiment) -> str:
    rule = f" ({markdown(experiment.rule)})" if experiment.rule else ""
    verdict = experiment.verdict
    return (
        f"- {MARKS[verdict]} {code(experiment.id)} {markdown(experiment.hypothesis.title)}: "
        f"{verdict.value.replace('_', ' ')}{rule}{_gain_text(experiment)}{_paper(experiment)}"
    )


def _paper(experiment: Experiment) -> str:
    citation = experiment.hypothesis.citation
    if citation is None:
        return ""
    named = f" ({markdown(citation.title)})" if citation.title else ""
    return f", from {code(citation.passage)}{named}: “{markdown(plain(citation.quote, 300))}”"


def _gain_text(experiment: Experiment) -> str:
    decision = experiment.decision
    if decision is not None and decision.looks:
        return f", gain {decision.gain:+.4g} over {decision.pairs} pairs"
    screened = finite(experiment.screen_gain)
    return "" if screened is None else f", {screened:+.4g} in screening"


def ended(summary: Summary) -> str:
    """``1 failed``, and how many were ended early, if any."""
    early = f", {summary.pruned_jobs} ended early" if summary.pruned_jobs else ""
    return f"{summary.failed_jobs} failed{early}"


def _cost(summary: Summary) -> list[str]:
    pace = summary.runs_per_hour
    lines = [
        f"- {summary.runs} runs ({ended(summary)}) in {duration(summary.elapsed)}"
        + (f", {pace:.0f} runs per hour" if pace is not None else ""),
        f"- {duration(summary.run_seconds)} of running, {duration(summary.cpu_seconds)} of CPU",
    ]
    if summary.cost_usd:
        lines.append(f"- {summary.cost_usd:.4f} US dollars")
    return lines


def experiments_table(experiments: Sequence[Experiment], *, width: int = 100) -> str:
    """The experiments for a terminal, without escape sequences."""
    body = [
        (
            e.id,
            f"{MARKS[e.verdict]} {e.verdict.value.replace('_', ' ')}",
            shown_number(e.screen_gain, "+.3g"),
            shown_number(e.decision.gain if e.decision and e.decision.looks else None, "+.3g"),
            str(e.decision.pairs) if e.decision else "–",
            e.rule or "–",
            e.hypothesis.title,
        )
        for e in experiments
    ]
    header = ("id", "verdict", "screened", "confirmed", "pairs", "rule", "change")
    return text_table(header, body, right=(2, 3, 4), width=width)
