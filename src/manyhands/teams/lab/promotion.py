"""Promotion: fresh paired runs of candidate and master, a sequential test, then compare-and-swap.

Invariant: a commit becomes the master only after `gate` says so of pairs in which the master it is
compared with is the one that it replaces, and whose seeds no selection has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, stdev

from manyhands.runtime import Run
from manyhands.teams.lab.gate import CRASHED, GateSettings, decide, interval, next_pairs
from manyhands.teams.lab.measure import measure
from manyhands.teams.lab.preflight import grounds
from manyhands.teams.lab.records import GateDecision, Master, Measurement, Phase
from manyhands.teams.lab.state import Candidate, Lab, Pair

#: How many times a master's own run may fail in one decision before the decision is given up.
MASTER_RETRIES = 3


async def confirm(
    run: Run, lab: Lab, candidate: Candidate, quota: int
) -> tuple[GateDecision, list[Pair]]:
    """Is the candidate better than the master? One that fails in a run is not promoted."""
    contest = Contest(lab.gate, candidate.commit, lab.master.commit, Phase.CONFIRM, sealed=True)
    return await compare(run, lab, contest, partial(lab.fresh_seeds, candidate), quota)


@dataclass(frozen=True, slots=True)
class Contest:
    """Whether ``better`` is better than ``other``: both are commits. ``sealed``: measure both on
    the sealed split, too."""

    settings: GateSettings
    better: str
    other: str
    phase: Phase
    sealed: bool = False


async def compare(
    run: Run, lab: Lab, contest: Contest, seeds: Callable[[int, int], list[int]], quota: int
) -> tuple[GateDecision, list[Pair]]:
    """Measure pairs until the test decides, with at most ``quota`` runs.

    ``seeds``: of how many seeds are used and how many are wanted, the fresh ones. In a pair
    ``master`` is the other one's run. A crash of ``better`` decides against it.
    """
    settings = contest.settings
    pairs: list[Pair] = []
    while True:
        # A pair whose other run failed, or that two kinds of machines made, is no pair; the seed
        # after it is measured instead.
        good = [p for p in pairs if usable(p)]
        gains = [CRASHED if (g := p.gain(lab.sign)) is None else g for p in good]
        if (decision := decide(settings, gains)) is not None:
            return decision, pairs
        if len(pairs) - len(good) > MASTER_RETRIES:
            mixed = sum(p.mixed for p in pairs if p.master.metric is not None)
            why = f"the master itself failed in more than {MASTER_RETRIES} runs"
            if mixed:
                why = f"{mixed} pairs ran on different kinds of machines, and tell nothing"
            return undecided(settings, gains, why), pairs
        more, left = next_pairs(settings, gains), quota - 2 * len(pairs)
        if 2 * more > left:
            why = f"{2 * more} more runs were needed, {left} were left"
            return undecided(settings, gains, why), pairs
        pairs += await run.map(
            f"look-{len(pairs)}",
            lambda scope, seed: _pair(scope, lab, contest, seed),
            seeds(len(pairs), more),
            key_of=str,
        )


def usable(pair: Pair) -> bool:
    """Not where the other's run failed, or the two ran on different kinds of machines. A crash of
    the better one counts, wherever it was."""
    if pair.master.metric is None:
        return False
    return pair.candidate.metric is None or not pair.mixed


async def _pair(run: Run, lab: Lab, contest: Contest, seed: int) -> Pair:
    """They begin by turns, so that neither always gets the first slot, or the cooler machine. Both
    go to their end, also where one fails: it is paid for."""
    turn = (contest.other, contest.better)[:: 1 if seed % 2 else -1]
    sealed, slot = contest.sealed, lab.pin(seed)
    found = await asyncio.gather(
        *(measure(run, lab, c, seed, contest.phase, holdout=sealed, slot=slot) for c in turn),
        return_exceptions=True,
    )
    of: dict[str, Measurement] = {}
    for commit, one in zip(turn, found, strict=True):
        if isinstance(one, BaseException):
            raise one
        of[commit] = one
    return Pair(seed, of[contest.other], of[contest.better])


def undecided(settings: GateSettings, gains: list[float], why: str) -> GateDecision:
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
    if candidate.parent != lab.master.commit:
        return False
    measured = [p.candidate for p in pairs]
    return await crown(run, lab, candidate.id, candidate.commit, candidate.files, measured)


async def crown(
    run: Run,
    lab: Lab,
    by: str,
    commit: str,
    files: dict[str, str],
    measured: Sequence[Measurement],
) -> bool:
    """Make ``commit`` the master by compare-and-swap; False where another one is it meanwhile.

    ``by``: the experiment, or what else it comes from. ``files``: the editable ones. ``measured``:
    its fresh runs.
    """
    if not await run.step(
        f"promote-{by}/{run.id}", lab.repository.advance, master_ref(lab), commit, lab.master.commit
    ):
        return False
    values = {m.seed: m.metric for m in measured if m.metric is not None}
    lab.master = Master(
        commit=commit,
        experiment=by,
        version=lab.master.version + 1,
        reference=values,
        noise_sd=stdev(values.values()) if len(values) > 3 else lab.master.noise_sd,
        **grounds(lab.study, files),
    )
    lab.master_files = files
    lab.masters.append(lab.master)
    await run.record(
        f"master-{lab.master.version}", "lab:master", lab.master.model_dump(mode="json")
    )
    return True


def master_ref(lab: Lab) -> str:
    return f"refs/manyhands/{lab.run_id}/master"
