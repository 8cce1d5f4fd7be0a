"""Ends of simulated campaigns by the hundred: the real ablation, on a lab and a run that are not.

Simulated: what is promoted, and what a run gives, is made up here; a program is the set of the
changes that it has. Decisions, corrections, budgets and the order of everything are the lab's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from manyhands.teams.lab import ablation, promotion
from manyhands.teams.lab.lineage import Made
from manyhands.teams.lab.records import (
    Experiment,
    GateDecision,
    Hypothesis,
    Master,
    Measurement,
    Verdict,
)
from manyhands.teams.lab.schema import AblationRules
from manyhands.teams.lab.state import Lab


@dataclass(frozen=True)
class Ended:
    """``dropped`` and ``fates``: by change, in their order. ``moved``: the master did."""

    fates: tuple[str, ...]
    runs: int
    moved: bool

    @property
    def dropped(self) -> tuple[bool, ...]:
        return tuple(fate == "dropped" for fate in self.fates)


class _Run:
    """A run that keeps nothing."""

    id = "campaign"

    @asynccontextmanager
    async def scope(self, key: str) -> AsyncGenerator[_Run]:
        yield self

    async def map(self, key: str, fn: Any, items: Any, *, key_of: Any) -> list[Any]:
        return [await fn(self, item) for item in items]

    async def stopping(self, key: str) -> bool:
        return False

    async def record(self, key: str, type: str, data: Any, *, value: Any = None) -> None:
        pass

    async def step(self, key: str, fn: Any, *args: Any, **_: Any) -> Any:
        return True


def end_of_campaign(
    gains: Sequence[float],
    seed: int,
    *,
    runs: int = 100_000,
    heavy: bool = False,
    rules: AblationRules | None = None,
    pairs: dict[tuple[int, int], float] | None = None,
) -> Ended:
    """Ablate promoted changes with these true gains, in standard deviations of one run.

    ``pairs``: what two changes give beyond their sum. ``heavy``: noise of Student's t with 3
    degrees of freedom instead of Gaussian noise.
    """
    rng = np.random.default_rng(seed)
    chain = [_promoted(at, gain) for at, gain in enumerate(gains)]
    lab = _lab(chain, runs, rules or AblationRules())
    whole = frozenset(range(len(gains)))
    done: list[str] = []

    async def without(run: Any, lab: Any, commit: str, changes: Sequence[Experiment]) -> Made:
        return Made(commit=_name(_parts(commit) - {int(e.id[1:]) for e in changes}))

    async def measure(
        run: Any, lab: Any, commit: str, seed: int, phase: Any, **_: Any
    ) -> Measurement:
        done.append(commit)
        parts = _parts(commit)
        drawn = rng.standard_t(3) / 3**0.5 if heavy else rng.standard_normal()
        extra = sum(g for pair, g in (pairs or {}).items() if set(pair) <= parts)
        metric = float(sum(gains[i] for i in parts) + extra + drawn)
        return Measurement(
            key=str(len(done)), candidate=commit, seed=seed, phase=phase, exit="ok", metric=metric
        )

    async def quiet(*_: Any) -> list[Any]:
        return []

    with (
        patch.object(ablation, "without", without),
        patch.object(ablation, "measure", measure),
        patch.object(promotion, "measure", measure),
        patch.object(ablation, "ledger_rows", quiet),
        patch.object(ablation, "_move", _moved),
        patch.object(ablation, "interval", lambda *_: (None, None)),
    ):
        asyncio.run(ablation.ablate(_Run(), lab))  # type: ignore[arg-type]
    assert len(done) == lab.runs <= runs, "more runs than there were"
    found = lab.ablation
    assert found is not None
    if found.reduced:
        out = {int(e.experiment[1:]) for e in found.lines if e.fate == "dropped"}
        assert _parts(found.reduced) == whole - out
    return Ended(tuple(line.fate for line in found.lines), found.runs, bool(found.reduced))


async def _moved(*_: Any) -> bool:
    return True


def _lab(chain: Sequence[Experiment], runs: int, rules: AblationRules) -> Lab:
    config = SimpleNamespace(ablation=rules, metric=SimpleNamespace(direction="higher"))
    study: Any = SimpleNamespace(config=config)
    nothing: Any = None
    masters = [
        Master(commit=e.candidate, experiment=e.id, version=1, reference={}, noise_sd=1.0)
        for e in chain
    ]
    order: Any = SimpleNamespace(runs=runs, seed=1)
    lab = Lab(
        order, study, nothing, nothing, nothing, nothing, nothing, "base", masters[-1], {}, "", ""
    )
    lab.masters, lab.history, lab.ending = masters, list(chain), True
    return lab


def _promoted(at: int, gain: float) -> Experiment:
    hypothesis = Hypothesis(
        id=f"h{at:04d}", title=f"change {at}", rationale="", kind="structural", parent=""
    )
    lucky = GateDecision(
        verdict="promoted", pairs=6, looks=2, gain=max(gain, 1.2), low=0.1, high=3.0,
        p_value=0.016, alpha=0.05, reason="better",
    )  # fmt: skip
    return Experiment(
        id=f"e{at:04d}",
        hypothesis=hypothesis,
        candidate=_name(frozenset(range(at + 1))),
        parent="",
        verdict=Verdict.PROMOTED,
        decision=lucky,
    )


def _name(parts: frozenset[int]) -> str:
    return "+" + ",".join(map(str, sorted(parts)))


def _parts(commit: str) -> frozenset[int]:
    return frozenset(int(word) for word in commit[1:].split(",") if word)


@dataclass(frozen=True)
class Rates:
    """Over many campaigns: shares of the planted changes, and mean runs."""

    useless_dropped: float
    true_kept: float
    runs: float


def rates(gains: Sequence[float], campaigns: int, *, heavy: bool = False, first: int = 0) -> Rates:
    """What becomes of planted changes: those of gain 0 are useless. NaN where none is planted."""
    ends = [end_of_campaign(gains, seed, heavy=heavy) for seed in range(first, first + campaigns)]
    useless = [d for end in ends for d, g in zip(end.dropped, gains, strict=True) if g == 0]
    true = [not d for end in ends for d, g in zip(end.dropped, gains, strict=True) if g > 0]
    return Rates(
        float(np.mean(useless)) if useless else float("nan"),
        float(np.mean(true)) if true else float("nan"),
        float(np.mean([end.runs for end in ends])),
    )
