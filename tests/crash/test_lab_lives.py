"""A study killed at every append boundary, and at random moments, ends as if it never was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.lab_lives import RUN, Lives
from tests.studies import lay_out

RUNS = 34


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    lives = begin(tmp_path_factory.mktemp("whole"))
    assert lives.live()
    ledger = lives.ledger()
    assert {row["verdict"] for row in ledger} >= {"baseline", "promoted"}
    return ledger


def begin(folder: Path) -> Lives:
    lay_out("regression", folder / "study")
    return Lives(folder, RUNS)


def check_no_finished_job_ran_again(lives: Lives, before: set[str], jobs: int) -> None:
    """What had its end in the journal when a life began did not run in that life."""
    for key in lives.jobs_ended()[jobs:]:
        step = key.removeprefix(f"{RUN}/").removesuffix("/evaluate").removesuffix("/holdout")
        assert step not in before, f"{step} was finished and ran again"


def live_through(lives: Lives, next_death: object, most: int) -> int:
    """Lives until the study has ended; returns how many were cut short."""
    deaths = 0
    while True:
        before, jobs = lives.finished_steps(), len(lives.jobs_ended())
        ended = lives.live(**next_death(deaths)) if deaths < most else lives.live()  # type: ignore[operator]
        check_no_finished_job_ran_again(lives, before, jobs)
        if ended:
            return deaths
        deaths += 1


def test_ledger_is_equal_when_killed_at_append_boundaries(
    tmp_path: Path, uninterrupted: list[dict[str, object]]
) -> None:
    lives = begin(tmp_path)

    # A resumed life's first boundary is its own opening; later ones are the work's.
    def death(n: int) -> dict[str, object]:
        return {"at": (("before", "after")[n % 2], 4 + n % 9)}

    deaths = live_through(lives, death, most=12)
    assert deaths >= 8
    assert lives.ledger() == uninterrupted


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ledger_is_equal_when_killed_at_every_append_boundary(
    tmp_path: Path, uninterrupted: list[dict[str, object]]
) -> None:
    lives = begin(tmp_path)
    # Alternately just before a commit and just after one, each time at the first that gets further:
    # the boundaries of opening a run come in every life, so the number is raised until one does.
    reach = {"before": 2, "after": 2}
    deaths, known = 0, 0
    while True:
        moment = ("before", "after")[deaths % 2]
        before, jobs = lives.finished_steps(), len(lives.jobs_ended())
        ended = lives.live(at=(moment, reach[moment]))
        check_no_finished_job_ran_again(lives, before, jobs)
        if ended:
            break
        deaths += 1
        work = lives.events_of_work()
        if work == known:
            reach[moment] += 1
            assert max(reach.values()) < 12, "no life gets any further"
        known = work
    assert deaths > 60
    assert lives.ledger() == uninterrupted


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ledger_is_equal_when_killed_at_500_random_moments(
    tmp_path: Path, uninterrupted: list[dict[str, object]]
) -> None:
    chance = random.Random(11)
    deaths = 0
    for attempt in range(100):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        lives = begin(folder)
        deaths += live_through(lives, lambda n: {"after": chance.uniform(0.05, 1.2)}, most=500)
        assert lives.ledger() == uninterrupted
        if deaths >= 500:
            return
    pytest.fail(f"only {deaths} deaths")
