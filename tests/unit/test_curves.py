"""The curve of a training is read from a stranger's log: numbers, bounded, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from manyhands.teams.lab.curves import MOST_NUMBERS, MOST_POINTS, curve_of, read_curve


def line(**said: object) -> str:
    return json.dumps(said)


def test_known_names_are_shown_under_theirs_and_others_as_they_are() -> None:
    told = line(step=3, loss=2.5, lr_multiplier=1, step_seconds=0.1, tokens_per_second=9.0)
    more = line(step=4, mfu_percent=31.5, epoch=0.5, remaining_steps=6, train_bpb=3.5)
    (first, one), (second, other) = curve_of(["hello", told, "", more])
    assert (first, second) == (3, 4)
    assert one["train/loss"] == 2.5
    assert one["train/lr_multiplier"] == 1.0
    assert other == {
        "train/mfu_percent": 31.5,
        "train/epoch": 0.5,
        "train/remaining_steps": 6.0,
        "train/train_bpb": 3.5,
    }


def test_what_is_no_point_is_left_out() -> None:
    lines = [
        "{",
        "[1]",
        line(loss=1.0),
        line(step="7", loss=1.0),
        line(step=True, loss=1.0),
        line(step=-1, loss=1.0),
        line(step=1, loss="1.0"),
        line(step=2, loss=True),
        '{"step": 3, "loss": NaN}',
        '{"step": 4, "loss": 1e999}',
        '{"step": 5, "loss": ' + "9" * 400 + "}",
        line(step=6, **{"../up": 1.0, "<b>": 2.0, "X": 3.0}),
        "{" * 100_000,
    ]
    assert curve_of(lines) == []


def test_steps_grow_and_points_and_numbers_are_bounded() -> None:
    back = [line(step=n, loss=float(n)) for n in (1, 2, 2, 1, 5)]
    assert [step for step, _ in curve_of(back)] == [1, 2, 5]
    many = curve_of(line(step=n, loss=1.0) for n in range(10_000))
    assert len(many) <= MOST_POINTS
    assert (many[0][0], many[-1][0]) == (0, 9_999)
    (_, wide), *_ = curve_of([line(step=1, **{f"n{i}": i for i in range(500)})])
    assert len(wide) == MOST_NUMBERS


def test_of_a_long_log_both_ends_are_read(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    assert read_curve(log) == []
    middle = b"\xff" * 5_000_000
    log.write_bytes(
        line(step=1, a=1).encode() + b"\n" + middle + b"\n" + line(step=9, a=2).encode()
    )
    assert read_curve(log) == [(1, {"train/a": 1.0}), (9, {"train/a": 2.0})]
