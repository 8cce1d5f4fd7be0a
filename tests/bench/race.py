"""Planners against chance at equal evaluations, on worlds whose optimum is known.

The worlds, the training runs and the hybrid's model are simulated (`tests.worlds`); planners,
screening and promotion test are the lab's. The model is a persona that names a useful setting, and
the right half of its range, three times in four, and is wrong once in four: what is measured is
what the hybrid makes of such advice. A p-value is of Wilcoxon's signed-rank test over worlds and
seeds, after Holm's correction over the arms that are compared with chance.
"""

from __future__ import annotations

from statistics import fmean

from manyhands.teams.lab.contest import Comparison, compare
from tests.bench.rounds import Options, say
from tests.bench.rows import Row, at_most
from tests.worlds import ARMS, contest

#: Training runs of each arm in each world at each seed.
RUNS = 100
#: Arms that have to beat chance; the others are shown.
HELD = ("tpe", "hybrid")


def rows(options: Options) -> list[Row]:
    worlds, seeds = range(options.pick(12, 10)), range(options.pick(10, 2))
    say(f"race: {len(worlds)} worlds × {len(seeds)} seeds, {RUNS} simulated runs each")
    found = contest(ARMS, worlds, seeds, RUNS)
    shares = [
        Row("race", f"gain found by {arm}", [100 * fmean(mine.values())], "%", raw=dict(mine))
        for arm, mine in found.items()
    ]
    return [
        *shares,
        *(row for each in compare(found, over="random") for row in _test(each, options)),
    ]


def _test(found: Comparison, options: Options) -> list[Row]:
    """An arm that chance beats has not shown anything: its p-value counts as 1."""
    won = found.better != "random"
    arm = found.better if won else found.other
    goal = at_most(0.05) if arm in HELD and not options.quick else None
    p_value = found.corrected if won else 1.0
    wins = found.wins if won else found.pairs - found.wins
    return [
        Row("race", f"{arm} over random: corrected p", [p_value], "", goal=goal),
        Row("race", f"{arm} over random: blocks won", [100 * wins / found.pairs], "%"),
    ]
