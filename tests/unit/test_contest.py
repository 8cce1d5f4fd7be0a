"""The paired comparison of arms: exact where it can be counted, and corrected."""

from __future__ import annotations

import itertools
import random

import pytest

from manyhands.teams.lab.contest import (
    band,
    compare,
    holm,
    least_p,
    pairs_needed,
    signed_rank,
)


def counted(differences: list[float]) -> float:
    """The same test by hand: ranks of the sizes (no zeros, no ties), every sign as likely."""
    order = sorted(range(len(differences)), key=lambda at: abs(differences[at]))
    rank = {at: n for n, at in enumerate(order, 1)}
    total = sum(rank.values())

    def away(signs: tuple[bool, ...]) -> float:
        return abs(sum(rank[at] for at, up in enumerate(signs) if up) - total / 2)

    seen = away(tuple(d > 0 for d in differences))
    every = [away(signs) for signs in itertools.product((False, True), repeat=len(differences))]
    return sum(each >= seen - 1e-9 for each in every) / len(every)


@pytest.mark.parametrize("seed", range(5))
def test_few_pairs_are_counted_exactly(seed: int) -> None:
    rng = random.Random(seed)
    differences = [rng.gauss(0.5, 1) for _ in range(rng.randint(2, 9))]
    assert signed_rank(differences) == pytest.approx(counted(differences))


def test_nothing_differs_and_everything_does() -> None:
    assert signed_rank([0.0, 0.0, 0.0]) == 1.0
    assert signed_rank([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(least_p(5)) == 1 / 16
    assert signed_rank([1.0, 0.0, 0.0, 0.0]) > 0.4
    assert signed_rank([1.0 + n / 100 for n in range(40)]) < 1e-6


def test_holm_is_the_textbooks() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_arms_are_compared_block_by_block() -> None:
    gains = {
        "a": {"1": 1.0, "2": 2.0, "3": 3.0},
        "b": {"1": 1.5, "2": 2.75, "3": 4.0, "4": 100.0},
        "c": {"9": 0.0},
    }
    (found,) = compare(gains)
    assert (found.better, found.other, found.pairs, found.wins) == ("b", "a", 3, 3)
    assert found.difference == 0.75
    assert found.p_value == pytest.approx(0.25)
    assert compare(gains, over="c") == ()


def test_how_many_seeds_a_verdict_takes_at_least() -> None:
    assert pairs_needed(1) == 6
    assert least_p(6) < 0.05 < least_p(5)
    assert pairs_needed(15) == 10


def test_a_band_holds_the_true_mean_as_often_as_it_says() -> None:
    rng = random.Random(1)
    held = 0
    for _ in range(400):
        _, low, high = band([rng.gauss(2.0, 1.0) for _ in range(5)])
        held += low <= 2.0 <= high
    assert 0.92 < held / 400 < 0.98
    assert band([3.0]) == (3.0, 3.0, 3.0)
