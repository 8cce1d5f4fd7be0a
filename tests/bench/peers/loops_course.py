"""The course that every agent loop runs: one long conversation, or a crowd of short ones.

A loop is a module of this package with ``agents(course)``, an async context manager. It yields a
function that works on a list of tasks at once, one agent each, and returns what they answered. Each
agent asks the model ``course.turns`` times over HTTP; every answer but the last calls the one tool,
`look`. CPU seconds of the process are noted at each call of it, so the time from one note to the
next is a whole turn: whatever the loop does around a request, and the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib
import os
import re
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench.loop_server import DONE, SHORT, SHORT_TURNS, TEXT, answered
from tests.bench.peers.clocks import Span

INSTRUCTIONS = "Look at things, one after the other, until there are none left."

#: How many short agents are measured before the long ones; and how many of these, one after the
#: other, are begun within so many seconds.
SHORTS = 5
LONGS, LONG_SECONDS = 5, 5.0

#: Takes tasks, returns the answers.
Many = Callable[[Sequence[str]], Awaitable[list[str]]]

#: CPU seconds of the process at each call of the tool.
_notes: list[float] = []


@dataclass(frozen=True)
class Course:
    """``count`` agents at once, each asking the server at ``url`` exactly ``turns`` times."""

    folder: Path
    url: str
    turns: int
    count: int = 1


def looked(number: int) -> str:
    """What the tool does; the loops wrap it as they document it."""
    _notes.append(time.process_time())
    return f"{number}: {TEXT}"


async def look(number: int) -> str:
    """Look at one thing.

    Args:
        number: which
    """
    return looked(number)


def together(one: Callable[[str], Awaitable[str]]) -> Many:
    """Many of what a loop does for one task."""

    async def many(tasks: Sequence[str]) -> list[str]:
        return list(await asyncio.gather(*map(one, tasks)))

    return many


def long(folder: str, peer: str, url: str, turns: int) -> dict[str, Any]:
    """Short agents one after the other, then those of ``turns`` requests; CPU µs of each turn.

    ``long_us[i][k]``, and ``short_us[i][k]`` for the short ones but the first, is that of request
    number k + 2: from the tool's call before it to the tool's call that it brings. A loop that is
    quickly done has some more long ones, since a busy moment weighs more with it.
    """

    async def turns_us(many: Many, name: str, turns: int) -> list[int]:
        _notes.clear()
        await _run(many, [name])
        if len(_notes) != turns - 1:
            raise AssertionError(f"{len(_notes)} calls of the tool, not {turns - 1}")
        return [round((b - a) * 1e6) for a, b in pairwise(_notes)]

    async def main(many: Many) -> dict[str, Any]:
        await _run(many, [SHORT])
        short_us = [await turns_us(many, f"{SHORT}-{n}", SHORT_TURNS) for n in range(SHORTS)]
        span = Span()
        span.begin()
        begun = time.monotonic()
        long_us: list[list[int]] = []
        while not long_us or (len(long_us) < LONGS and time.monotonic() - begun < LONG_SECONDS):
            long_us.append(await turns_us(many, f"conversation-long-{len(long_us)}", turns))
        return span.end(len(long_us) * turns) | {"long_us": long_us, "short_us": short_us}

    return _on_course(peer, Course(Path(folder), url, turns), main)


def crowd(folder: str, peer: str, url: str, turns: int, count: int) -> dict[str, Any]:
    """``count`` agents at once, after one alone; also the most memory of the one and of the many.

    ``one_rss`` and ``many_rss``: peaks of the resident bytes while that many were live.
    """

    async def main(many: Many) -> dict[str, Any]:
        await _run(many, [SHORT])
        await _peak(many, ["conversation-alone"])
        one_rss = await _peak(many, ["conversation-one"])
        _notes.clear()
        span = Span()
        span.begin()
        many_rss = await _peak(many, [f"conversation-{n}" for n in range(count)])
        found = span.end(count * turns)
        if len(_notes) != count * (turns - 1):
            raise AssertionError(f"{len(_notes)} calls of the tool, not {count * (turns - 1)}")
        return found | {"one_rss": one_rss, "many_rss": many_rss, "agents": count}

    return _on_course(peer, Course(Path(folder), url, turns, count), main)


def _on_course(
    peer: str, course: Course, main: Callable[[Many], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # Nothing stands between a loop and the server.
    agents: Callable[[Course], AbstractAsyncContextManager[Many]] = importlib.import_module(
        f"tests.bench.peers.{peer}"
    ).agents

    async def run() -> dict[str, Any]:
        async with agents(course) as many:
            return await main(many)

    found = asyncio.run(run())
    found["requests"] = answered(course.url)
    return found


async def _run(many: Many, names: Sequence[str]) -> None:
    answers = await many([f"Look at things. This is {name}." for name in names])
    if len(answers) != len(names) or any(answer != DONE for answer in answers):
        raise AssertionError(f"{len(answers)} answers to {len(names)} tasks: {answers[:3]}")


async def _peak(many: Many, names: Sequence[str]) -> int:
    _forget_peak()
    await _run(many, names)
    return _peak_rss()


def _forget_peak() -> None:
    """Give back what is free, so that growth is not hidden in it, and begin the mark anew.

    Both only on Linux. Elsewhere the mark is that of the process's whole life.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    marks = Path("/proc/self/clear_refs")
    if marks.exists():
        marks.write_text("5")


def _peak_rss() -> int:
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
