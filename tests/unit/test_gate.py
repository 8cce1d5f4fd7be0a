from __future__ import annotations

import math
import random

import pytest

from manyhands.errors import ConfigError
from manyhands.teams.lab.gate import (
    CRASHED,
    GateSettings,
    decide,
    estimate_noise,
    interval,
    next_pairs,
    screen,
)
from manyhands.teams.lab.noise import Noise, power_table, render_power, simulate, wilson

DEFAULT = GateSettings()


def gains(mean: float, sd: float, pairs: int, seed: int = 1) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(mean, sd) for _ in range(pairs)]


def test_a_large_gain_is_promoted_at_the_first_chance():
    decision = decide(DEFAULT, [0.11, 0.12, 0.1, 0.13, 0.12, 0.11])
    assert decision is not None
    assert (decision.verdict, decision.pairs, decision.looks) == ("promoted", 6, 4)
    assert decision.gain == pytest.approx(0.115)
    assert decision.p_value == 1 / 64
    assert decision.low is not None
    assert 0 < decision.low <= decision.gain


def test_five_pairs_are_never_enough_at_the_default_alpha():
    assert decide(DEFAULT, [10.0] * 5) is None
    assert next_pairs(DEFAULT, [10.0] * 5) == 1


def test_a_loss_ends_after_three_pairs():
    decision = decide(DEFAULT, [-0.1, -0.12, -0.09])
    assert decision is not None
    assert (decision.verdict, decision.pairs) == ("not_better", 3)
    assert (decision.low, decision.high) == (None, None)
    assert "28 pairs" in decision.reason


def test_a_candidate_that_is_bit_identical_to_the_master_is_not_better():
    decision = decide(DEFAULT, [0.0] * 28)
    assert decision is not None
    assert (decision.verdict, decision.pairs, decision.p_value) == ("not_better", 3, 1.0)


def test_a_gain_without_any_noise_is_promoted():
    decision = decide(DEFAULT, [0.001] * 6)
    assert decision is not None
    assert decision.verdict == "promoted"
    assert decision.low == pytest.approx(0.001)


def test_a_gain_that_never_becomes_clear_is_inconclusive_at_the_cap():
    settings = GateSettings(max_pairs=6)
    decision = decide(settings, [1.2, 1.0, 1.0, 1.0, -0.4, -0.4])
    assert decision is not None
    assert (decision.verdict, decision.pairs) == ("inconclusive", 6)
    assert decision.p_value > settings.alpha


def test_pairs_are_asked_for_up_to_the_next_look():
    values = gains(1.0, 2.0, 28)
    done: list[float] = []
    asked: list[int] = []
    while more := next_pairs(DEFAULT, done):
        asked.append(more)
        done += values[len(done) : len(done) + more]
    assert asked[:4] == [3, 1, 1, 1]
    assert set(asked[4:]) <= {2}
    assert decide(DEFAULT, done) is not None


def test_pairs_that_run_ahead_change_nothing():
    values = gains(1.2, 1.4, 28, seed=3)
    ends = [decide(DEFAULT, values[:n]) for n in range(29)]
    first = next(n for n, end in enumerate(ends) if end is not None)
    assert all(end == ends[first] for end in ends[first:])


def test_a_crashed_candidate_is_not_better_and_its_pair_counts():
    decision = decide(DEFAULT, [5.0, 5.0, CRASHED, 5.0, 5.0, 5.0, 5.0])
    assert decision is not None
    assert (decision.verdict, decision.pairs, decision.p_value) == ("not_better", 3, 1.0)
    assert decision.reason == "the candidate gave no metric in pair 3"
    assert next_pairs(DEFAULT, [5.0, CRASHED]) == 0
    first = decide(DEFAULT, [CRASHED])
    assert first is not None
    assert first.gain == 0.0


def test_a_crash_after_the_deciding_look_does_not_matter():
    decision = decide(DEFAULT, [0.1, 0.2, 0.1, 0.2, 0.1, 0.2, CRASHED])
    assert decision is not None
    assert decision.verdict == "promoted"


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_pair_without_a_master_must_be_measured_again(lost: float):
    with pytest.raises(ValueError, match=r"pair 2 .*measure the master"):
        decide(DEFAULT, [0.1, lost, 0.1])


def test_a_gain_counts_only_beyond_min_gain():
    values = [0.011, 0.012, 0.01, 0.013, 0.012, 0.011]
    small = decide(GateSettings(min_gain=0.02), values)
    enough = decide(GateSettings(min_gain=0.005), values)
    assert small is not None
    assert enough is not None
    assert (small.verdict, enough.verdict) == ("not_better", "promoted")
    assert enough.gain == pytest.approx(0.0115)
    assert enough.low is not None
    assert enough.low >= 0.005


def test_one_diverged_run_of_the_master_does_not_promote():
    assert decide(DEFAULT, [1e6, 0.1, -0.2, 0.1, -0.1, -0.2]) is None


def test_one_diverged_run_of_the_candidate_does_not_hide_a_gain():
    values = gains(2.0, 1.0, 28, seed=5)
    values[4] = -1e6
    decision = decide(DEFAULT, values)
    assert decision is not None
    assert decision.verdict == "promoted"


def test_the_looks_follow_the_settings():
    assert DEFAULT.first == 6
    assert DEFAULT.looks == (3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28)
    assert GateSettings(step=8).looks == (3, 4, 5, 6, 14, 22, 28)
    assert GateSettings(alpha=0.01).first == 9
    assert GateSettings(max_pairs=5).looks == (3, 4, 5)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_pairs": 4}, "max_pairs is 4; at alpha 0.05 it must be 5 to 1024"),
        ({"max_pairs": 5000}, "5000"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"alpha": 0.7}, "alpha is 0.7"),
        ({"step": 0}, "step is 0"),
        ({"min_gain": math.nan}, "min_gain nan"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, float], named: str):
    with pytest.raises(ConfigError, match=named) as refused:
        GateSettings(**settings)  # type: ignore[arg-type]
    assert refused.value.next


def test_there_is_no_bound_before_a_promotion_is_possible():
    assert interval(DEFAULT, [1.0, 2.0, 1.5, 1.2, 0.8]) == (None, None)
    low, high = interval(DEFAULT, [1.0, 2.0, 1.5, 1.2, 0.8, 1.1])
    assert low == pytest.approx(0.8, abs=0.01)
    assert high == pytest.approx(2.0, abs=0.01)


def test_the_screen_drops_what_no_gain_would_show():
    assert screen([0.0], 1.0)
    assert screen([-1.5], 1.0)
    assert not screen([-1.8], 1.0)
    assert not screen([-0.6] * 4, 1.0)
    assert not screen([1.0], 0.1, min_gain=2.0)


def test_the_screen_without_noise_wants_a_gain_and_without_an_estimate_wants_nothing():
    assert screen([1e-9], 0.0)
    assert not screen([0.0], 0.0)
    assert screen([-100.0], None)


@pytest.mark.parametrize("lost", [[], [CRASHED], [1.0, math.nan]])
def test_a_crash_in_the_screen_is_not_worth_confirming(lost: list[float]):
    assert not screen(lost, None)


def test_noise_from_four_runs_is_unbiased():
    found = [estimate_noise(gains(3.0, 2.0, 4, seed=seed)) for seed in range(4000)]
    assert sum(found) / len(found) == pytest.approx(2.0, rel=0.03)
    assert estimate_noise([1.0, 1.0]) == 0.0


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan]])
def test_noise_needs_two_runs(values: list[float]):
    with pytest.raises(ValueError, match="two finite runs"):
        estimate_noise(values)


def test_simulations_repeat():
    again = [simulate(DEFAULT, Noise.GAUSSIAN, gain_sd=1.0, candidates=50) for _ in range(2)]
    assert again[0] == again[1]
    other = simulate(DEFAULT, Noise.GAUSSIAN, gain_sd=1.0, candidates=50, seed=1)
    assert again[0] != other


def test_the_power_table_has_a_row_per_noise_and_gain():
    rows = power_table(candidates=20, gains_sd=(0.0, 1.0))
    assert [(row["noise"], row["gain_sd"]) for row in rows][:2] == [
        ("gaussian", 0.0),
        ("gaussian", 1.0),
    ]
    assert len(rows) == 2 * len(Noise)
    text = render_power(rows)
    assert len(text.splitlines()) == 1 + len(rows)
    assert "lower once" in text


def test_wilson_matches_published_values():
    low, high = wilson(0, 10)
    assert (low, high) == (0.0, pytest.approx(0.2775, abs=1e-3))
    assert wilson(50, 1000) == (pytest.approx(0.0381, abs=1e-3), pytest.approx(0.0653, abs=1e-3))
