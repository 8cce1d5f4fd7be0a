"""Planners against chance at equal evaluations, on worlds whose optimum is known.

The worlds, the training runs and the hybrid's model are simulated (`tests.worlds`); planners,
screening and promotion test are the lab's. The model is a persona that names a useful setting, and
the right half of its range, three times in four, and is wrong once in four: what is measured is
what the hybrid makes of such advice. A p-value is of Wilcoxon's signed-rank test over worlds and
seeds, after Holm's correction over the arms that are compared with chance.
"""

from __future__ import annotations

from statistics import fmean

from manyhands.teams.lab.contest import compare
from tests.bench.rounds import Options, say
from tests.bench.rows import Row, at_least, at_most
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
    tests: list[Row] = []
    for each in compare(found, over="random"):
        arm = each.other if each.better == "random" else each.better
        won = each.better != "random"
        goal = at_most(0.05) if arm in HELD and not options.quick else None
        tests.append(
            Row("race", f"{arm} over random: corrected p", [each.corrected], "", goal=goal)
        )
        tests.append(
            Row(
                "race",
                f"{arm} over random: blocks won",
                [100 * (each.wins if won else each.pairs - each.wins) / each.pairs],
                "%",
                goal=at_least(50.0) if arm in HELD else None,
            )
        )
    return [*shares, *tests]
