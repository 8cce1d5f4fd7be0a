"""An order to the code team survives SIGKILL at any commit of its journal: the same workspace,
no finished command twice, and none repeated whose effect may be out in the world."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyhands.testing.crash import CrashPoint, Ending, Victims, crash_points

PROGRAM = Path(__file__).parent / "code_program.py"
#: Of the crash points, so that they are spread over workers.
PARTS = 4
pytestmark = pytest.mark.needs("bubblewrap")


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    with Victims(PROGRAM, "solve") as made:
        yield made


@pytest.fixture(scope="module")
def whole(victims: Victims, tmp_path_factory: pytest.TempPathFactory) -> Ending:
    ending = victims.run(str(tmp_path_factory.mktemp("whole")))
    assert ending.value["complete"]
    assert ending.value["states"] == ["complete conflict", "complete merged", "complete merged"]
    return ending


def check(victims: Victims, whole: Ending, folder: Path, point: CrashPoint) -> bool:
    """Whether it was killed at all; it may have been quicker than its death."""
    killed = victims.run(str(folder), kill=point).killed
    ended = victims.run(str(folder)).value
    varies = ("spent", "leaves")
    assert {k: v for k, v in ended.items() if k not in varies} == {
        k: v for k, v in whole.value.items() if k not in varies
    }, point
    assert ended["leaves"] <= ended["spent"]
    return killed


def test_killed_at_some_commits(victims: Victims, whole: Ending, tmp_path: Path) -> None:
    points = list(crash_points(whole.commits))
    chosen = random.Random(5).sample(points, 8)
    killed = [check(victims, whole, tmp_path / str(i), point) for i, point in enumerate(chosen)]
    assert any(killed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_commit(victims: Victims, whole: Ending, tmp_path: Path, part: int) -> None:
    for i, point in enumerate(list(crash_points(whole.commits))[part::PARTS]):
        check(victims, whole, tmp_path / str(i), point)


@pytest.mark.slow
def test_an_effect_outside_of_a_sandbox_is_never_repeated(tmp_path: Path) -> None:
    """Without isolation a command is `once`: cut off, it is in doubt, and a person decides."""
    doubts = 0
    with Victims(PROGRAM, "unsafe") as victims:
        whole = victims.run(str(tmp_path / "whole"))
        assert whole.value["effects"] == 1
        for i, point in enumerate(crash_points(whole.commits)):
            folder = tmp_path / str(i)
            victims.run(str(folder), kill=point)
            ended = victims.run(str(folder)).value
            assert ended["effects"] <= 1, point
            if "in_doubt" in ended:
                assert ended["in_doubt"].endswith("/act"), point
                doubts += 1
            else:
                assert ended["effects"] == 1, point
    assert doubts
