"""Journaled steps with 1 KB of payload: against LangGraph and DBOS, and as a run gets longer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.rounds import Contestant, Options, interleave, ratios, say
from tests.bench.rows import Row, at_least, at_most

OURS = Contestant("manyhands", "ours", "steps")
DBOS = Contestant("DBOS, tuned", "dbos_sqlite", "steps")
LANGGRAPH = (
    Contestant("LangGraph graph, sync", "langgraph_sqlite", "graph", {"durability": "sync"}),
    Contestant("LangGraph graph, async", "langgraph_sqlite", "graph", {"durability": "async"}),
    Contestant("LangGraph tasks, async", "langgraph_sqlite", "tasks", {"durability": "async"}),
)

Samples = Sequence[Mapping[str, Any]]


def rows(options: Options) -> list[Row]:
    return [*_against_peers(options), *_flatness(options)]


def _in_new_folder(contestant: Contestant, options: Options, **arguments: Any) -> dict[str, Any]:
    with TemporaryDirectory(dir=options.folder) as folder:
        return contestant.run(Path(folder), **arguments)


def _against_peers(options: Options) -> list[Row]:
    count, rounds = options.pick(1000, 300), options.pick(7, 2)
    contestants = {c.name: c for c in (OURS, DBOS, *LANGGRAPH)}
    say(f"step: {count} steps of 1 KB, {rounds} rounds")
    found = interleave(
        list(contestants),
        rounds,
        lambda name, _: _in_new_folder(contestants[name], options, count=count),
    )
    ours = found[OURS.name]
    best = min((c.name for c in LANGGRAPH), key=lambda name: _median(found[name], "wall"))
    compared = [best, DBOS.name, *(c.name for c in LANGGRAPH if c.name != best)]
    made: list[Row] = []
    for name in compared:
        wanted = at_least(2) if name in (best, DBOS.name) else None
        for key in ("wall", "cpu"):
            made.append(
                Row(
                    "step",
                    f"{name} ÷ manyhands, {key}",
                    ratios(found[name], ours, key),
                    goal=wanted if key == "wall" else None,
                    raw={name: found[name], OURS.name: ours},
                )
            )
    return made


def _median(samples: Samples, key: str) -> float:
    return statistics.median(sample[key] / sample["count"] for sample in samples)


def _flatness(options: Options) -> list[Row]:
    """Of one long run: the median step at its end over that at its beginning."""
    count, rounds = options.pick(10_000, 3_000), options.pick(3, 1)
    edge = count // 10
    contestants = {c.name: c for c in (OURS, DBOS, LANGGRAPH[0])}
    if options.quick:
        contestants = {OURS.name: OURS}
    say(f"step: {count} steps in one run, {rounds} rounds")
    found = interleave(
        list(contestants),
        rounds,
        lambda name, _: _in_new_folder(contestants[name], options, count=count, edge=edge),
    )
    return [
        Row(
            "step",
            f"{name}: last {edge} of {count} ÷ first {edge}, wall",
            [sample["last"] / sample["first"] for sample in samples],
            goal=at_most(1.3) if name == OURS.name else None,
            raw={name: samples},
        )
        for name, samples in found.items()
    ]
