"""How a supervisor is driven from outside: its lines, its order, the walks of its disk, its end.

Invariant: after `Lines.close` nothing that `connect` opened is open, and no supervisor runs. It is
ended through its socket; the direct kill is for one that does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from . import processes
from .limits import Cause, DiskMeter, TreeMeter
from .report import Control, Report
from .supervisor import Order, children

#: For the supervisor to come up, and to end the tree once it is told to.
LAUNCH_SECONDS = 30.0
KILL_SECONDS = 8.0
#: For output that is still in the pipe once all is over.
DRAIN_SECONDS = 1.0
#: How often what a supervisor left behind is looked for, and how long to wait in between.
ROUNDS, ROUND_SECONDS = 200, 0.01


class Output(asyncio.Protocol):
    """The reading end of what a tree prints. ``over``: there was more than there may be;
    ``error``: of who was told of it. Who inherits takes the data."""

    def __init__(self, on_output: Callable[[bytes], None] | None, wake: Callable[[], None]) -> None:
        self.over = False
        self.error: Exception | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_output = on_output
        self._wake = wake

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


Out = TypeVar("Out", bound=Output)
#: What is left of a tree, given the process that was started for it.
Left = Callable[[int], set[int]]


@dataclass(slots=True)
class Lines(Generic[Out]):
    """What connects this process with a supervisor. ``process``: it, or what wraps it."""

    process: subprocess.Popen[bytes]
    control: Control
    output: Out
    _sending: asyncio.Transport
    _receiving: asyncio.ReadTransport

    @property
    def report(self) -> Report:
        return self.control.report

    def supervisor(self, *, wrapped: bool) -> int:
        """Its pid; ``wrapped``: it is a child of what was started."""
        pid = self.process.pid
        return next(iter(children(pid)), pid) if wrapped else pid

    def order(self, order: Order) -> None:
        data = marshal.dumps(order)
        self._sending.write(len(data).to_bytes(8, "little") + data)

    def say(self, word: str) -> None:
        if not self.control.closed:
            self._sending.write(word.encode())

    def give_up(self) -> None:
        """Expect no answer any more."""
        self.control.closed = True

    async def kill_left(self, left: Left) -> set[int]:
        """Without the supervisor: until nothing is left; what there was."""
        killed: set[int] = set()
        for _ in range(ROUNDS):
            found = left(self.process.pid)
            if not found:
                break
            processes.kill(found)
            killed |= found
            await asyncio.sleep(ROUND_SECONDS)
        return killed

    async def collect(self, pauses: Iterable[float]) -> None:
        """No zombie is left: wait for what was started, a kill if it lingers."""
        for pause in pauses:
            if self.process.poll() is not None:
                return
            await asyncio.sleep(pause)
        self.process.kill()
        await asyncio.to_thread(self.process.wait)

    async def drain(self) -> None:
        await asyncio.wait([self.output.closed], timeout=DRAIN_SECONDS)

    def close(self, left: Left) -> None:
        """A supervisor that still runs ends its tree. Without an await: who calls this may have
        been cancelled, and the loop may never come back."""
        if self.process.poll() is None:
            self._sending.write(b"K")
        self._sending.abort()
        self._receiving.close()
        if self.process.poll() is None:
            try:
                self.process.wait(timeout=KILL_SECONDS)
            except subprocess.TimeoutExpired:
                processes.kill(left(self.process.pid))
                self.process.kill()
                self.process.wait()


async def connect(
    output: Out, wake: Callable[[], None], start: Callable[[int, int], subprocess.Popen[bytes]]
) -> Lines[Out]:
    """``start`` is given the supervisor's end of the socket and the writing end of its output."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    read_end, write_end = os.pipe()
    try:
        sending, control = await loop.create_unix_connection(lambda: Control(wake), sock=ours)
        receiving, _ = await loop.connect_read_pipe(lambda: output, os.fdopen(read_end, "rb", 0))
        try:
            process = start(theirs.fileno(), write_end)
        except BaseException:
            sending.abort()
            receiving.close()
            raise
    finally:
        theirs.close()
        os.close(write_end)
    return Lines(process, control, output, sending, receiving)


def spawn(
    argv: Sequence[str],
    control: int,
    output: int,
    *,
    env: Mapping[str, str],
    handed: Iterable[int] = (),
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """For `connect`, in the event loop's thread: bubblewrap dies with the thread that started it.

    Raises OSError.
    """
    return subprocess.Popen(
        [*argv, str(control)],
        env=env,
        cwd="/",
        stdin=stdin,
        stdout=output,
        stderr=output,
        pass_fds=[control, *handed],
        start_new_session=True,
    )


async def woken(wake: asyncio.Event, seconds: float) -> None:
    """Until something happens; no longer than so many seconds."""
    wake.clear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()


def left_behind(meter: TreeMeter | None, root: int, marked: Iterable[int] = ()) -> set[int]:
    """Of a tree: what was seen and still runs, what is below ``root``, and what is ``marked``."""
    seen = meter.seen if meter else {}
    left = {pid for pid, began in seen.items() if processes.started(pid) == began}
    left.update(processes.descendants(root), marked)
    return {pid for pid in left - {root} if not processes.ended(pid)}


@dataclass(slots=True)
class Ending:
    """Ask (``T``), then tell (``K``), then give the supervisor up. ``grace``: seconds between the
    first two; ``told``: the last word."""

    grace: float
    told: str = ""
    _deadline: float = 0.0

    def go_on(self, lines: Lines[Out], now: float, *, ask: bool) -> None:
        """The next word, if it is time for it. ``ask``: first."""
        if ask and not self.told:
            self._tell(lines, "T", now + self.grace)
        elif self.told != "K" and (not ask or now >= self._deadline):
            self._tell(lines, "K", now + KILL_SECONDS)
        elif self.told == "K" and now >= self._deadline:
            lines.give_up()

    def _tell(self, lines: Lines[Out], word: str, deadline: float) -> None:
        self.told, self._deadline = word, deadline
        lines.say(word)


@dataclass(slots=True)
class DiskWalks:
    """What is written, walked in a thread, one walk at a time. ``meter`` None: not watched."""

    meter: DiskMeter | None
    wake: Callable[[], None]
    _walk: asyncio.Task[Cause | None] | None = None

    def found(self, seen: Iterable[int]) -> Cause | None:
        """By the last walk; where it is time, another begins."""
        walk, meter = self._walk, self.meter
        if walk is not None and walk.done():
            self._walk = None
            return walk.result()
        if meter is not None and walk is None and meter.due(asyncio.get_running_loop().time()):
            self._walk = asyncio.create_task(asyncio.to_thread(meter.sample, list(seen)))
            self._walk.add_done_callback(lambda _: self.wake())
        return None

    async def end(self) -> None:
        """Wait for a walk that goes on."""
        if self._walk is not None:
            await asyncio.wait([self._walk])

    async def judge(self) -> Cause | None:
        """When all has ended: the disk may have been filled between two walks."""
        return None if self.meter is None else await asyncio.to_thread(self.meter.sample, ())

    def cancel(self) -> None:
        if self._walk is not None:
            self._walk.cancel()
