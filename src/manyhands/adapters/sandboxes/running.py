"""One command of a sandbox, from its launch to the end of all that it started.

Invariant: when ``drive`` returns or raises, no process of the command runs and nothing of it is
open, but for what it was told to keep: that ends with ``end``, or with this process. Whoever ends
it, it happens through the supervisor's socket; the direct kill is for one that does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from manyhands.errors import SandboxError
from manyhands.isolation.driving import (
    LAUNCH_SECONDS,
    DiskWalks,
    Ending,
    Lines,
    connect,
    left_behind,
    spawn,
    woken,
)
from manyhands.isolation.endings import finish, to_its_end
from manyhands.isolation.limits import (
    MB,
    NOT_UP,
    Cause,
    DiskMeter,
    TreeMeter,
    out_of_output,
    out_of_time,
)
from manyhands.isolation.report import Report
from manyhands.isolation.supervisor import Order
from manyhands.ports import ExecResult, JobExit, JobLimits, Killed, SandboxLimits

from .output import HeadTail, Pipe

#: Between SIGTERM and SIGKILL at the time limit.
GRACE_SECONDS = 0.5
#: Between looks whether it has ended, once it should have.
PAUSES = tuple(0.0005 * 1.7**round for round in range(12))
#: Of one core, for the memory of all commands; and the longest between two looks at one.
SHARE, SLOWEST = 0.2, 1.0
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
KILLED = {
    JobExit.TIMED_OUT: Killed.TIME,
    JobExit.OUT_OF_MEMORY: Killed.MEMORY,
    JobExit.OUTPUT_LIMIT: Killed.OUTPUT,
    JobExit.DISK_LIMIT: Killed.DISK,
    JobExit.FAILED: Killed.PROCESSES,
}


@dataclass(slots=True)
class Together:
    """What all commands of one maker share. ``gate``: passed a few at a time until the command
    has started, for a hundred launches at once would each take as long as all."""

    gate: asyncio.Semaphore
    running: int = 0


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start the supervisor. ``handed``: descriptors that it (or what wraps it) needs.

    ``wrapped``: it is a child of what ``argv`` starts.
    """

    argv: Sequence[str]
    order: Order
    wrapped: bool
    handed: tuple[int, ...] = ()
    #: Told of the supervisor's pid before the command starts.
    admit: Callable[[int], None] | None = None
    together: Together = field(default_factory=lambda: Together(asyncio.Semaphore()))


@dataclass(slots=True, eq=False)
class Running:
    """``seconds``: its time limit. ``disk``: where what it writes must be watched."""

    launch: Launch
    limits: SandboxLimits
    seconds: float
    stdin: bytes = b""
    on_output: Callable[[bytes], None] | None = None
    disk: DiskMeter | None = None
    cause: Cause | None = None
    cancelled: bool = False
    rest: asyncio.Task[None] | None = None
    _meter: TreeMeter | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _ending: Ending = field(default_factory=lambda: Ending(GRACE_SECONDS))
    _cost: float = 0.0
    _ordered: bool = False
    _deadline: float = 0.0
    _left_over: set[int] = field(default_factory=set[int])
    _walks: DiskWalks = field(init=False)

    def __post_init__(self) -> None:
        self._walks = DiskWalks(self.disk, self._wake.set)

    # ------------------------------------------------------------ from outside

    async def run(self) -> ExecResult:
        """``drive``, which no cancellation interrupts: the command is ended, then it is raised."""
        task = asyncio.create_task(self.drive())
        try:
            return await to_its_end(task, self.stop)
        except asyncio.CancelledError:
            if self.rest is not None:
                await self.end()
            raise

    def stop(self) -> None:
        self.cancelled = True
        self._wake.set()

    async def end(self) -> int:
        """Of a command that has returned: end what it left; how many processes there were."""
        if self.rest is None:
            return 0
        left = len(self._meter.seen_now()) if self._meter else 0
        self.stop()
        await finish(self.rest)
        return left

    async def drive(self) -> ExecResult:
        """Run to the end of the command. Raises SandboxError, or what ``on_output`` raised."""
        together = self.launch.together
        together.running += 1
        try:
            return await self._drive(together)
        finally:
            together.running -= 1

    async def _drive(self, together: Together) -> ExecResult:
        async with together.gate:
            lines = await self._open()
            try:
                while not (lines.report.started or lines.control.closed):
                    await self._turn(lines, until_end=True)
            except BaseException:
                self._close(lines)
                raise
        kept = False
        try:
            await self._watch(lines)
            report = lines.report
            self._refuse_failed_launch(lines)
            kept = not lines.control.closed and report.ended and not self.cancelled
            if kept and report.survivors:
                lines.output.muted = True
                self.rest = asyncio.create_task(self._rest(lines))
            else:
                kept = False
                await lines.collect(PAUSES)
                await lines.drain()
            await self._walks.end()
            if self.cause is None and not self.cancelled:
                self.cause = await self._walks.judge()
        finally:
            if not kept:
                self._close(lines)
        if lines.output.error is not None:
            raise lines.output.error
        return self._result(report, lines.output.kept)

    # ------------------------------------------------------------ launch

    async def _open(self) -> Lines[Pipe]:
        pipe = Pipe(self.limits, self.on_output, self._wake.set)
        lines = await connect(pipe, self._wake.set, self._spawn)
        if self.launch.admit is not None:
            self.launch.admit(lines.process.pid)
        self._deadline = asyncio.get_running_loop().time() + LAUNCH_SECONDS
        return lines

    def _spawn(self, control: int, output: int) -> subprocess.Popen[bytes]:
        launch = self.launch
        with contextlib.ExitStack() as stack:
            stdin: int = subprocess.DEVNULL
            if self.stdin:
                file = stack.enter_context(tempfile.TemporaryFile())
                file.write(self.stdin)
                file.seek(0)
                stdin = file.fileno()
            try:
                return spawn(
                    launch.argv,
                    control,
                    output,
                    env=ENVIRONMENT,
                    handed=launch.handed,
                    stdin=stdin,
                )
            except OSError as error:
                raise SandboxError(
                    f"{launch.argv[0]} could not be started: {error}",
                    next="are there processes, memory and descriptors left? `manyhands doctor`",
                ) from error

    # ------------------------------------------------------------ watch

    async def _watch(self, lines: Lines[Pipe]) -> None:
        """Until the command has ended, or all was killed without the supervisor."""
        control = lines.control
        while not (control.report.ended or control.closed):
            await self._turn(lines, until_end=True)
        if not control.report.ended:
            await self._end_by_force(lines)

    async def _turn(self, lines: Lines[Pipe], *, until_end: bool) -> None:
        await woken(self._wake, self._pause())
        if not (until_end and lines.report.ended):
            self._step(lines, timed=until_end)

    async def _rest(self, lines: Lines[Pipe]) -> None:
        """What goes on in the background, under the same limits but for that on time."""
        try:
            while not lines.control.closed:
                await self._turn(lines, until_end=False)
            await self._end_by_force(lines)
        finally:
            self._close(lines)

    def _pause(self) -> float:
        """Looking at many commands at once shall take no more than a share of one core."""
        if self._meter is None or self._ending.told:
            return 0.1
        shared = self._cost * self.launch.together.running / SHARE
        return min(max(self._meter.pause, shared), SLOWEST)

    def _step(self, lines: Lines[Pipe], *, timed: bool) -> None:
        now = asyncio.get_running_loop().time()
        if lines.report.ready and not self._ordered:
            put_first(self._root(lines))
            lines.order(self.launch.order)
            self._ordered = True
        if lines.report.started and self._meter is None:
            limits = JobLimits(memory_mb=self.limits.memory_mb)
            self._meter = TreeMeter(self._root(lines), limits, self.limits.processes)
            self._deadline = now + self.seconds
        if self.cause is None and not self.cancelled:
            self.cause = self._exceeded(lines.output, now, timed=timed)
        if self.cause is not None or self.cancelled:
            asked = self.cause is not None and self.cause.grace and not self.cancelled
            self._ending.go_on(lines, now, ask=asked)

    def _root(self, lines: Lines[Pipe]) -> int:
        return lines.supervisor(wrapped=self.launch.wrapped)

    def _exceeded(self, pipe: Pipe, now: float, *, timed: bool) -> Cause | None:
        if pipe.over:
            return out_of_output(self.limits.output_mb)
        if pipe.error is not None:
            return Cause(JobExit.OUTPUT_LIMIT, "its output could not be passed on")
        if self._meter is None:
            return NOT_UP if now > self._deadline else None
        if timed and now >= self._deadline:
            return out_of_time(self.seconds)
        began = time.thread_time()
        cause = self._meter.sample()
        self._cost = time.thread_time() - began
        return cause or self._walks.found(self._meter.seen)

    # ------------------------------------------------------------ the end

    async def _end_by_force(self, lines: Lines[Pipe]) -> None:
        """The supervisor is gone or does not answer: find what it left, kill it."""
        lines.process.kill()
        self._left_over = await lines.kill_left(self._left)
        await lines.collect(PAUSES)

    def _left(self, root: int) -> set[int]:
        return left_behind(self._meter, root)

    def _close(self, lines: Lines[Pipe]) -> None:
        self._walks.cancel()
        lines.close(self._left)

    def _refuse_failed_launch(self, lines: Lines[Pipe]) -> None:
        report = lines.report
        if report.error:
            raise SandboxError(
                f"{self.launch.order[1][0][:80]!r} could not be started in {self.launch.order[2]}: "
                f"{report.error}",
                next="is it installed in the sandbox, and does the folder exist there?",
            )
        if not report.started and not self.cancelled:
            said = lines.output.kept.text().decode(errors="replace").strip()[-500:] or "nothing"
            raise SandboxError(
                f"a command could not be launched; {self.launch.argv[0]} said: {said}",
                next="`manyhands doctor` says what this machine offers",
            )

    # ------------------------------------------------------------ the result

    def _result(self, report: Report, kept: HeadTail) -> ExecResult:
        peak = self._meter.peak if self._meter and self._meter.peak else report.largest
        cause = self.cause
        killed = KILLED.get(cause.exit) if cause else None
        detail = cause.detail if cause else ""
        if report.crowd and killed is None:
            killed = Killed.PROCESSES
            detail = f"ended at {report.crowd} processes, the limit is {self.limits.processes}"
        if killed is None and report.code is None:
            killed, detail = Killed.LOST, "what supervised it was killed"
        return ExecResult(
            code=report.code,
            output=kept.text(),
            omitted=kept.omitted,
            seconds=report.seconds,
            killed=killed,
            detail=detail,
            survivors=report.survivors + len(self._left_over),
            cpu_seconds=report.cpu,
            peak_memory_mb=round(peak / MB, 3),
        )


def put_first(pid: int) -> None:
    """A supervisor comes before all that its command forks, or a bomb starves who ends it. Only
    root may; of others the kernel limits the processes itself. The command does not inherit it."""
    with contextlib.suppress(OSError, AttributeError):
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(pid, policy, os.sched_param(1))
