"""Replay of finished steps: how soon a program that was stopped is where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.rounds import Contestant, Options, interleave, ratios, say
from tests.bench.rows import Row

OURS = Contestant("manyhands", "ours", "replay")
DBOS = Contestant("DBOS fork", "dbos_sqlite", "replay")
LANGGRAPH = Contestant("LangGraph tasks", "langgraph_sqlite", "replay")

Samples = dict[str, list[dict[str, Any]]]


def rows(options: Options) -> list[Row]:
    """10,000 steps, and 1,000 for LangGraph, whose replay is quadratic in their number."""
    many, few = options.pick(10_000, 500), options.pick(1_000, 100)
    live, long = _replay([OURS, DBOS], many, options)
    _, short = _replay([OURS, LANGGRAPH], few, options)
    ours = long[OURS.name]
    about = f"manyhands: a step replayed ÷ run, {many} of them"
    growth = f"manyhands: a step of {many} ÷ a step of {few}"
    return [
        *_against(DBOS.name, many, long),
        *_against(LANGGRAPH.name, few, short),
        Row("replay", f"{about}, wall", ratios(ours, [live] * len(ours), "wall")),
        Row("replay", f"{growth}, cpu", ratios(ours, short[OURS.name], "cpu")),
    ]


def _replay(
    contestants: Sequence[Contestant], count: int, options: Options
) -> tuple[dict[str, Any], Samples]:
    """Our recording, and all replays of everybody's."""
    rounds = options.pick(3, 2)
    named = {c.name: c for c in contestants}
    with TemporaryDirectory(dir=options.folder) as base:
        folders = {name: Path(base) / name.replace(" ", "-") for name in named}
        say(f"replay: {count} steps, to be replayed in {rounds} rounds")
        recorded: dict[str, dict[str, Any]] = {}
        for name, contestant in named.items():
            folders[name].mkdir()
            recorded[name] = contestant.run(folders[name], count=count, prepare=True)
            say(f"  recorded   {name}")
        found = interleave(
            list(named), rounds, lambda name, _: named[name].run(folders[name], count=count)
        )
    return recorded[OURS.name], found


def _against(peer: str, count: int, found: Samples) -> list[Row]:
    ours = found[OURS.name]
    return [
        Row(
            "replay",
            f"{peer} ÷ manyhands, {count} steps, {key}",
            ratios(found[peer], ours, key),
            raw={peer: found[peer], OURS.name: ours},
        )
        for key in ("wall", "cpu")
    ]
