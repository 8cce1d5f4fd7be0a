"""Errors of workers do not grow on their way into the answer: see `tests.answering.containment`."""

from __future__ import annotations

import pytest

from tests.answering.containment import ACCEPTS, BOUND, LEAVES, Simulation


@pytest.mark.parametrize(("leaf", "accept"), [(0.1, 0.3), (0.4, 0.0)])
async def test_a_team_is_not_wrong_more_often_than_a_worker(leaf: float, accept: float) -> None:
    rates = await Simulation(leaf, accept).run(12)
    assert rates.unchecked > rates.one > 0
    assert rates.team <= BOUND * rates.one


@pytest.mark.slow
@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("accept", ACCEPTS)
async def test_at_every_rate_of_errors(leaf: float, accept: float) -> None:
    rates = await Simulation(leaf, accept).run(60)
    assert rates.team <= BOUND * rates.one


async def test_a_simulation_that_checks_nothing_would_be_seen() -> None:
    """Workers that never err are never wrong, and the answers hold what they said."""
    rates = await Simulation(0.0, 0.3).run(3)
    assert (rates.one, rates.unchecked, rates.team) == (0.0, 0.0, 0.0)
