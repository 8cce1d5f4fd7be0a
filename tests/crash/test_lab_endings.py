"""The end of a campaign killed again and again: nothing is lost, nothing is done twice.

The jobs are simulated, so that a life costs little; journal, repository and lab are real.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.lab_lives import RUN, Lives
from tests.crash.test_lab_lives import check_no_finished_job_ran_again
from tests.studies import git, lay_out
from tests.studies.landscape import SimulatedJobs, lucky

RUNS = 130


def begin(folder: Path) -> Lives:
    lay_out("landscape", folder / "study")
    return Lives(folder, RUNS, jobs=SimulatedJobs(lucky, world=2))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    lives = begin(tmp_path_factory.mktemp("whole"))
    assert lives.live()
    phases = {row["phase"] for row in lives.ledger()}
    assert phases >= {"ablate"}, "the campaign is too short to test its end"
    assert "dropped" in {row["verdict"] for row in lives.ledger()}
    return lives


def die(lives: Lives, moment: str, count: int) -> bool:
    before, jobs = lives.finished_steps(), len(lives.jobs_ended())
    ended = lives.live(at=(moment, count))
    check_no_finished_job_ran_again(lives, before, jobs)
    return ended


def same(lives: Lives, other: Lives) -> None:
    assert lives.ledger() == other.ledger()
    trees = [
        git(each.folder / "study", "log", "--format=%T %B", f"manyhands/landscape/{RUN}")
        for each in (lives, other)
    ]
    assert trees[0] == trees[1]
    refs = [
        git(each.folder / "study", "for-each-ref", "--format=%(refname) %(objectname:short)")
        for each in (lives, other)
    ]
    assert refs[0] == refs[1]


@pytest.mark.slow
def test_the_end_of_a_campaign_survives_a_few_deaths(tmp_path: Path, uninterrupted: Lives) -> None:
    lives = begin(tmp_path)
    for moment, count in (("ending", 3), ("before", 12), ("after", 9), ("before", 16)):
        assert not die(lives, moment, count), "it was to die"
    assert lives.live()
    same(lives, uninterrupted)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_end_of_a_campaign_survives_a_death_at_every_boundary(
    tmp_path: Path, uninterrupted: Lives
) -> None:
    lives = begin(tmp_path)
    assert not die(lives, "ending", 1), "it was to die"
    reach = {"before": 2, "after": 2}
    deaths, known = 0, 0
    while True:
        moment = ("before", "after")[deaths % 2]
        if die(lives, moment, reach[moment]):
            break
        deaths += 1
        work = lives.events_of_work()
        if work == known:
            reach[moment] += 1
            assert max(reach.values()) < 14, "no life gets any further"
        known = work
    assert deaths > 40
    same(lives, uninterrupted)
