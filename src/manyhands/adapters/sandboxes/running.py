"""One command of a sandbox, from its launch to the end of all that it started.

Invariant: when ``drive`` returns or raises, no process of the command runs and nothing of it is
open, but for what it was told to keep: that ends with ``end``, or with this process. Whoever ends
it, it happens through the supervisor's socket; the direct kill is for one that does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from manyhands.errors import SandboxError
from manyhands.isolation import processes
from manyhands.isolation.endings import finish
from manyhands.isolation.limits import MB, Cause, DiskMeter, TreeMeter
from manyhands.isolation.report import Control, Report
from manyhands.isolation.supervisor import Order, children
from manyhands.ports import ExecResult, JobExit, JobLimits, Killed, SandboxLimits

from .output import HeadTail, Pipe

#: Between SIGTERM and SIGKILL at the time limit.
GRACE_SECONDS = 0.5
LAUNCH_SECONDS = 30.0
KILL_SECONDS = 8.0
#: Of one core, for the memory of all commands; and the longest between two looks at one.
SHARE, SLOWEST = 0.2, 1.0
#: For output that is still in the pipe once all is over.
DRAIN_SECONDS = 1.0
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


@dataclass(slots=True)
class Lines:
    """What connects this process with a running command."""

    process: subprocess.Popen[bytes]
    control: Control
    control_transport: asyncio.Transport
    pipe: Pipe
    pipe_transport: asyncio.ReadTransport


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
    _told: str = ""
    _cost: float = 0.0
    _ordered: bool = False
    _deadline: float = 0.0
    _left_over: set[int] = field(default_factory=set[int])
    _disk_task: asyncio.Task[Cause | None] | None = None

    # ------------------------------------------------------------ from outside

    async def run(self) -> ExecResult:
        """``drive``, which no cancellation interrupts: the command is ended, then it is raised."""
        task = asyncio.create_task(self.drive())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.stop()
            await finish(task)
            if not task.cancelled():
                task.exception()
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
                while not (lines.control.report.started or lines.control.closed):
                    await self._turn(lines, until_end=True)
            except BaseException:
                self._close(lines)
                raise
        kept = False
        try:
            await self._watch(lines)
            report = lines.control.report
            self._refuse_failed_launch(lines)
            kept = not lines.control.closed and report.ended and not self.cancelled
            if kept and report.survivors:
                lines.pipe.muted = True
                self.rest = asyncio.create_task(self._rest(lines))
            else:
                kept = False
                await self._collect(lines.process)
                await asyncio.wait([lines.pipe.closed], timeout=DRAIN_SECONDS)
            await self._judge_disk()
        finally:
            if not kept:
                self._close(lines)
        if lines.pipe.error is not None:
            raise lines.pipe.error
        return self._result(report, lines.pipe.kept)

    # ------------------------------------------------------------ launch

    async def _open(self) -> Lines:
        loop = asyncio.get_running_loop()
        kept = HeadTail(max(1, self.limits.shown_kb) * 512)
        pipe = Pipe(kept, int(self.limits.output_mb * MB), self.on_output, self._wake.set)
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        try:
            control_transport, control = await loop.create_unix_connection(
                lambda: Control(self._wake.set), sock=ours
            )
            pipe_transport, _ = await loop.connect_read_pipe(
                lambda: pipe, os.fdopen(read_end, "rb", 0)
            )
            try:
                process = self._spawn(theirs.fileno(), write_end)
            except BaseException:
                control_transport.abort()
                pipe_transport.close()
                raise
        finally:
            theirs.close()
            os.close(write_end)
        if self.launch.admit is not None:
            self.launch.admit(process.pid)
        self._deadline = loop.time() + LAUNCH_SECONDS
        return Lines(process, control, control_transport, pipe, pipe_transport)

    def _spawn(self, control: int, output: int) -> subprocess.Popen[bytes]:
        """In the event loop's thread: bubblewrap dies with the thread that started it."""
        with contextlib.ExitStack() as stack:
            stdin: int = subprocess.DEVNULL
            if self.stdin:
                file = stack.enter_context(tempfile.TemporaryFile())
                file.write(self.stdin)
                file.seek(0)
                stdin = file.fileno()
            try:
                return subprocess.Popen(
                    [*self.launch.argv, str(control)],
                    env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
                    cwd="/",
                    stdin=stdin,
                    stdout=output,
                    stderr=output,
                    pass_fds=[control, *self.launch.handed],
                    start_new_session=True,
                )
            except OSError as error:
                raise SandboxError(
                    f"{self.launch.argv[0]} could not be started: {error}",
                    next="are there processes, memory and descriptors left? `manyhands doctor`",
                ) from error

    # ------------------------------------------------------------ watch

    async def _watch(self, lines: Lines) -> None:
        """Until the command has ended, or all was killed without the supervisor."""
        control = lines.control
        while not (control.report.ended or control.closed):
            await self._turn(lines, until_end=True)
        if not control.report.ended:
            await self._end_by_force(lines)

    async def _turn(self, lines: Lines, *, until_end: bool) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause()):
                await self._wake.wait()
        if not (until_end and lines.control.report.ended):
            self._step(lines, timed=until_end)

    async def _rest(self, lines: Lines) -> None:
        """What goes on in the background, under the same limits but for that on time."""
        try:
            while not lines.control.closed:
                await self._turn(lines, until_end=False)
            await self._end_by_force(lines)
        finally:
            self._close(lines)

    def _pause(self) -> float:
        """Looking at many commands at once shall take no more than a share of one core."""
        if self._meter is None or self._told:
            return 0.1
        shared = self._cost * self.launch.together.running / SHARE
        return min(max(self._meter.pause, shared), SLOWEST)

    def _step(self, lines: Lines, *, timed: bool) -> None:
        now = asyncio.get_running_loop().time()
        if lines.control.report.ready and not self._ordered:
            self._send_order(lines)
        if lines.control.report.started and self._meter is None:
            self._begin(lines, now)
        if self.cancelled:
            self._end(lines, None, now)
            return
        if self.cause is None:
            self.cause = self._exceeded(lines, now, timed=timed)
        if self.cause is not None:
            self._end(lines, self.cause, now)

    def _root(self, lines: Lines) -> int:
        """The supervisor."""
        pid = lines.process.pid
        return next(iter(children(pid)), pid) if self.launch.wrapped else pid

    def _send_order(self, lines: Lines) -> None:
        put_first(self._root(lines))
        order = marshal.dumps(self.launch.order)
        lines.control_transport.write(len(order).to_bytes(8, "little") + order)
        self._ordered = True

    def _begin(self, lines: Lines, now: float) -> None:
        root = self._root(lines)
        limits = JobLimits(memory_mb=self.limits.memory_mb)
        self._meter = TreeMeter(root, limits, self.limits.processes)
        self._deadline = now + self.seconds

    def _exceeded(self, lines: Lines, now: float, *, timed: bool) -> Cause | None:
        if lines.pipe.over:
            detail = f"ended at {self.limits.output_mb:g} MB of output, which is the limit"
            return Cause(JobExit.OUTPUT_LIMIT, detail)
        if lines.pipe.error is not None:
            return Cause(JobExit.OUTPUT_LIMIT, "its output could not be passed on")
        if self._meter is None:
            late = now > self._deadline
            return Cause(JobExit.FAILED, "it did not come up") if late else None
        if timed and now >= self._deadline:
            detail = f"ended after {self.seconds:g} s, which is the limit"
            return Cause(JobExit.TIMED_OUT, detail, grace=True)
        began = time.thread_time()
        cause = self._meter.sample()
        self._cost = time.thread_time() - began
        return cause or self._disk_cause(self._meter)

    def _disk_cause(self, meter: TreeMeter) -> Cause | None:
        """The last walk's finding; a walk runs in a thread, one at a time."""
        task = self._disk_task
        if task is not None and task.done():
            self._disk_task = None
            return task.result()
        disk = self.disk
        if disk is not None and task is None and disk.due(asyncio.get_running_loop().time()):
            walk = asyncio.to_thread(disk.sample, list(meter.seen))
            self._disk_task = asyncio.create_task(walk)
            self._disk_task.add_done_callback(lambda _: self._wake.set())
        return None

    def _end(self, lines: Lines, cause: Cause | None, now: float) -> None:
        """Ask, then tell, then do it without the supervisor."""
        grace = cause is not None and cause.grace
        if grace and not self._told:
            self._tell(lines, "T", now + GRACE_SECONDS)
        elif self._told != "K" and (not grace or now >= self._deadline):
            self._tell(lines, "K", now + KILL_SECONDS)
        elif self._told == "K" and now >= self._deadline:
            lines.control.closed = True

    def _tell(self, lines: Lines, word: str, deadline: float) -> None:
        self._told, self._deadline = word, deadline
        if not lines.control.closed:
            lines.control_transport.write(word.encode())

    # ------------------------------------------------------------ the end

    async def _end_by_force(self, lines: Lines) -> None:
        """The supervisor is gone or does not answer: find what it left, kill it."""
        lines.process.kill()
        for _ in range(200):
            left = self._left(lines.process.pid)
            if not left:
                break
            processes.kill(left)
            self._left_over |= left
            await asyncio.sleep(0.01)
        await self._collect(lines.process)

    def _left(self, root: int) -> set[int]:
        seen = self._meter.seen if self._meter else {}
        left = {pid for pid, began in seen.items() if processes.started(pid) == began}
        left |= set(processes.descendants(root))
        return {pid for pid in left - {root} if not processes.ended(pid)}

    async def _collect(self, process: subprocess.Popen[bytes]) -> None:
        """No zombie is left: wait for what was started, a kill if it lingers."""
        pause = 0.0005
        for _ in range(12):
            if process.poll() is not None:
                return
            await asyncio.sleep(pause)
            pause *= 1.7
        process.kill()
        await asyncio.to_thread(process.wait)

    async def _judge_disk(self) -> None:
        """It may have filled the disk and ended between two walks."""
        if self._disk_task is not None:
            await asyncio.wait([self._disk_task])
        if self.disk is not None and self.cause is None and not self.cancelled:
            self.cause = await asyncio.to_thread(self.disk.sample, ())

    def _close(self, lines: Lines) -> None:
        """Leaves nothing open; a supervisor that still runs ends the command."""
        if self._disk_task is not None:
            self._disk_task.cancel()
        if lines.process.poll() is None:
            lines.control_transport.write(b"K")
        lines.control_transport.abort()
        lines.pipe_transport.close()
        if lines.process.poll() is None:
            try:
                lines.process.wait(timeout=KILL_SECONDS)
            except subprocess.TimeoutExpired:
                processes.kill(self._left(lines.process.pid))
                lines.process.kill()
                lines.process.wait()

    def _refuse_failed_launch(self, lines: Lines) -> None:
        report = lines.control.report
        if report.error:
            raise SandboxError(
                f"{self.launch.order[1][0][:80]!r} could not be started in {self.launch.order[2]}: "
                f"{report.error}",
                next="is it installed in the sandbox, and does the folder exist there?",
            )
        if not report.started and not self.cancelled:
            said = lines.pipe.kept.text().decode(errors="replace").strip()[-500:] or "nothing"
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
