"""What `manyhands.testing` promises to those who test with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from manyhands.errors import ManyhandsError
from manyhands.testing import CrashPoint, ManualClock, Victims, crash_points

SCRIPT = """
import os, time

def program(on_boundary, name):
    for n in range(1, 4):
        on_boundary("before", n)
        on_boundary("after", n)
    if name == "hang":
        time.sleep(60)
    if name == "raise":
        raise ValueError("no")
    print("not an answer")
    return [name, os.getpid()]
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


async def test_a_manual_clock_moves_only_when_it_is_told() -> None:
    clock = ManualClock(now=100)
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.time()))

    tasks = [asyncio.create_task(sleep(n, s)) for n, s in (("b", 20), ("a", 10), ("c", 99))]
    await clock.sleepers(3)
    await clock.advance(30)
    assert woken == [("a", 110), ("b", 120)]
    assert clock.time() == 130
    tasks[-1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert clock.sleeping == 0


async def test_a_manual_clock_ends_what_is_within_a_limit() -> None:
    clock = ManualClock()
    limit = clock.timeout(5)

    async def wait() -> None:
        async with limit:
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await clock.sleepers(1)
    await clock.advance(5)
    with pytest.raises(TimeoutError):
        await waiting
    assert limit.expired()
    async with clock.timeout(5):
        pass
    await clock.advance(10)
    assert clock.sleeping == 0


async def test_a_jumping_clock_never_waits() -> None:
    clock = ManualClock(now=0, jump=True)
    await clock.sleep(1_000_000)
    assert clock.time() == 1_000_000


def test_a_program_is_killed_where_it_is_said(script: Path) -> None:
    with Victims(script, "program") as victims:
        whole = victims.run("x")
        assert (whole.killed, whole.value[0], whole.commits) == (False, "x", 3)
        assert all(victims.run("x", kill=point).killed for point in crash_points(3))
        assert not victims.run("x", kill=CrashPoint("before", 4)).killed
        assert victims.run("hang", kill=0.05).killed
        assert victims.run("x").value[1] != whole.value[1]  # each in a process of its own


def test_a_program_that_raises_or_hangs_is_an_error(script: Path) -> None:
    with Victims(script, "program") as victims:
        with pytest.raises(ManyhandsError, match="ValueError: no"):
            victims.run("raise")
        with pytest.raises(ManyhandsError, match=r"not ended after 0\.1 s"):
            victims.run("hang", seconds=0.1)
        assert victims.run("x").value[0] == "x"


def test_points_are_all_boundaries() -> None:
    assert [(p.moment, p.commit) for p in crash_points(2)] == [
        ("before", 1),
        ("after", 1),
        ("before", 2),
        ("after", 2),
    ]
