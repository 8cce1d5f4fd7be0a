"""Arms compared over the same blocks (seeds, worlds): paired tests, their correction, and bands.

Invariant: pure functions of the numbers handed in. Nothing is assumed of the gains' distribution
but, by the signed-rank test, that under the null hypothesis a difference is as likely to carry the
other sign.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean, median, stdev
from typing import Any, cast

import numpy as np

from manyhands.teams.lab.records import Record

#: Up to so many pairs every one of the 2^n signs is counted; beyond, the normal limit is close.
EXACT = 14


class Comparison(Record):
    """Two arms over the blocks that both have. ``difference``: the median of ``better`` minus
    ``other``; ``p_value`` two-sided, ``corrected`` by Holm over all comparisons of the contest."""

    better: str
    other: str
    pairs: int
    wins: int
    difference: float
    p_value: float
    corrected: float


def compare(gains: Mapping[str, Mapping[str, float]], over: str = "") -> tuple[Comparison, ...]:
    """Every pair of arms, the clearest first; with ``over``, that arm against each other alone.

    ``gains``: arm -> block -> gain, positive when better. Pairs of arms that share fewer than two
    blocks are left out: one pair tests nothing.
    """
    found: list[tuple[str, str, list[float], float]] = []
    for one, other in combinations(gains, 2):
        shared = [block for block in gains[one] if block in gains[other]]
        if len(shared) < 2 or (over and over not in (one, other)):
            continue
        differences = [gains[one][block] - gains[other][block] for block in shared]
        if (median(differences), fmean(differences)) < (0.0, 0.0):
            one, other = other, one
            differences = [-d for d in differences]
        found.append((one, other, differences, signed_rank(differences)))
    corrected = holm([p for *_, p in found])
    return tuple(
        sorted(
            (
                Comparison(
                    better=one,
                    other=other,
                    pairs=len(differences),
                    wins=sum(d > 0 for d in differences),
                    difference=median(differences),
                    p_value=p,
                    corrected=q,
                )
                for (one, other, differences, p), q in zip(found, corrected, strict=True)
            ),
            key=lambda c: (c.corrected, c.p_value, c.better, c.other),
        )
    )


def signed_rank(differences: Sequence[float]) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test ("Individual Comparisons by Ranking
    Methods", 1945), zeros and ties by Pratt's method; exact up to `EXACT` pairs. 1 where nothing
    differs."""
    if not any(differences):
        return 1.0
    module = _stats()
    exact = len(differences) <= EXACT
    method = module.PermutationMethod(n_resamples=np.inf) if exact else "asymptotic"
    found = module.wilcoxon(list(differences), zero_method="pratt", method=method)
    return min(float(found.pvalue), 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction ("A Simple Sequentially Rejective Multiple Test Procedure", 1979)."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected = [1.0] * len(p_values)
    worst = 0.0
    for rank, at in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p_values[at]))
        corrected[at] = worst
    return corrected


def least_p(pairs: int) -> float:
    """The smallest p-value that so many pairs can give."""
    return min(1.0, 2.0 ** (1 - pairs))


def pairs_needed(comparisons: int, alpha: float = 0.05) -> int:
    """How many pairs the clearest of so many comparisons needs at least to pass Holm."""
    return math.ceil(1 - math.log2(alpha / max(comparisons, 1)))


def band(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """The mean and its confidence interval by Student's t (both ends the mean for one value)."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, mean, mean
    quantile = float(_stats().t.ppf(0.5 + level / 2, len(values) - 1))
    reach = quantile * stdev(values) / math.sqrt(len(values))
    return mean, mean - reach, mean + reach


def _stats() -> Any:
    """SciPy's, which takes a second to load and has no types."""
    from scipy import stats  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]

    return cast(Any, stats)
