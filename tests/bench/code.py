"""The code team's coders at once: N independent tasks over one, and over one coder for all."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.rounds import Contestant, Options, interleave, say
from tests.bench.rows import Row, at_most

COUNTS = (1, 2, 4)
LATENCY = 1.0


def rows(options: Options) -> list[Row]:
    rounds = options.pick(5, 1)
    latency = 0.3 if options.quick else LATENCY
    say(f"code: {COUNTS[-1]} coders at most, 4 requests of {latency:g} s each, {rounds} rounds")
    ways = [("coders", count) for count in COUNTS] + [("whole", count) for count in COUNTS[1:]]
    contestants = {
        f"{way} {count}": Contestant(
            f"{way} {count}", "code", way, {"count": count, "latency": latency}
        )
        for way, count in ways
    }

    def once(name: str, _: int) -> dict[str, Any]:
        with TemporaryDirectory(dir=options.folder) as folder:
            return contestants[name].run(Path(folder))

    found = interleave(list(contestants), rounds, once)

    def ratio(one: str, other: str, what: str) -> list[float]:
        return [a[what] / b[what] for a, b in zip(found[one], found[other], strict=True)]

    rows = [
        Row(
            "code",
            f"{count} independent tasks ÷ 1 task, wall",
            ratio(f"coders {count}", "coders 1", "wall"),
            goal=at_most(1.2) if count == 2 else None,
        )
        for count in COUNTS[1:]
    ]
    for count in COUNTS[1:]:
        for what in ("wall", "tokens"):
            name = f"{count} parts: a coder each ÷ one coder for all, {what}"
            rows.append(Row("code", name, ratio(f"coders {count}", f"whole {count}", what)))
    return rows
