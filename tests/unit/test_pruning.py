"""Early stopping: what a curve must look like to be ended, and what it can never do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator

import pytest

from manyhands.teams.lab.pruning import DIVERGED, PRUNED, RUNGS, Ended, Rungs, Watcher

STEPS = 64
MASTER: tuple[Rungs, ...] = ((3.0, 2.5, 2.0), (3.1, 2.4, 2.1), (2.9, 2.6, 1.9))


def printed(loss: Callable[[float], float], steps: int = STEPS) -> Iterator[bytes]:
    """What a training prints, a line for each step; ``loss``: of the share that is done."""
    yield b"begun\n"
    for step in range(1, steps + 1):
        told = {"step": step, "loss": loss(step / steps), "remaining_steps": steps - step}
        yield json.dumps(told).encode() + b"\n"
    yield b'{"metric": 1.0}\n'


def run(watcher: Watcher, loss: Callable[[float], float], steps: int = STEPS) -> Ended | None:
    try:
        for line in printed(loss, steps):
            watcher(line)
    except Ended as ended:
        return ended
    return None


def like_master(share: float) -> float:
    return 3.2 - 2.4 * share


def test_the_rungs_of_a_curve_are_means_before_them() -> None:
    watcher = Watcher()
    assert run(watcher, like_master) is None
    assert watcher.rungs == pytest.approx([like_master(r * 0.9) for r in RUNGS], abs=0.03)


def test_what_falls_far_behind_the_master_is_ended_and_says_so() -> None:
    watcher = Watcher(MASTER, prunes=True)
    ended = run(watcher, lambda share: 6.0 - share)
    assert ended is not None
    assert ended.exit == PRUNED
    assert "after 12% of its training its loss was 5.88" in ended.why
    assert len(watcher.rungs) == 1


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.15])
def test_what_is_better_or_near_goes_on(shift: float) -> None:
    watcher = Watcher(MASTER, prunes=True)
    assert run(watcher, lambda share: like_master(share) + shift) is None
    assert len(watcher.rungs) == len(RUNGS)


def test_one_that_begins_badly_and_catches_up_is_ended_only_where_it_is_behind() -> None:
    late = Watcher([(None, 2.5, 2.0)] * 3, prunes=True)
    assert run(late, lambda share: 9.0 if share < 0.15 else 2.0) is None


def test_halving_alone_ends_nothing() -> None:
    """Far below the best of many, and no worse than the master."""
    best = [(1.0, 0.9, 0.8)] * 20
    assert run(Watcher(MASTER, best, prunes=True), like_master) is None


def test_falling_behind_alone_ends_nothing() -> None:
    """Worse than the master, and in the better half at the first rung; at the second one only those
    are left who were in it."""
    worse = [(30.0 + n, 30.0 + n, 30.0 + n) for n in range(20)]
    ended = run(Watcher(MASTER, worse, prunes=True), lambda share: 4.5)
    assert ended is not None
    assert "after 25% of its training" in ended.why


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (lambda share: math.nan if share > 0.05 else 3.0, "its loss is nan"),
        (lambda share: math.inf if share > 0.05 else 3.0, "its loss is inf"),
        (lambda share: 3.0 - 8 * share if share < 0.2 else 9.0, "the loss rose to"),
    ],
)
def test_what_diverges_is_ended(loss: Callable[[float], float], why: str) -> None:
    ended = run(Watcher(prunes=True), loss)
    assert ended is not None
    assert ended.exit == DIVERGED
    assert why in ended.why


def test_what_is_no_screening_is_only_read() -> None:
    watcher = Watcher(MASTER, prunes=False)
    assert run(watcher, lambda share: math.nan if share > 0.9 else 99.0) is None
    assert watcher.rungs == pytest.approx([99.0] * 3)


@pytest.mark.parametrize("cut", [1, 7, 4096])
def test_chunks_may_be_cut_anywhere(cut: int) -> None:
    text = b"".join(printed(like_master))
    whole, pieces = Watcher(), Watcher()
    whole(text)
    for at in range(0, len(text), cut):
        pieces(text[at : at + cut])
    assert pieces.rungs == whole.rungs


@pytest.mark.parametrize(
    "text",
    [
        b'{"step": 1, "loss": 1e400, "remaining_steps": 9}\n',
        b'{"step": -1, "loss": 1, "remaining_steps": 9}\n',
        b'{"step": 1, "loss": 1, "remaining_steps": -1}\n',
        b'{"step": 1, "loss": "x", "remaining_steps": 9}\n',
        b'{"step": ' + b"9" * 5000 + b"}\n",
        b'{"step"' * 100_000,
        b"\xff\xfe\n" * 1000,
    ],
)
def test_nonsense_is_no_curve(text: bytes) -> None:
    watcher = Watcher(MASTER)
    watcher(text)
    assert watcher.rungs == ()
