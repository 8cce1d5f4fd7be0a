"""Planners on simulated worlds: what is simulated is what it says, and chance is beaten."""

from __future__ import annotations

import random
from statistics import stdev

import pytest

from manyhands.teams.lab.contest import compare
from manyhands.teams.lab.records import Literalish
from manyhands.teams.lab.settings import Setting
from tests.bench.race import HELD, RUNS
from tests.worlds import ARMS, NOISE, Persona, contest, hybrid, world


@pytest.mark.parametrize("number", range(12))
def test_a_world_is_what_it_says(number: int) -> None:
    it = world(number)
    assert it == world(number)
    best = {}
    for name, setting in it.settings.items():
        at = it.best[name]
        if setting.low:
            best[name] = setting.low * (setting.high / setting.low) ** at
        else:
            best[name] = setting.choices[round(at * (len(setting.choices) - 1))]
    assert it.loss(best) == pytest.approx(0.0, abs=1e-9)
    assert it.loss(it.start) > 5 * NOISE
    useless = [name for name, weight in it.weights.items() if not weight]
    assert len(useless) >= 2
    for name in useless:
        setting = it.settings[name]
        assert it.loss(best | {name: setting.low or setting.choices[-1]}) == pytest.approx(0.0)
    draw = random.Random(1)
    assert stdev(it.noise(draw) for _ in range(4000)) == pytest.approx(NOISE, rel=0.25)
    one, other, _ = it.pairs[0]
    far = {n: _far(it.settings[n], it.best[n]) for n in (one, other)}
    alone = [it.loss(best | {n: far[n]}) for n in far]
    assert it.loss(best | far) != pytest.approx(sum(alone), abs=1e-6), "they interact"


def _far(setting: Setting, best: float) -> Literalish:
    ends = (setting.low, setting.high) if setting.low else (setting.choices[0], setting.choices[-1])
    return ends[0] if best > 0.5 else ends[1]


def test_a_persona_is_right_as_often_as_it_says() -> None:
    it, named = world(3), 0
    useful = [name for name, weight in it.weights.items() if weight]
    persona = Persona(0.75)
    for n in range(300):
        found = {r.setting for r in persona.space(it, n, 1).settings}
        named += sum(name in found for name in useful[:1])
    assert 0.4 < named / 300 < 0.8, "six at most are named, so somewhat less than three in four"
    blind = Persona(0.5).space(it, 1, 1)
    assert {r.setting for r in blind.settings} <= set(it.settings)


def test_a_planner_that_is_told_the_truth_beats_chance_in_few_worlds() -> None:
    """The small form: ten worlds, two seeds each, and a persona that is always right."""
    arms = {"random": ARMS["random"], "hybrid": hybrid(Persona(1.0))}
    found = contest(arms, range(10), range(2), RUNS)
    (told,) = compare(found)
    assert told.better == "hybrid"
    assert told.corrected < 0.05, told


@pytest.mark.slow
def test_tpe_and_hybrid_beat_chance_at_equal_evaluations() -> None:
    """Twelve worlds, ten seeds: the goal of `python -m tests.bench --only race`."""
    found = contest(ARMS, range(12), range(10), RUNS)
    told = {c.better: c for c in compare(found, over="random")}
    for arm in HELD:
        assert told[arm].corrected < 0.05, told[arm]
