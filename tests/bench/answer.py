"""The answer team's workers at once: wall time of N over that of one, all of the same latency."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.rounds import Contestant, Options, interleave, say
from tests.bench.rows import Row, at_most

COUNTS = (1, 2, 4, 8, 16, 32)
LATENCY = 2.0


def rows(options: Options) -> list[Row]:
    counts = COUNTS if not options.quick else (1, 4, 32)
    rounds = options.pick(3, 1)
    say(f"answer: {counts[-1]} workers at most, 2 requests of {LATENCY:g} s each, {rounds} rounds")
    contestants = {
        f"{count} workers": Contestant(
            f"{count} workers", "answer", "workers", {"count": count, "latency": LATENCY}
        )
        for count in counts
    }

    def once(name: str, _: int) -> dict[str, Any]:
        with TemporaryDirectory(dir=options.folder) as folder:
            return contestants[name].run(Path(folder))

    found = interleave(list(contestants), rounds, once)
    alone = [sample["wall"] for sample in found["1 workers"]]
    return [
        Row(
            "answer",
            f"{count} workers ÷ 1 worker, wall",
            [s["wall"] / one for s, one in zip(found[f"{count} workers"], alone, strict=True)],
            goal=at_most(1.15),
        )
        for count in counts[1:]
    ]
