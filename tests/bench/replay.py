"""Replay of 10,000 finished steps: how soon a program that was stopped is where it was."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.rounds import Contestant, Options, interleave, ratios, say
from tests.bench.rows import Row

OURS = Contestant("manyhands", "ours", "replay")
PEERS = (
    Contestant("DBOS fork", "dbos_sqlite", "replay"),
    Contestant("LangGraph tasks", "langgraph_sqlite", "replay"),
)


def rows(options: Options) -> list[Row]:
    count, rounds = options.pick(10_000, 500), options.pick(3, 2)
    contestants = {c.name: c for c in (OURS, *PEERS)}
    with TemporaryDirectory(dir=options.folder) as base:
        folders = {name: Path(base) / name.replace(" ", "-") for name in contestants}
        say(f"replay: {count} steps, to be replayed in {rounds} rounds")
        recorded = {}
        for name, contestant in contestants.items():
            folders[name].mkdir()
            recorded[name] = contestant.run(folders[name], count=count, prepare=True)
            say(f"  recorded  {name}")
        found = interleave(
            list(contestants),
            rounds,
            lambda name, _: contestants[name].run(folders[name], count=count),
        )
    ours = found[OURS.name]
    made = [
        Row(
            "replay",
            f"{peer.name} ÷ manyhands, {key}",
            ratios(found[peer.name], ours, key),
            raw={peer.name: found[peer.name], OURS.name: ours},
        )
        for peer in PEERS
        for key in ("wall", "cpu")
    ]
    live = [recorded[OURS.name]] * rounds
    about = f"manyhands: a step replayed ÷ run, {count} of them, wall"
    return [*made, Row("replay", about, ratios(ours, live, "wall"), raw={"live": live[:1]})]
