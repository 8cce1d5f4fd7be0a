"""A question survives SIGKILL at any commit of its journal: the same answer, nothing done twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyhands.testing.crash import CrashPoint, Ending, Victims, crash_points

PROGRAM = Path(__file__).parent / "answer_program.py"


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    with Victims(PROGRAM, "ask") as made:
        yield made


@pytest.fixture(scope="module")
def whole(victims: Victims, tmp_path_factory: pytest.TempPathFactory) -> Ending:
    ending = victims.run(str(tmp_path_factory.mktemp("whole")))
    assert ending.value["outcome"]["complete"]
    assert ending.value["outcome"]["revisions"]
    return ending


def check(victims: Victims, whole: Ending, folder: Path, point: CrashPoint | float) -> bool:
    """Whether it was killed at all; it may have been quicker than its death."""
    killed = victims.run(str(folder), kill=point).killed
    ended = victims.run(str(folder)).value
    same = ("outcome", "finished", "remembered")
    assert {k: ended[k] for k in same} == {k: whole.value[k] for k in same}, point
    assert ended["counted"] == ended["leaves"] <= ended["spent"]
    return killed


def test_killed_at_some_commits(victims: Victims, whole: Ending, tmp_path: Path) -> None:
    points = list(crash_points(whole.commits))
    chosen = random.Random(4).sample(points, 12)
    killed = [check(victims, whole, tmp_path / str(i), point) for i, point in enumerate(chosen)]
    assert any(killed)


@pytest.mark.slow
def test_killed_at_every_commit(victims: Victims, whole: Ending, tmp_path: Path) -> None:
    for i, point in enumerate(crash_points(whole.commits)):
        check(victims, whole, tmp_path / str(i), point)
