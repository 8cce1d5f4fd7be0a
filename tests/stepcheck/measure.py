"""How often good steps are flagged, and how often a fault is, at the step that is wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from manyhands.agents.stepcheck import check_all
from tests.stepcheck.faults import FAULTS
from tests.stepcheck.good import Good


@dataclass
class Rates:
    """``flagged``: good steps with any flag; ``by_check``: flags on good steps, by check."""

    steps: int = 0
    flagged: int = 0
    by_check: Counter[str] = field(default_factory=Counter[str])
    placed: Counter[str] = field(default_factory=Counter[str])
    found: Counter[str] = field(default_factory=Counter[str])
    missed: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])

    @property
    def good_rate(self) -> float:
        return self.flagged / self.steps

    @property
    def found_rate(self) -> float:
        return self.found.total() / self.placed.total()


def measure(runs: Sequence[Good], *, words: int, times: int = 1) -> Rates:
    """Every fault is placed in every run that has room for it, ``times`` over."""
    rates = Rates()
    measure_good(rates, runs)
    for name, fault in FAULTS.items():
        for number, good in enumerate(runs):
            for again in range(times):
                dice = random.Random(f"{name}/{number}/{again}/{words}")
                made = fault.place(good, dice, words)
                if made is None:
                    continue
                flags = check_all(made.read)
                hit = any(
                    (f.check, f.agent, f.index) == (made.check, made.agent, made.index)
                    for f in flags
                )
                rates.placed[name] += 1
                rates.found[name] += hit
                if not hit:
                    rates.missed.append(f"{name} in {good.family}")
    return rates


def measure_good(rates: Rates, runs: Iterable[Good]) -> None:
    for good in runs:
        flags = check_all(good.read)
        rates.steps += len(good.steps)
        rates.flagged += len({(flag.agent, flag.index) for flag in flags})
        rates.by_check.update(flag.check for flag in flags)
        rates.wrong += [f"{good.family}: {f.check} {f.index}: {f.reason}" for f in flags]
