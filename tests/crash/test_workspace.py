"""A coder survives SIGKILL at any commit of its journal: the same files, no command twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyhands.testing.crash import CrashPoint, Ending, Victims, crash_points

PROGRAM = Path(__file__).parent / "workspace_program.py"


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    with Victims(PROGRAM, "code") as made:
        yield made


def whole(victims: Victims, folder: Path, real: bool) -> Ending:
    ending = victims.run(str(folder / "whole"), real)
    files = ending.value["files"]
    assert files["src/b.py"] == "1\nthree\n"
    assert files["base/kept"] == "changed\n"
    assert files["log"] == "first\nsecond\nthird\n"
    kinds = {path: node["kind"] for path, node in ending.value["tree"]["nodes"].items()}
    assert kinds["link"] == "link"
    assert kinds["empty"] == "folder"
    assert kinds["base/gone"] == kinds.get("src/a.py", "gone") == "gone"
    assert [act[1] for act in ending.value["acts"] if act[0]] == [0, 3, 0]
    assert sum(not act[2] for act in ending.value["acts"]) == 1
    return ending


def check(victims: Victims, ending: Ending, folder: Path, point: CrashPoint, real: bool) -> bool:
    """Whether it was killed at all; it may have been quicker than its death."""
    killed = victims.run(str(folder), real, kill=point).killed
    assert victims.run(str(folder), real).value == ending.value, point
    ended = ending.value["ended"]
    assert len(ended) == len(set(ended)) == len(ending.value["acts"])
    return killed


def test_killed_at_some_commits(victims: Victims, tmp_path: Path) -> None:
    ending = whole(victims, tmp_path, False)
    chosen = random.Random(5).sample(list(crash_points(ending.commits)), 8)
    killed = [
        check(victims, ending, tmp_path / str(i), point, False) for i, point in enumerate(chosen)
    ]
    assert any(killed)


@pytest.mark.needs("bubblewrap")
@pytest.mark.slow
def test_killed_at_some_commits_in_real_sandboxes(victims: Victims, tmp_path: Path) -> None:
    ending = whole(victims, tmp_path, True)
    chosen = random.Random(6).sample(list(crash_points(ending.commits)), 6)
    killed = [
        check(victims, ending, tmp_path / str(i), point, True) for i, point in enumerate(chosen)
    ]
    assert any(killed)


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.needs("bubblewrap"))])
def test_killed_at_every_commit(victims: Victims, tmp_path: Path, real: bool) -> None:
    ending = whole(victims, tmp_path, real)
    points = list(crash_points(ending.commits))
    killed = [
        check(victims, ending, tmp_path / str(i), point, real) for i, point in enumerate(points)
    ]
    assert sum(killed) > len(points) // 2  # commits are grouped by chance: some runs have fewer
