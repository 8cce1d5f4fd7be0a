"""Checks of a step: what all of them cost together, and that the cost does not grow with the trace.

A step is one call of a tool with a text beside it and a result of about 1 KB, none of them equal;
every 20th step is a report with numbers, a path and a quote.
"""

from __future__ import annotations

import json
import random
import statistics
import time

from manyhands.agents.stepcheck import Call, Checker, Kind, Result, Step
from tests.bench.rounds import Options, say
from tests.bench.rows import Row, at_most

SHORT, LONG = 10, 1_000
WORDS = (
    *("service", "queue", "latency", "total", "reads", "cache"),
    *("module", "worker", "value", "request", "index", "error"),
)


def rows(options: Options) -> list[Row]:
    rounds = options.pick(7, 2)
    say(f"stepcheck: steps {SHORT} and {LONG} of a trace, {rounds} rounds")
    short = [_median(SHORT, options.pick(200, 40)) for _ in range(rounds)]
    long = [_median(LONG, options.pick(4, 1)) for _ in range(rounds)]
    means = [_mean(LONG) for _ in range(rounds)]
    growth = [b / a for a, b in zip(short, long, strict=True)]
    return [
        Row("stepcheck", f"a step of a trace of {SHORT}", short, "µs", at_most(200)),
        Row("stepcheck", f"a step of a trace of {LONG}", long, "µs", at_most(200)),
        Row("stepcheck", f"mean over a trace of {LONG}, reports included", means, "µs"),
        Row("stepcheck", f"a step of {LONG} ÷ a step of {SHORT}", growth, "×", at_most(1.5)),
    ]


def _median(length: int, traces: int) -> float:
    """µs of a step at the end of a trace of this length: the last 10 of each."""
    taken: list[float] = []
    for seed in range(traces):
        steps = make_steps(length, seed)
        checker = Checker()
        for step in steps[:-10]:
            checker.see(step)
        for step in steps[-10:]:
            begun = time.perf_counter_ns()
            checker.see(step)
            taken.append((time.perf_counter_ns() - begun) / 1000)
    return statistics.median(taken)


def _mean(length: int) -> float:
    steps, checker = make_steps(length, 0), Checker()
    begun = time.perf_counter_ns()
    for step in steps:
        checker.see(step)
    return (time.perf_counter_ns() - begun) / 1000 / length


def make_steps(length: int, seed: int) -> list[Step]:
    dice = random.Random(seed)
    return [_report(n, dice) if n % 20 == 19 else _step(n, dice) for n in range(length)]


def _step(n: int, dice: random.Random) -> Step:
    lines = [
        f"{dice.choice(WORDS)} {dice.choice(WORDS)} src/{dice.choice(WORDS)}_{n}.py "
        f"{dice.randint(1, 99_999)} {dice.choice(WORDS)}"
        for _ in range(22)
    ]
    arguments = json.dumps({"path": f"src/{dice.choice(WORDS)}_{n}.py", "query": f"word {n}"})
    result = "\n".join(lines)
    return Step(
        agent="bench",
        role="bench",
        index=n,
        text=f"Let me look at part {n} of the {dice.choice(WORDS)} module.",
        calls=(Call("search", arguments, f"c{n}"),),
        results=(Result("search", result, True, f"c{n}"),),
        tokens=dice.randint(30, 60),
        seconds=dice.random(),
    )


def _report(n: int, dice: random.Random) -> Step:
    said = (
        f"The {dice.choice(WORDS)} takes {n * 7 + 1000} ms in src/{dice.choice(WORDS)}_{n}.py, "
        f'and the log says "the {dice.choice(WORDS)} was slower than before".'
    )
    return Step("bench", n, said, "bench", Kind.REPORT, given=("Go on.",), tokens=50)
