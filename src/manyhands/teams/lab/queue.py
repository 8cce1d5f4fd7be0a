"""The queue: what each hypothesis may gain and cost, and why it is no duplicate.

Invariant: costs are counted in training runs, never in measured seconds, so that two executions of
a study rank alike; a program is compared by its syntax, never by its title.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

from manyhands.teams.lab.memory import worth
from manyhands.teams.lab.records import Hypothesis
from manyhands.teams.lab.schema import Promotion

#: True gain in noise standard deviations -> mean pairs of a confirmation, at a cap of `_CAP`
#: (measured: docs/explanation/promotion.md); linear between them.
_PAIRS = ((0.0, 8.5), (0.5, 14.4), (1.0, 14.4), (2.0, 8.2), (3.0, 6.3))
_CAP = 28


def ranked(
    hypotheses: Sequence[Hypothesis], promotion: Promotion, noise_sd: float
) -> tuple[Hypothesis, ...]:
    """The same hypotheses in the same order, each with its expected cost and its rank.

    The cost is of all training runs until the verdict: the screening, and by the chance of coming
    to it, the confirmation. A cost that the proposer gave (not 1) counts as a factor: so many times
    a run of the master.
    """
    priced = [
        h.model_copy(update={"expected_cost": h.expected_cost * _runs(h, promotion, noise_sd)})
        for h in hypotheses
    ]
    order = sorted(priced, key=worth)
    rank = {h.id: at for at, h in enumerate(order)}
    return tuple(h.model_copy(update={"rank": rank[h.id]}) for h in priced)


def _runs(hypothesis: Hypothesis, promotion: Promotion, noise_sd: float) -> float:
    gain = (hypothesis.expected_gain or 0.0) / noise_sd if noise_sd > 0 else 0.0
    seeds = promotion.screen_seeds
    # It comes to its confirmation while there are new ideas if its screening shows the noise.
    confirmed = NormalDist().cdf((gain - 1.0) / (2 / seeds) ** 0.5)
    return round(seeds + confirmed * 2 * _pairs(gain) * promotion.max_pairs / _CAP, 2)


def _pairs(gain: float) -> float:
    """Mean pairs of a confirmation for a true gain in standard deviations."""
    for (low, first), (high, second) in pairwise(_PAIRS):
        if gain <= high:
            share = max(gain - low, 0.0) / (high - low)
            return first + share * (second - first)
    return _PAIRS[-1][1]


@dataclass(frozen=True, slots=True)
class Novelty:
    """``of``: what it repeats ('': nothing). ``why``: the reason, for the queue and the report."""

    of: str
    why: str


def novelty(mark: str, seen: Mapping[str, str]) -> Novelty:
    """Whether a program was tried: ``mark`` is `preflight.program`, ``seen`` those -> of what."""
    if mark in seen:
        return Novelty(seen[mark], f"its program {mark[:12]} is that of {seen[mark]}")
    return Novelty("", f"its program {mark[:12]} is none of the {len(seen)} tried")


#: What is said of a change in words, before there is a program.
BY_WORDS = "its words are new on this master; its program is compared when it is written"
