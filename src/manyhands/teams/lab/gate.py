"""The promotion gate: a sequential, paired, exact test of "the candidate beats the master".

Invariant: a candidate that is the master is promoted with probability at most ``alpha`` per
decision, whatever the noise is (Gaussian, heavy-tailed, two kinds of hosts) and whenever the test
stops. Everything here is a pure function of the gains in their order: no clock, no chance, no I/O.

How. Candidate and master train on the same fresh seed; a *gain* is how much better the candidate
did, positive when better. If the candidate is the master, the two are exchangeable within a pair,
so each gain is as likely to carry the other sign. The observed sum is therefore compared with the
sums under sign flips (Fisher's randomisation test, "The Design of Experiments", 1935), and at each
look at most a declared share of all flips may be rejected that were not rejected before (error
spending: Lan and DeMets, Biometrika 70, 1983; here counted over flips instead of a normal limit).
With more than 12 pairs the flips are a subgroup of all flips, a linear code: a test over a subgroup
is as exact (Hemerik and Goeman, TEST 27, 2018). ``docs/explanation/promotion.md`` has the measured
rates, ``docs/decisions/0004-promotion-test.md`` what was rejected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from manyhands.errors import ConfigError
from manyhands.teams.lab.records import GateDecision

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

#: A pair whose candidate run crashed. It ends the decision; it is never dropped.
CRASHED = -math.inf

#: How much of alpha is spent, as a factor. alpha is a ceiling that people check by simulation: with
#: all of it spent, one in six simulations of 1,000 candidates would show more than alpha by chance.
SPENT = 0.75
#: Error spent by look n after the first: proportional to (share of the remaining pairs) ** this.
_SPENDING_POWER = 1.5
#: Gains beyond this many times the median |gain| count as that: one diverged run decides nothing.
_CLIP = 3.0
#: Stop as futile when the self-normalised sum is below this, at these pairs of a plan of 28; other
#: plans are stretched to fit. Found by simulation: the fewest pairs for a candidate without a gain
#: that still leave a power of 0.86 for a gain of one standard deviation.
_FUTILE_AT = (3, 4, 6, 14, 28)
_FUTILE_BELOW = (-1.2, -0.6, 0.0, 0.7, 1.8)
#: 2 ** 12 flips: all of them up to 12 pairs.
_FLIP_BITS = 12
_BATCH = 256
#: `screen` loses a candidate with a true gain of one standard deviation this often (Gaussian).
_SCREEN_Z = 1.8808  # the normal quantile of 0.97


@dataclass(frozen=True)
class GateSettings:
    """``alpha``: ceiling of the error per decision. ``max_pairs``: cap, in pairs of runs.

    ``min_gain``: a gain counts only beyond this, in units of the metric. ``step``: pairs between
    looks from the first possible promotion on; raise it to the pairs that run at once on a wide
    machine. Raises `ConfigError` when the cap is too low for any promotion at this alpha.
    """

    alpha: float = 0.05
    max_pairs: int = 28
    min_gain: float = 0.0
    step: int = 2

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 0.5:
            raise ConfigError(
                f"promotion alpha is {self.alpha}; it must lie between 0 and 0.5",
                next="set alpha under [promotion], for example 0.05",
            )
        if self.step < 1 or not math.isfinite(self.min_gain):
            raise ConfigError(
                f"promotion step is {self.step} and min_gain {self.min_gain}; "
                "step must be at least 1 and min_gain finite",
                next="leave both out for the defaults, 2 and 0.0",
            )
        least = math.ceil(-math.log2(SPENT * self.alpha))
        if not least <= self.max_pairs <= 1024:
            raise ConfigError(
                f"promotion max_pairs is {self.max_pairs}; "
                f"at alpha {self.alpha} it must be {least} to 1024",
                next=f"set max_pairs under [promotion] to {least} or more; the default is 28",
            )

    @property
    def first(self) -> int:
        """Pairs before a promotion is possible: the best of 2**n outcomes costs half of alpha."""
        affordable = math.ceil(-math.log2(SPENT * self.alpha / 2))
        return min(affordable, self.max_pairs)

    @property
    def looks(self) -> tuple[int, ...]:
        """Pair counts at which the gate looks; those before `first` can only stop as futile."""
        soonest = math.ceil(self.max_pairs * _FUTILE_AT[0] / _FUTILE_AT[-1])
        early = range(max(_FUTILE_AT[0], soonest), self.first)
        return (*early, *range(self.first, self.max_pairs, self.step), self.max_pairs)


def gate_at(alpha: float, max_pairs: int) -> GateSettings:
    """Settings with a cap that is no lower than this ``alpha`` needs."""
    return GateSettings(alpha=alpha, max_pairs=max(max_pairs, math.ceil(-math.log2(SPENT * alpha))))


@dataclass(frozen=True)
class Trials:
    """The ends of many decisions, one entry each. ``outcome``: see the constants below."""

    outcome: Ints
    pairs: Ints
    looks: Ints
    p_value: Floats


UNDECIDED, PROMOTED, FUTILE, CAPPED = 0, 1, 2, 3


def next_pairs(settings: GateSettings, gains: Sequence[float]) -> int:
    """How many more pairs to run before the next look; 0 when the decision is made."""
    whole, crashed = _until_crash(settings, gains)
    if crashed or _one(settings, tuple(whole.tolist())).outcome[0] != UNDECIDED:
        return 0
    return next(look for look in settings.looks if look > len(whole)) - len(whole)


def decide(settings: GateSettings, gains: Sequence[float]) -> GateDecision | None:
    """The decision that these gains, in this order, come to; None: go on with `next_pairs`.

    ``gains``: one per pair in units of the metric, positive when the candidate is better;
    `CRASHED` where the candidate's run gave no metric. A pair whose *master* run failed is no
    pair: measure it again (NaN raises ValueError). Gains after the deciding look are ignored, so
    pairs may run ahead. In the decision ``gain`` is the mean of all pairs, ``low`` and ``high``
    are `interval`.
    """
    whole, crashed = _until_crash(settings, gains)
    trials = _one(settings, tuple(whole.tolist()))
    if trials.outcome[0] != UNDECIDED:
        return _decision(settings, whole[: trials.pairs[0]], trials)
    return _crash(settings, whole) if crashed else None


@lru_cache(maxsize=256)
def _one(settings: GateSettings, gains: tuple[float, ...]) -> Trials:
    """Kept: whoever asks for a decision asks next how many more pairs it takes."""
    return decide_many(settings, np.asarray(gains, dtype=np.float64)[None, :])


def _until_crash(settings: GateSettings, gains: Sequence[float]) -> tuple[Floats, bool]:
    """The gains before the first crash, and whether there is one within the cap."""
    values = np.asarray(gains, dtype=np.float64)[: settings.max_pairs]
    lost = np.flatnonzero(~np.isfinite(values))
    if not lost.size:
        return values, False
    if values[lost[0]] != CRASHED:
        raise ValueError(
            f"the gain of pair {lost[0] + 1} is {values[lost[0]]}: "
            "measure the master's run of that pair again, or pass CRASHED for the candidate's"
        )
    return values[: lost[0]], True


def decide_many(settings: GateSettings, gains: Floats) -> Trials:
    """`decide` for each row of ``gains`` (decisions × pairs, finite), without the intervals."""
    shifted = gains - settings.min_gain
    parts = [
        _sequential(settings, shifted[i : i + _BATCH], futility=True)
        for i in range(0, len(shifted), _BATCH)
    ]
    return Trials(
        outcome=np.concatenate([p.outcome for p in parts]),
        pairs=np.concatenate([p.pairs for p in parts]),
        looks=np.concatenate([p.looks for p in parts]),
        p_value=np.concatenate([p.p_value for p in parts]),
    )


def screen(gains: Sequence[float], noise_sd: float | None, *, min_gain: float = 0.0) -> bool:
    """Is a candidate worth confirming? False only for what a real gain would hardly have shown.

    ``gains``: of its screening runs over the master's recorded runs, on the same seeds where
    possible. ``noise_sd``: of one run (None: not known, so everything that ran passes). The bar is
    low on purpose: of candidates with a true gain of one ``noise_sd`` about 3 % are lost here, at
    any number of screening runs. What passes is measured afresh; these gains count for nothing.
    """
    if not gains or not all(math.isfinite(gain) for gain in gains):
        return False
    if noise_sd is None:
        return True
    bar = noise_sd * (1.0 - _SCREEN_Z * math.sqrt(2.0 / len(gains)))
    return sum(gains) / len(gains) - min_gain > bar


def holm(decisions: Sequence[GateDecision | None], alpha: float) -> tuple[bool, ...]:
    """Which of several gates show a gain, all wrong answers together at most ``alpha`` (Holm,
    Scandinavian Journal of Statistics 6, 1979: valid however the gates depend on each other).

    ``decisions``: of gates with an alpha of ``alpha`` divided by their number; None where the runs
    ended first. What was stopped as futile shows nothing, so that the p-values that count are those
    of promotions and of the cap, and these are exact.
    """
    shown = [False] * len(decisions)
    p_values = [
        1.0 if d is None or d.verdict == "not_better" or not d.looks else d.p_value
        for d in decisions
    ]
    left = len(decisions)
    for at in sorted(range(len(decisions)), key=lambda i: p_values[i]):
        if p_values[at] > SPENT * alpha / left + 1e-12:
            break
        shown[at], left = True, left - 1
    return tuple(shown)


def estimate_noise(values: Sequence[float]) -> float:
    """Standard deviation of one run from ``values``, replicates of one program (at least two).

    Gini's mean difference × √π/2: unbiased for Gaussian noise at any n, where the usual estimate
    from four runs is 8 % too low, and swayed less by one outlier.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if n < 2 or not np.isfinite(ordered).all():
        raise ValueError(f"noise needs at least two finite runs, got {list(values)}")
    weights = 2.0 * np.arange(n) - (n - 1)
    return float(weights @ ordered / (n * (n - 1) / 2) * math.sqrt(math.pi) / 2)


def _sequential(settings: GateSettings, gains: Floats, *, futility: bool) -> Trials:
    """Walks the looks. ``dead`` marks, per live decision, the flips that earlier looks rejected."""
    count, pairs = len(gains), int(gains.shape[1])
    ends = Trials(
        outcome=np.zeros(count, dtype=np.int64),
        pairs=np.full(count, pairs, dtype=np.int64),
        looks=np.zeros(count, dtype=np.int64),
        p_value=np.ones(count),
    )
    live: Ints = np.arange(count)
    dead: Bools = np.zeros((count, 1), dtype=np.bool_)
    for nth, look in enumerate((n for n in settings.looks if n <= pairs), start=1):
        scores = _scores(gains[live, :look])
        sums = _sums(scores, settings.max_pairs)
        # The flips of further pairs are further bits: what was dead is so whatever they are.
        dead = np.tile(dead, (1, sums.shape[1] // dead.shape[1]))
        rejected, p_value = _look(settings, scores, sums, dead)
        outcome = np.where(rejected[:, 0], PROMOTED, UNDECIDED)
        if look == settings.max_pairs:
            outcome[outcome == UNDECIDED] = CAPPED
        elif futility:
            outcome[(outcome == UNDECIDED) & _futile(settings, scores)] = FUTILE
        done = outcome != UNDECIDED
        ends.outcome[live[done]] = outcome[done]
        ends.pairs[live[done]] = look
        ends.looks[live] = nth
        ends.p_value[live] = p_value
        live, dead = live[~done], (dead | rejected)[~done]
        if not live.size:
            break
    return ends


def _look(
    settings: GateSettings, scores: Floats, sums: Floats, dead: Bools
) -> tuple[Bools, Floats]:
    """Which flips this look rejects, and the p-value of the observed arrangement (flip 0).

    The p-value orders outcomes by the look they ended at, then by their sum (stage-wise ordering):
    it is at most what was spent exactly when the observed arrangement is rejected.
    """
    slack: Floats = 1e-9 * np.abs(scores).sum(axis=1)  # equal sums differ by rounding
    observed = sums[:, 0] - slack
    sums[dead] = -np.inf
    gone: Ints = dead.sum(axis=1)
    p_value: Floats = (gone + (sums >= observed[:, None]).sum(axis=1)) / sums.shape[1]
    allowance = math.floor(_spent(settings, scores.shape[1]) * sums.shape[1] + 1e-9)
    return _largest(sums, allowance - gone, slack), p_value


def _sums(scores: Floats, max_pairs: int) -> Floats:
    """The sum of each row under each flip (decisions × flips); column 0 flips nothing.

    Plain additions: the product with a matrix of flips would run threads that fight over cores.
    """
    free = min(max_pairs, _FLIP_BITS)
    sums = np.zeros((len(scores), 1))
    for pair in range(min(scores.shape[1], free)):
        score = scores[:, pair : pair + 1]
        sums = np.concatenate([sums + score, sums - score], axis=1)
    for pair in range(free, scores.shape[1]):
        sums += scores[:, pair : pair + 1] * _further_flips(max_pairs)[pair - free]
    return sums


def _largest(sums: Floats, allowance: Ints, slack: Floats) -> Bools:
    """True for the ``allowance`` largest of each row; of tied sums all or none are in."""
    most = int(allowance.max())
    if most <= 0:
        return np.zeros(sums.shape, dtype=np.bool_)
    cut = sums.shape[1] - most - 1
    top = np.sort(np.partition(sums, cut, axis=1)[:, cut:], axis=1)[:, ::-1]
    rank = np.arange(1, most + 1)
    with np.errstate(invalid="ignore"):  # -inf - -inf, where almost every flip is dead
        gap = top[:, :-1] - top[:, 1:] > slack[:, None]
    size = np.where(gap & (rank <= allowance[:, None]), rank, 0).max(axis=1)
    bar = np.where(size > 0, top[np.arange(len(top)), np.maximum(size - 1, 0)] - slack, np.inf)
    return sums >= bar[:, None]


def _spent(settings: GateSettings, look: int) -> float:
    """The error that may be spent up to and including ``look``."""
    total, first = SPENT * settings.alpha, settings.first
    if look < first:
        return 0.0
    if look == settings.max_pairs:
        return total
    share = (look - first) / (settings.max_pairs - first)
    return 2.0**-first + (total - 2.0**-first) * share**_SPENDING_POWER


def _futile(settings: GateSettings, scores: Floats) -> Bools:
    """Non-binding: the error above is counted as if nobody ever stopped here."""
    pairs = float(scores.shape[1]) * _FUTILE_AT[-1] / settings.max_pairs
    bar = float(np.interp(pairs, _FUTILE_AT, _FUTILE_BELOW))
    size: Floats = np.sqrt((scores**2).sum(axis=1))
    return scores.sum(axis=1) < np.where(size > 0, bar * size, np.inf)


def _scores(gains: Floats) -> Floats:
    """Gains clipped at `_CLIP` × median |gain|: depends on sizes only, so flips stay exact."""
    bar: Floats = _CLIP * np.median(np.abs(gains), axis=1, keepdims=True)
    return np.where(bar > 0, np.clip(gains, -bar, bar), gains)


@lru_cache(maxsize=16)
def _further_flips(max_pairs: int) -> Floats:
    """Signs of the pairs after the twelfth (pairs × flips, ±1). With the first twelve, a group.

    The first 12 pairs see all flips. Each further pair flips as the product of some of them,
    chosen greedily so that any 7 pairs (to 24, where that is the extended Golay code), any 5 (to
    39) or any 3 flip independently.
    """
    found = (_columns(max_pairs, _FLIP_BITS, strength) for strength in (7, 5, 3))
    columns = next(columns for columns in found if len(columns) == max_pairs)
    members: Ints = np.array(columns[_FLIP_BITS:])[:, None] & np.arange(1 << _FLIP_BITS)
    parity: Ints = members & 0
    for bit in range(_FLIP_BITS):
        parity ^= (members >> bit) & 1
    return np.where(parity == 1, -1.0, 1.0)


def _columns(pairs: int, bits: int, strength: int) -> list[int]:
    """Up to ``pairs`` numbers of ``bits`` bits, any ``strength`` of them independent over GF(2)."""
    chosen: list[int] = []
    sums: list[set[int]] = [{0}, *(set[int]() for _ in range(strength - 1))]
    candidates = [*(1 << bit for bit in range(bits)), *range(1, 1 << bits)]
    for column in candidates:
        if len(chosen) == pairs:
            break
        if any(column in reached for reached in sums):
            continue
        chosen.append(column)
        for size in range(strength - 1, 0, -1):
            sums[size] |= {column ^ other for other in sums[size - 1]}
    return chosen


def _decision(settings: GateSettings, gains: Floats, trials: Trials) -> GateDecision:
    outcome, (low, high) = int(trials.outcome[0]), interval(settings, gains.tolist())
    if outcome == PROMOTED and low is not None:
        low = max(low, settings.min_gain)  # confirmed beyond min_gain, whatever the search found
    pairs, p_value = len(gains), float(trials.p_value[0])
    beyond = f" beyond {settings.min_gain:g}" if settings.min_gain else ""
    reason = {
        PROMOTED: f"better{beyond} in {pairs} pairs, p {p_value:.3g}",
        FUTILE: f"no sign of a gain{beyond} that {settings.max_pairs} pairs could confirm",
        CAPPED: f"no decision within {settings.max_pairs} pairs, p {p_value:.3g}",
    }[outcome]
    return GateDecision(
        verdict=("promoted", "not_better", "inconclusive")[outcome - 1],
        pairs=pairs,
        looks=int(trials.looks[0]),
        gain=float(gains.mean()),
        low=low,
        high=high,
        p_value=p_value,
        alpha=settings.alpha,
        reason=reason,
    )


def _crash(settings: GateSettings, gains: Floats) -> GateDecision:
    return GateDecision(
        verdict="not_better",
        pairs=len(gains) + 1,
        looks=sum(look <= len(gains) for look in settings.looks),
        gain=float(gains.mean()) if gains.size else 0.0,
        low=None,
        high=None,
        p_value=1.0,
        alpha=settings.alpha,
        reason=f"the candidate gave no metric in pair {len(gains) + 1}",
    )


def interval(settings: GateSettings, gains: Sequence[float]) -> tuple[float | None, float | None]:
    """Bounds of the true gain, valid whenever the test stopped (repeated confidence interval).

    Each bound alone holds with probability 1 - alpha: ``low`` is the largest gain that this very
    sequential test, asked whether the true gain exceeds it, would have confirmed by now; ``high``
    is its mirror image. They assume that the noise is symmetric. None: too few pairs for a bound.
    Unlike the mean of the gains, which overstates after an early stop, they allow for stopping.
    """
    values = np.asarray(gains, dtype=np.float64)
    if len(values) < settings.first:
        return None, None
    free = replace(settings, min_gain=0.0)
    low, high = _lower_bound(free, values), _lower_bound(free, -values)
    return low, None if high is None else -high


def _lower_bound(settings: GateSettings, gains: Floats) -> float | None:
    """Narrows [min, max] of the gains to the last shift, coming from below, that is rejected."""
    low, high = float(gains.min()), float(gains.max())
    if high == low:
        return low
    low -= 1e-6 * (high - low)  # at the minimum itself flipping that pair changes nothing
    for step in range(3):
        shifts = np.linspace(low, high, 9)  # three rounds: to 1/512 of the range
        trials = _sequential(settings, gains[None, :] - shifts[:, None], futility=False)
        kept = int(np.argmin(trials.outcome == PROMOTED))
        if kept == 0:
            return None if step == 0 else low
        low, high = float(shifts[kept - 1]), float(shifts[kept])
    return low
