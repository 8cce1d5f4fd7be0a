"""A takeover survives SIGKILL at any commit: the person's edits stand, nothing is done twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyhands.testing.crash import CrashPoint, Victims, crash_points

PROGRAM = Path(__file__).parent / "takeover_program.py"


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    with Victims(PROGRAM, "drive") as made:
        yield made


def check(victims: Victims, folder: Path, point: CrashPoint) -> bool:
    killed = victims.run(str(folder), kill=point).killed
    ended = victims.run(str(folder)).value
    first, second = ended["reports"]
    assert '"by":"ada"' in first, point
    assert '"what":"by hand"' in first
    assert '"by"' not in second
    # The person is at the wheel before the agent's first turn, or after one or both of its notes.
    of_a = len(ended["notes"]) - 3
    assert 0 <= of_a <= 2
    assert ended["notes"] == sorted(["mine", "m0", "m1", *["m0", "m1"][:of_a]]), point
    assert ended["states"] == ["resuming"]
    return killed


def test_killed_at_some_commits(victims: Victims, tmp_path: Path) -> None:
    whole = victims.run(str(tmp_path / "whole"))
    points = list(crash_points(whole.commits))
    chosen = random.Random(6).sample(points, 12)
    killed = [check(victims, tmp_path / str(i), point) for i, point in enumerate(chosen)]
    assert any(killed)


@pytest.mark.slow
def test_killed_at_every_commit(victims: Victims, tmp_path: Path) -> None:
    whole = victims.run(str(tmp_path / "whole"))
    for i, point in enumerate(crash_points(whole.commits)):
        check(victims, tmp_path / str(i), point)
