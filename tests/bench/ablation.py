"""What the ablation drops and keeps, over many ends of campaigns with planted changes.

Simulated: the runs are drawn, everything that decides is the lab's own (``tests.studies``).
"""

from __future__ import annotations

from tests.bench.rounds import Options, say
from tests.bench.rows import Row, at_least
from tests.studies.campaigns import rates

#: True gains of the promoted changes, in standard deviations of one run; 0 is useless.
WORLDS = {
    "one useless": (0.0,),
    "three useless": (0.0, 0.0, 0.0),
    "one useless beside 1, 1 and 2 sd": (0.0, 1.0, 1.0, 2.0),
    "two useless beside 2, 2 and 2 sd": (0.0, 0.0, 2.0, 2.0, 2.0),
}


def rows(options: Options) -> list[Row]:
    campaigns = options.pick(400, 200)
    say(f"ablation: {campaigns} campaigns of each kind, Gaussian and heavy-tailed noise")
    return [
        row
        for heavy in (False, True)
        for name, gains in WORLDS.items()
        for row in _rows(f"{name}, {'t3' if heavy else 'Gaussian'}", gains, campaigns, heavy)
    ]


def _rows(name: str, gains: tuple[float, ...], campaigns: int, heavy: bool) -> list[Row]:
    found = rates(gains, campaigns, heavy=heavy)
    say(f"  {name}: {found}")
    made = [
        Row(
            "ablation",
            f"useless dropped, {name}",
            [100 * found.useless_dropped],
            "%",
            goal=at_least(95),
        ),
        Row("ablation", f"runs, {name}", [found.runs], ""),
    ]
    if any(gains):
        made.append(Row("ablation", f"true ones kept, {name}", [100 * found.true_kept], "%"))
    return made
