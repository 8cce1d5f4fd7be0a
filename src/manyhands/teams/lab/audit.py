"""The audit of somebody's history: which of its promotions are more than noise.

Invariant: no promotion is called supported whose gain luck alone, among the tries that it was
picked from, would reach more often than ``alpha``. (Reading the file is `history`'s part.)

How. Re-runs of one program show how much one run varies (``noise_sd``). A promotion is *supported*
if its gain exceeds what that noise gives to the best of the k tries that it was picked from (t
quantile at the Šidák level 1 - (1 - alpha)^(1/k), for a difference of two runs). Otherwise it is
*min_of_k* if the value is the best of several re-runs of one program, or if the gain would have
been enough for a single try but not for the best of k; otherwise it is *within_noise*. The
corrected estimate takes the winner's curse off: the mean of the re-runs where there are any, else
the value shifted by the expected minimum of k normal draws (David and Nagaraja, "Order
Statistics", 2003). A try counts towards k if noise could have put it first: if it lies within four
standard deviations of a difference from the promoted value.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any, Literal

import numpy as np

from manyhands.errors import ConfigError
from manyhands.teams.lab.gate import Floats
from manyhands.teams.lab.history import (
    Direction,
    History,
    Kind,
    PastRun,
    Programs,
    promoted,
    read_history,
)
from manyhands.teams.lab.records import Record

PromotionVerdict = Literal["supported", "within_noise", "min_of_k", "unknown"]

#: A try this many standard deviations of a difference behind the winner was no rival by noise.
_RIVAL = 4.0
#: Deviations beyond this many robust standard deviations (a diverged run) count as that.
_OUTLIER = 6.0


class Promotion(Record):
    """One promotion. ``gain`` is over the parent's reported value, positive when better.

    ``corrected``: the metric without the winner's curse; ``corrected_gain`` over the parent's own
    best estimate. ``k``: tries that it was picked from; ``replicates``: runs of its own program.
    None: not known.
    """

    hash: str
    reported: float | None
    gain: float | None
    verdict: PromotionVerdict
    corrected: float | None
    corrected_gain: float | None
    k: int
    replicates: int
    parent: str
    title: str
    line: int
    reason: str


class AuditReport(Record):
    """``noise_sd``: of one run, in units of the metric; None: no re-runs and none given.

    ``noise_runs`` re-runs of ``noise_programs`` programs it comes from. ``problems`` name lines
    (items, in a JSON list) that are not as expected.
    """

    noise_sd: float | None
    promotions: tuple[Promotion, ...]
    noise_source: Literal["replicates", "given", "none"]
    noise_runs: int
    noise_programs: int
    hosts: str
    kind: Kind
    metric: str
    direction: Direction
    alpha: float
    runs: int
    without_metric: int
    supported: int
    within_noise: int
    min_of_k: int
    unknown: int
    problems: tuple[str, ...]


def audit(
    path: Path | str,
    noise: float | None = None,
    *,
    direction: Direction = "lower",
    alpha: float = 0.05,
) -> AuditReport:
    """Reads ``path`` and judges its promotions.

    ``path``: a ``results.tsv`` of karpathy/autoresearch, of burtenshaw/multiautoresearch or of
    this lab, where a promotion is a row kept or promoted; or a JSON list of ``{hash, parent_hash,
    val_bpb, message, created_at}``, where it is a row that is the parent of another or carries
    ``is_master``. ``noise``: standard deviation of one run, instead of an estimate from re-runs.
    Raises `ConfigError` for a file that is neither, and for settings that make no sense.

    Re-runs of one program are rows with one content hash; rows with one parent whose messages are
    equal, or equal but for a mark such as "rep 7", "(resubmit)" or "seed 3"; and rows that say
    they changed nothing, which are re-runs of their parent.
    """
    if noise is not None and not (math.isfinite(noise) and noise >= 0):
        raise ConfigError(f"noise is {noise}; it is a standard deviation", next="give 0 or more")
    if direction not in ("lower", "higher"):
        raise ConfigError(f"direction is {direction!r}", next="give lower or higher")
    history = read_history(Path(path), direction)
    programs = Programs.of(history)
    found = _noise(programs) if noise is None else _Noise(noise, math.inf, 0, 0)
    judge = _Judge(history, programs, found, direction, alpha, _children(history.parents))
    promotions = tuple(judge.promotion(at) for at in promoted(history, direction))
    verdicts = Counter(promotion.verdict for promotion in promotions)
    return AuditReport(
        noise_sd=found.sd if found else None,
        promotions=promotions,
        noise_source="none" if found is None else "replicates" if noise is None else "given",
        noise_runs=found.runs if found else 0,
        noise_programs=found.programs if found else 0,
        hosts=_populations(programs),
        kind=history.kind,
        metric=history.metric,
        direction=direction,
        alpha=alpha,
        runs=len(history.runs),
        without_metric=sum(run.value is None for run in history.runs),
        supported=verdicts["supported"],
        within_noise=verdicts["within_noise"],
        min_of_k=verdicts["min_of_k"],
        unknown=verdicts["unknown"],
        problems=tuple(history.problems),
    )


def render(report: AuditReport) -> str:
    """The report for a terminal, 100 columns."""
    lines = [
        f"{report.runs} runs ({report.without_metric} without a metric), "
        f"{len(report.promotions)} promotions; {report.metric}, {report.direction} is better",
        _noise_line(report),
        *textwrap.wrap(report.hosts, 100),
        "",
        f"{'promotion':<11}{'reported':>11}{'gain':>11}{'corrected':>11}  {'verdict':<14}why",
    ]
    lines += [_promotion_line(promotion) for promotion in report.promotions]
    lines += [
        "",
        f"{report.supported} supported, {report.within_noise} within noise, {report.min_of_k} "
        f"min of k (the best of several tries), {report.unknown} unknown",
        f"A promotion without any gain is called supported at most {report.alpha:.0%} of the time.",
        *(f"problem: {problem}" for problem in report.problems[:20]),
    ]
    if len(report.problems) > 20:
        lines.append(f"… and {len(report.problems) - 20} more problems")
    return "\n".join(lines) + "\n"


def _noise_line(report: AuditReport) -> str:
    if report.noise_sd is None:
        return (
            "noise: not known. No program was run twice, so no gain can be told from luck: "
            "give --noise, or run one program a few times"
        )
    if report.noise_source == "given":
        return f"noise: one run has standard deviation {report.noise_sd:.3g} (given)"
    return (
        f"noise: one run has standard deviation {report.noise_sd:.3g}, "
        f"from {report.noise_runs} runs of {report.noise_programs} "
        f"{'program' if report.noise_programs == 1 else 'programs'} run more than once"
    )


def _promotion_line(promotion: Promotion) -> str:
    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return (
        f"{promotion.hash[:9]:<11}{shown(promotion.reported, '.6g'):>11}"
        f"{shown(promotion.gain, '+.3g'):>11}{shown(promotion.corrected, '.6g'):>11}  "
        f"{promotion.verdict.replace('_', ' '):<14}{promotion.reason}"
    ).rstrip()


@dataclass(frozen=True)
class _Noise:
    """``freedom``: degrees of freedom of the estimate (infinite: known)."""

    sd: float
    freedom: float
    runs: int
    programs: int


def _noise(programs: Programs) -> _Noise | None:
    """Pooled over programs with several runs, each about its own mean; outliers are clipped."""
    groups = [values for values in programs.values.values() if len(values) > 1]
    if not groups:
        return None
    freedom = sum(len(values) - 1 for values in groups)
    middles = [float(np.median(values)) for values in groups]
    apart = [
        np.abs(values - middle) * math.sqrt(len(values) / (len(values) - 1))
        for values, middle in zip(groups, middles, strict=True)
    ]
    reach = _OUTLIER * 1.4826 * float(np.median(np.concatenate(apart))) or math.inf
    squares = 0.0
    for values, middle in zip(groups, middles, strict=True):
        clipped = np.clip(values, middle - reach, middle + reach)
        squares += float(((clipped - clipped.mean()) ** 2).sum())
    return _Noise(
        math.sqrt(squares / freedom), freedom, sum(len(values) for values in groups), len(groups)
    )


def _populations(programs: Programs) -> str:
    """A sentence if the program that was run most often falls into two kinds of results.

    The best split into two has means at least 4 within-group standard deviations apart (an even
    spread has 3.5, a Gaussian 2.6) and a tenth of the runs on either side.
    """
    values = np.sort(max(programs.values.values(), key=len, default=np.zeros(0)))
    n = len(values)
    if n < 20:
        return ""
    sums, squares = np.cumsum(values - values[0]), np.cumsum((values - values[0]) ** 2)
    left = np.arange(1, n)
    low, high = sums[:-1] / left, (sums[-1] - sums[:-1]) / (n - left)
    within = squares[:-1] - left * low**2 + (squares[-1] - squares[:-1]) - (n - left) * high**2
    cut = int(np.argmin(within)) + 1
    below, above = values[:cut], values[cut:]
    spread = math.sqrt((float(below.var()) + float(above.var())) / 2)
    gap = float(above.mean() - below.mean())
    if min(cut, n - cut) < n / 10 or gap < 4 * spread:
        return ""
    return (
        f"hosts: {n} runs of one program fall into two kinds: {below.mean():.6g} "
        f"(sd {below.std():.2g}, {cut / n:.0%}) and {above.mean():.6g} (sd {above.std():.2g}); "
        "compare runs on one kind of host only"
    )


@dataclass(frozen=True)
class _Judge:
    history: History
    programs: Programs
    noise: _Noise | None
    direction: Direction
    alpha: float
    children: Mapping[int, list[int]]

    @property
    def sign(self) -> float:
        return 1.0 if self.direction == "lower" else -1.0

    def promotion(self, at: int) -> Promotion:
        run, up = self.history.runs[at], self.history.parents[at]
        above = self.history.runs[up] if up >= 0 else None
        if run.value is None:
            return self._unknown(at, "its run gave no metric")
        if above is None or above.value is None:
            why = "its parent is not in the file" if run.parent else "nothing to compare it with"
            return self._unknown(at, why)
        confirmed = self._confirmations(run)
        if confirmed:
            return self._paired(at, confirmed)
        if self.noise is None:
            gain = self.sign * (above.value - run.value)
            return self._unknown(at, "the noise is not known", gain=gain)
        return self._judged(at, above.value, run.value, self.noise)

    def _judged(self, at: int, above: float, value: float, noise: _Noise) -> Promotion:
        own, base = self.programs.runs_of(at), self.programs.runs_of(self.history.parents[at])
        parent = float(base.mean()) if len(base) > 1 else above
        rivals = self._rivals(at, value, noise)
        repeated = len(own) > 1
        if repeated:  # the mean of all runs was not picked; the program still was
            k = len({self.programs.of_run[i] for i in rivals})
            estimate = corrected = float(own.mean())
        else:
            k = len(rivals)
            estimate, corrected = value, value + self.sign * expected_minimum(k) * noise.sd
        error = noise.sd * math.sqrt(1 / max(len(own), 1) + 1 / max(len(base), 1))
        verdict, reason = self._verdict(self.sign * (parent - estimate), error, noise.freedom, k)
        best = self._is_best(value, own) or self._is_best(value, self.programs.runs_until(at))
        if verdict != "supported" and best:
            k = max(k, len(own))
            verdict, reason = "min_of_k", f"the best of {len(own)} runs of one program"
        return self._record(
            at,
            gain=self.sign * (above - value),
            verdict=verdict,
            corrected=corrected,
            corrected_gain=self.sign * (parent - corrected),
            k=k,
            reason=reason,
        )

    def _verdict(
        self, gain: float, error: float, freedom: float, k: int
    ) -> tuple[PromotionVerdict, str]:
        level = -math.expm1(math.log1p(-self.alpha) / k)  # Šidák
        tries = "try" if k == 1 else "tries"
        bar, single = (t_quantile(tail, freedom) * error for tail in (level, self.alpha))
        if gain > bar:
            return "supported", f"{gain:.2g}; luck reaches {bar:.2g} in {k} {tries}"
        if gain > single:
            return "min_of_k", f"{gain:.2g}; luck reaches {bar:.2g} in {k} {tries}"
        if gain <= 0:
            return "within_noise", "no better than its parent's runs"
        return "within_noise", f"{gain:.2g}; luck reaches {single:.2g} in 1 try"

    def _rivals(self, at: int, value: float, noise: _Noise) -> list[int]:
        """The tries on the same parent up to this one that noise could have put first."""
        reach = _RIVAL * math.sqrt(2) * noise.sd
        up = self.history.parents[at]
        rivals = [
            i
            for i in self.children[up]
            if i <= at
            and (other := self.history.runs[i].value) is not None
            and self.sign * (other - value) <= reach
        ]
        return rivals or [at]

    def _is_best(self, value: float, values: Floats) -> bool:
        return len(values) > 1 and self.sign * value <= float((self.sign * values).min())

    def _confirmations(self, run: PastRun) -> list[PastRun]:
        """This lab's own ledger: the confirmation runs of one promotion, paired with the master."""
        return [
            other
            for other in self.history.runs
            if other.hash == run.hash and other.kept
            if other.phase == "confirm" and other.delta is not None
        ]

    def _paired(self, at: int, confirmed: Sequence[PastRun]) -> Promotion:
        """Fresh runs, so nothing was picked: a t-test on the paired differences."""
        gains = [-self.sign * run.delta for run in confirmed if run.delta is not None]
        values = [run.value for run in confirmed if run.value is not None]
        n = len(gains)
        spread = stdev(gains) if n > 1 else (self.noise.sd * math.sqrt(2) if self.noise else 0.0)
        gain = fmean(gains)
        if n < 2 and self.noise is None:
            return self._unknown(at, "one pair, and the noise is not known", gain=gain)
        verdict, reason = self._verdict(gain, spread / math.sqrt(n), max(n - 1, 1), 1)
        return self._record(
            at,
            gain=gain,
            verdict=verdict,
            corrected=fmean(values),
            corrected_gain=gain,
            k=1,
            reason=f"{reason}, {n} pairs",
            reported=fmean(values),
        )

    def _unknown(self, at: int, reason: str, gain: float | None = None) -> Promotion:
        own = self.programs.runs_of(at)
        value = self.history.runs[at].value
        corrected = float(own.mean()) if len(own) > 1 else value
        return self._record(
            at,
            gain=gain,
            verdict="unknown",
            corrected=corrected,
            corrected_gain=None,
            k=1,
            reason=reason,
        )

    def _record(self, at: int, *, reported: float | None = None, **found: Any) -> Promotion:
        run = self.history.runs[at]
        return Promotion(
            hash=run.hash.rpartition("@")[0] if self.history.kind == "karpathy" else run.hash,
            reported=run.value if reported is None else reported,
            replicates=len(self.programs.runs_of(at)),
            parent=run.parent.rpartition("@")[0] if self.history.kind == "karpathy" else run.parent,
            title=run.title,
            line=run.line,
            **found,
        )


def _children(parents: Sequence[int]) -> Mapping[int, list[int]]:
    children: dict[int, list[int]] = defaultdict(list)
    for at, up in enumerate(parents):
        children[up].append(at)
    return children


@lru_cache(maxsize=4096)
def expected_minimum(k: int) -> float:
    """How far below the mean the least of ``k`` standard normal draws lies on average (≥ 0)."""
    if k < 2:
        return 0.0
    x = np.linspace(-8.0, 8.0, 3201)
    below = np.array([NormalDist().cdf(value) for value in x.tolist()])
    density = k * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * below ** (k - 1)
    return float((x * density).sum() * (x[1] - x[0]))


@lru_cache(maxsize=4096)
def t_quantile(tail: float, freedom: float) -> float:
    """The value that Student's t exceeds with probability ``tail`` (< 0.5)."""
    if freedom > 1000:
        return NormalDist().inv_cdf(1 - tail)
    low, high = 0.0, 1.0
    while _t_tail(high, int(freedom)) > tail and high < 1e12:
        low, high = high, high * 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_tail(middle, int(freedom)) > tail else (low, middle)
    return high


def _t_tail(t: float, freedom: int) -> float:
    """P(T > t) for t ≥ 0: the finite series of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan2(t, math.sqrt(freedom))
    cos2 = math.cos(angle) ** 2
    odd = freedom % 2
    term = total = 1.0
    for i in range(2 + odd, freedom - 1, 2):
        term *= cos2 * (i - 1) / i
        total += term
    if not odd:
        return (1 - math.sin(angle) * total) / 2
    series = math.sin(angle) * math.cos(angle) * total if freedom > 1 else 0.0
    return 0.5 - (angle + series) / math.pi
