"""Circles of turns: found when they close, and only then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.agents.progress import LONGEST, Repetition
from manyhands.ports import ToolCall


def turn(mark: str, result: str = "") -> tuple[list[ToolCall], list[str]]:
    """The id of a call is a server's, so it says nothing."""
    return [ToolCall(f"id-{id(object())}", "look", mark)], [result]


@pytest.mark.parametrize("length", range(1, LONGEST + 1))
@pytest.mark.parametrize("repeats", [2, 3])
def test_a_circle_is_found_when_it_has_closed_often_enough(length: int, repeats: int) -> None:
    repetition = Repetition(repeats)
    marks = [str(at % length) for at in range(length * repeats)]
    found = [repetition.seen(*turn("before")), *(repetition.seen(*turn(mark)) for mark in marks)]
    assert found == [0] * length * repeats + [length]


def test_it_goes_on_being_a_circle_until_something_new_happens() -> None:
    repetition = Repetition(3)
    assert [repetition.seen(*turn("a")) for _ in range(5)] == [0, 0, 1, 1, 1]
    assert repetition.seen(*turn("b")) == 0


def test_a_result_that_changes_is_no_circle() -> None:
    repetition = Repetition(2)
    assert not any(repetition.seen(*turn("a", str(at))) for at in range(20))


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(2, 4))
def test_what_it_says_is_a_circle_is_one(marks: str, repeats: int) -> None:
    repetition = Repetition(repeats)
    for at, mark in enumerate(marks):
        length = repetition.seen(*turn(mark))
        seen = marks[: at + 1]
        circles = [
            n
            for n in range(1, LONGEST + 1)
            if len(seen) >= n * repeats and seen[-n * repeats :] == seen[-n:] * repeats
        ]
        assert length == min(circles, default=0)
