"""Promotion: fresh paired runs of candidate and master, a sequential test, then compare-and-swap.

Invariant: a commit becomes the master only after `gate` says so of pairs in which the master it is
compared with is the one that it replaces, and whose seeds no selection has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import fmean, stdev

from manyhands.runtime import Run
from manyhands.teams.lab.gate import CRASHED, GateSettings, decide, interval, next_pairs
from manyhands.teams.lab.measure import measure
from manyhands.teams.lab.records import GateDecision, Master, Phase
from manyhands.teams.lab.state import Candidate, Lab, Pair

#: How many times a master's own run may fail in one decision before the decision is given up.
MASTER_RETRIES = 3


async def confirm(
    run: Run, lab: Lab, candidate: Candidate, quota: int
) -> tuple[GateDecision, list[Pair]]:
    """Measure pairs until the test decides, with at most ``quota`` runs.

    A candidate that fails in one run is not promoted.
    """
    settings = lab.gate
    pairs: list[Pair] = []
    while True:
        # A pair whose master run failed is no pair; the seed after it is measured instead.
        usable = [p for p in pairs if p.master.metric is not None]
        gains = [CRASHED if (g := p.gain(lab.sign)) is None else g for p in usable]
        if (decision := decide(settings, gains)) is not None:
            return decision, pairs
        if len(pairs) - len(usable) > MASTER_RETRIES:
            why = f"the master itself failed in more than {MASTER_RETRIES} runs"
            return _undecided(settings, gains, why), pairs
        more, left = next_pairs(settings, gains), quota - 2 * len(pairs)
        if 2 * more > left:
            why = f"{2 * more} more runs were needed, {left} were left"
            return _undecided(settings, gains, why), pairs
        pairs += await run.map(
            f"look-{len(pairs)}",
            lambda scope, seed: _pair(scope, lab, candidate.commit, seed),
            lab.fresh_seeds(candidate, len(pairs), more),
            key_of=str,
        )


async def _pair(run: Run, lab: Lab, candidate: str, seed: int) -> Pair:
    # Both go to their end, also where one fails: it is paid for.
    master, mine = await asyncio.gather(
        measure(run, lab, lab.master.commit, seed, Phase.CONFIRM, holdout=True),
        measure(run, lab, candidate, seed, Phase.CONFIRM, holdout=True),
        return_exceptions=True,
    )
    if isinstance(master, BaseException):
        raise master
    if isinstance(mine, BaseException):
        raise mine
    return Pair(seed, master, mine)


def _undecided(settings: GateSettings, gains: list[float], why: str) -> GateDecision:
    low, high = interval(settings, gains) if len(gains) > 1 else (None, None)
    return GateDecision(
        verdict="inconclusive",
        pairs=len(gains),
        looks=0,
        gain=fmean(gains) if gains else 0.0,
        low=low,
        high=high,
        p_value=1.0,
        alpha=settings.alpha,
        reason=why,
    )


def only_on_validation(pairs: list[Pair], sign: float) -> str:
    """Why a gain on the validation split cannot be believed: the sealed split does not share it.

    A true gain moves both splits alike. It is refused when the sealed split's mean gain is below a
    quarter of the validation split's, and the gap between them is above four standard errors.
    """
    both = [
        (v, h)
        for p in pairs
        if (v := p.gain(sign)) is not None
        if (h := p.holdout_gain(sign)) is not None
    ]
    if len(both) < 3:
        return ""
    gaps = [v - h for v, h in both]
    on_validation, on_holdout = fmean(v for v, _ in both), fmean(h for _, h in both)
    error = stdev(gaps) / len(gaps) ** 0.5
    if on_holdout >= 0.25 * on_validation or fmean(gaps) <= 4 * error:
        return ""
    return (
        f"gain {on_validation:.4g} on the validation split and {on_holdout:.4g} on the sealed one:"
        " it learned the validation data"
    )


async def promote(run: Run, lab: Lab, candidate: Candidate, pairs: Sequence[Pair]) -> bool:
    """Move the master's ref from the commit that was beaten to the candidate, or leave both."""
    ref = master_ref(lab)

    if candidate.parent != lab.master.commit:
        return False
    if not await run.step(
        f"promote-{candidate.id}/{run.id}",
        lab.repository.advance,
        ref,
        candidate.commit,
        candidate.parent,
    ):
        return False
    lab.master = Master(
        commit=candidate.commit,
        experiment=candidate.id,
        version=lab.master.version + 1,
        reference={p.seed: p.candidate.metric for p in pairs if p.candidate.metric is not None},
        noise_sd=_pooled_noise(pairs, lab.master.noise_sd),
    )
    lab.master_files = candidate.files
    lab.masters.append(lab.master)
    await run.record(
        f"master-{lab.master.version}", "lab:master", lab.master.model_dump(mode="json")
    )
    return True


def _pooled_noise(pairs: Sequence[Pair], before: float) -> float:
    values = [p.candidate.metric for p in pairs if p.candidate.metric is not None]
    return stdev(values) if len(values) > 3 else before


def master_ref(lab: Lab) -> str:
    return f"refs/manyhands/{lab.run_id}/master"
