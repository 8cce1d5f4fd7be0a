"""What an agent loop costs around each request, over real HTTP, beside bare loops and frameworks.

Two courses. One long conversation against a server without latency: CPU of a request at turn 10 and
at turn 200. And 200 agents at once, 10 requests each, against a server that takes 50 ms: wall over
ideal, CPU of a request, memory of a live agent. Ours is journaled and budgeted; the others keep
nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.loop_server import SHORT_TURNS, serving
from tests.bench.peers.loops_course import SHORTS
from tests.bench.rounds import Contestant, ContestantFailed, Options, interleave, say
from tests.bench.rows import Goal, Row, at_least, at_most

OURS = "manyhands"
BARE = "bare aiohttp"
CLIENT = "bare openai"
FRAMEWORKS = {
    "Agent Framework": "loops_agent_framework",
    "LangGraph": "loops_langgraph",
    "OpenAI Agents": "loops_openai_agents",
    "Pydantic AI": "loops_pydantic_ai",
    "smolagents": "loops_smolagents",
}
PEERS = {OURS: "loops_ours", BARE: "loops_bare", CLIENT: "loops_openai", **FRAMEWORKS}
#: The turns whose cost is shown. Turn 10 is the median of turns 5 to 15 of all agents, the short
#: and the long ones, turn 200 that of turns 190 to 210 of the long ones.
EARLY, LATE = 10, 200
AROUND_EARLY, AROUND_LATE = 5, 10
LATENCY = 0.05
Samples = Sequence[Mapping[str, Any]]


def rows(options: Options) -> list[Row]:
    return [*_long(options), *_crowd(options)]


# -------------------------------------------------------------------- one long conversation


def _long(options: Options) -> list[Row]:
    late, rounds = options.pick(LATE, 30), options.pick(3, 1)
    turns = late + AROUND_LATE + 1
    say(f"loops: one agent of {turns} turns without latency, {rounds} rounds")
    found = interleave(
        list(PEERS), rounds, lambda name, _: _once(name, options, "long", 0.0, turns=turns)
    )
    cost = {
        (name, turn): [_at(sample, turn) for sample in samples]
        for name, samples in found.items()
        for turn in (EARLY, late)
    }
    made: list[Row] = []
    for turn in (EARLY, late):
        ours = cost[OURS, turn]
        for name in FRAMEWORKS:
            made.append(_over(f"{name} ÷ {OURS}, turn {turn}", cost[name, turn], ours, at_least(2)))
        made.append(_over(f"{CLIENT} ÷ {OURS}, turn {turn}", cost[CLIENT, turn], ours))
        made.append(_over(f"{OURS} ÷ {BARE}, turn {turn}", ours, cost[BARE, turn]))
    for name in PEERS:
        label = f"{name}: turn {late} ÷ turn {EARLY}"
        goal = at_most(1.5) if name == OURS else None
        made.append(_over(label, cost[name, late], cost[name, EARLY], goal))
    for turn in (EARLY, late):
        for name in PEERS:
            label = f"{name}: a request at turn {turn}"
            made.append(Row("loops", label, cost[name, turn], "ms"))
    return [_with_raw(row, found) for row in made]


def _at(sample: Mapping[str, Any], turn: int) -> float:
    """CPU ms of a turn: the median of those around it. Index 0 is turn 2."""
    around, agents = AROUND_LATE, sample["long_us"]
    if turn == EARLY:
        around, agents = AROUND_EARLY, [*agents, *sample["short_us"]]
    span = slice(turn - 2 - around, turn - 1 + around)
    return 1e-3 * statistics.median(us for each in agents for us in each[span])


def _over(
    name: str, over: Sequence[float], under: Sequence[float], goal: Goal | None = None
) -> Row:
    return Row("loops", name, [a / b for a, b in zip(over, under, strict=True)], goal=goal)


def _with_raw(row: Row, found: Mapping[str, Samples]) -> Row:
    """The raw figures of those that the row names."""
    raw = {name: samples for name, samples in found.items() if name in row.name}
    return Row(row.bench, row.name, row.values, row.unit, row.goal, raw)


# -------------------------------------------------------------------- many at once


def _crowd(options: Options) -> list[Row]:
    count, turns, rounds = options.pick(200, 12), 10, options.pick(3, 1)
    say(f"loops: {count} agents at once, {turns} requests each at 50 ms, {rounds} rounds")
    found = interleave(
        list(PEERS),
        rounds,
        lambda name, _: _once(name, options, "crowd", LATENCY, turns=turns, count=count),
    )
    ideal = turns * LATENCY
    at_once = f"{count} at once"
    made = [
        Row("loops", f"{name}: {at_once}, wall ÷ ideal", [s["wall"] / ideal for s in samples])
        for name, samples in found.items()
    ]
    cost = {n: [s["cpu"] / s["count"] * 1e3 for s in samples] for n, samples in found.items()}
    for name in [*FRAMEWORKS, CLIENT]:
        goal = at_least(2) if name in FRAMEWORKS else None
        made.append(_over(f"{name} ÷ {OURS}, {at_once}", cost[name], cost[OURS], goal))
    made.append(_over(f"{OURS} ÷ {BARE}, {at_once}", cost[OURS], cost[BARE]))
    for name, values in cost.items():
        made.append(Row("loops", f"{name}: a request, {at_once}", values, "ms"))
    for name, samples in found.items():
        made.append(
            Row("loops", f"{name}: memory of a live agent", [_memory(s) for s in samples], "KB")
        )
    return [_with_raw(row, found) for row in made]


def _memory(sample: Mapping[str, Any]) -> float:
    """KB: what the peak of many is above the peak of one, for each one more."""
    return (sample["many_rss"] - sample["one_rss"]) / (sample["agents"] - 1) / 1024


def _once(
    name: str, options: Options, course: str, latency: float, **arguments: int
) -> dict[str, Any]:
    """One contestant, with a server and a folder of its own."""
    contestant = Contestant(name, "loops_course", course, {"peer": PEERS[name], **arguments})
    turns, count = arguments["turns"], arguments.get("count", 1)
    with TemporaryDirectory(dir=options.folder) as folder, serving(turns, latency) as url:
        found = contestant.run(Path(folder), url=url)
    short = min(SHORT_TURNS, turns)
    if course == "long":
        due = (1 + SHORTS) * short + len(found["long_us"]) * turns
    else:
        due = short + (2 + count) * turns
    if found["requests"] != due:
        raise ContestantFailed(f"{name}: {found['requests']} requests, not {due}")
    return found
