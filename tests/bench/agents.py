"""200 agents at once, 10 requests each to a model that takes 50 ms: what the loop adds to that."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.rounds import Contestant, Options, interleave, ratios, say
from tests.bench.rows import Row

LATENCY = 0.05
OURS = Contestant("manyhands agents", "agents", "agents")
BARE = Contestant("bare loops", "agents", "bare")


def rows(options: Options) -> list[Row]:
    return [*_at_once(options), *_long(options)]


def _at_once(options: Options) -> list[Row]:
    count, turns = options.pick(200, 50), 10
    rounds = options.pick(5, 2)
    contestants = {c.name: c for c in (OURS, BARE)}

    def once(name: str, _: int) -> dict[str, Any]:
        return _in_new_folder(contestants[name], options, count=count, turns=turns, latency=LATENCY)

    say(f"agents: {count} at once, {turns} requests each, {rounds} rounds")
    found = interleave(list(contestants), rounds, once)
    ours, bare = found[OURS.name], found[BARE.name]
    ideal = turns * LATENCY
    made = [
        Row("agents", f"{name}: wall ÷ ideal", [s["wall"] / ideal for s in samples])
        for name, samples in found.items()
    ]
    per_request = [s["cpu"] / s["count"] * 1e3 for s in ours]
    return [
        *made,
        Row("agents", f"{OURS.name} ÷ {BARE.name}, wall", ratios(ours, bare, "wall")),
        Row("agents", f"{OURS.name} ÷ {BARE.name}, cpu", ratios(ours, bare, "cpu")),
        Row("agents", "a request's cpu ÷ its 50 ms", [c / LATENCY / 10 for c in per_request], "%"),
    ]


def _long(options: Options) -> list[Row]:
    """One agent, many turns, no latency: does a turn cost more as the history grows?"""
    turns, rounds = options.pick(200, 100), options.pick(3, 1)
    edge = turns // 10
    say(f"agents: one of {turns} turns, {rounds} rounds")
    found = interleave(
        [OURS.name],
        rounds,
        lambda *_: _in_new_folder(OURS, options, count=1, turns=turns, latency=0.0),
    )
    name = f"one agent: last {edge} of {turns} turns ÷ first {edge}, cpu"
    return [Row("agents", name, [_growth(s, edge) for s in found[OURS.name]])]


def _growth(sample: Mapping[str, Any], edge: int) -> float:
    gaps = sample["gaps"]
    return statistics.median(gaps[-edge:]) / statistics.median(gaps[:edge])


def _in_new_folder(contestant: Contestant, options: Options, **arguments: Any) -> dict[str, Any]:
    with TemporaryDirectory(dir=options.folder) as folder:
        return contestant.run(Path(folder), **arguments)
