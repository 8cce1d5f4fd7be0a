"""Crash points: run a program in a process of its own, kill it where you say, see what is left.

::

    # programs.py
    def order(on_boundary, journal):          # anything that ends; its arguments are JSON
        async def main():
            async with Runtime.open(journal, workflows=[ORDER], on_boundary=on_boundary) as runtime:
                known = any(r.run_id == "order" for r in runtime.runs())
                handle = await (runtime.resume("order") if known
                                else runtime.start(ORDER, run_id="order"))
                return await handle.result()
        return asyncio.run(main())

    # test_order.py
    with Victims("programs.py", "order") as victims:
        whole = victims.run("sqlite:////tmp/a.db")
        for point in crash_points(whole.commits):
            killed = victims.run(journal, kill=point)       # SIGKILL before or after a commit
            ended = victims.run(journal)                    # the same program again, to its end
            assert ended.value == whole.value

Invariant: what is killed is a real process, by SIGKILL, with a real journal on a real disk. It is a
fork of a process that has done nothing but import the program, so a kill costs milliseconds.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

from manyhands.errors import ManyhandsError

_WARM = f"import sys; from {__name__} import serve; serve(*sys.argv[1:])"

Moment = Literal["before", "after"]

#: ``program(on_boundary, *arguments)``; what it returns is JSON.
Program = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """``before`` or ``after`` the journal's ``commit``-th commit in this process (from 1)."""

    moment: Moment
    commit: int


def crash_points(commits: int) -> Iterator[CrashPoint]:
    """Every boundary of a program that commits so often."""
    for commit in range(1, commits + 1):
        yield CrashPoint("before", commit)
        yield CrashPoint("after", commit)


def kill_at(point: CrashPoint) -> Callable[[str, int], None]:
    """What to hand to `Runtime.open` as ``on_boundary`` so that this process dies there."""

    def on_boundary(moment: str, commit: int) -> None:
        if (moment, commit) == (point.moment, point.commit):
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # the signal comes before this is over

    return on_boundary


@dataclass(frozen=True, slots=True)
class Ending:
    """How a program ended. ``commits``: how often its journal committed (0 when killed)."""

    killed: bool
    value: Any = None
    error: str = ""
    commits: int = 0


class Victims:
    """A warm process that imports ``script`` and runs ``function`` of it in forks of itself."""

    def __init__(self, script: str | Path, function: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WARM, str(script), function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def run(
        self,
        *arguments: Any,
        kill: CrashPoint | float | None = None,
        seconds: float = 60.0,
    ) -> Ending:
        """Run the program once; ``kill`` it at a crash point, or after so many seconds.

        A program that is quicker than its death ends by itself (``killed`` is False). Raises
        `ManyhandsError` when the program raises, or has not ended after ``seconds``.
        """
        delay = kill if isinstance(kill, (int, float)) else None
        order = {
            "arguments": arguments,
            "point": [kill.moment, kill.commit] if isinstance(kill, CrashPoint) else None,
            "seconds": seconds if delay is None else delay,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise ManyhandsError("the warm process has died", next="see what it wrote to stderr")
        ending = Ending(**json.loads(answer))
        if ending.error:
            raise ManyhandsError(f"the program raised:\n{ending.error}")
        if ending.killed and kill is None:
            raise ManyhandsError(f"the program had not ended after {seconds:g} s")
        return ending


# -------------------------------------------------------------------- inside the warm process


def _load(script: str, function: str) -> Program:
    spec = importlib.util.spec_from_file_location("victim", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["victim"] = module
    spec.loader.exec_module(module)
    return cast(Program, getattr(module, function))


def serve(script: str, function: str) -> None:
    """The warm process: an order per line on stdin, an ending per line on stdout."""
    program = _load(script, function)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a program prints is not an answer
    for line in sys.stdin:
        ending = _fork(program, json.loads(line))
        answers.write(json.dumps(ending) + "\n")
        answers.flush()


def _fork(program: Program, order: dict[str, Any]) -> dict[str, Any]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _die(program, order, write)
    os.close(write)
    text = _until_end(read, time.monotonic() + order["seconds"])
    os.kill(pid, signal.SIGKILL)  # one that has ended is a zombie: nothing happens to it
    os.waitpid(pid, 0)
    os.close(read)
    return json.loads(text) if text.endswith(b"\n") else {"killed": True}


def _until_end(read: int, deadline: float) -> bytes:
    text = b""
    while select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(read, 1 << 16)
        if not part:
            break
        text += part
    return text


def _die(program: Program, order: dict[str, Any], write: int) -> None:
    """In the fork: run the program, say how it ended, and go without any clean-up."""
    commits = 0
    point = order["point"]
    kill = kill_at(CrashPoint(*point)) if point else None

    def on_boundary(moment: str, commit: int) -> None:
        nonlocal commits
        commits = max(commits, commit)
        if kill is not None:
            kill(moment, commit)

    ending: dict[str, Any] = {"killed": False}
    try:
        ending["value"] = program(on_boundary, *order["arguments"])
    except BaseException:
        ending["error"] = traceback.format_exc()
    ending["commits"] = commits
    data = (json.dumps(ending) + "\n").encode()
    while data:
        data = data[os.write(write, data) :]
    os._exit(0)
