"""One job, from its launch to the end of the last process that it started.

Invariant: when ``drive`` returns or raises, no process of the job runs, its output pipe and its
socket are closed. Whoever ends it (a limit, the caller, the harness's death), it happens through
the supervisor's socket; the direct kill is for a supervisor that does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from manyhands.errors import JobError
from manyhands.isolation import processes
from manyhands.isolation.limits import MB, Cause, DiskMeter, TreeMeter
from manyhands.isolation.report import Control, Report
from manyhands.isolation.supervisor import Order, children
from manyhands.ports import JobExit, JobResult, JobSpec

from . import environment
from .output import OutputLog
from .verdict import verdict

#: Between SIGTERM and SIGKILL at the time limit.
GRACE_SECONDS = 1.0
#: For the supervisor to come up, and to end the tree once it is told to.
LAUNCH_SECONDS = 30.0
KILL_SECONDS = 8.0
#: For output that is still in the pipe once all is over.
DRAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a job's supervisor. ``wrapped``: it is a child of what ``argv`` starts."""

    argv: list[str]
    env: dict[str, str]
    order: Order
    token: str
    wrapped: bool = False
    file: IO[bytes] | None = None


@dataclass(slots=True)
class Lines:
    """What connects the harness with a running job."""

    process: subprocess.Popen[bytes]
    control: Control
    control_transport: asyncio.Transport
    output: OutputLog
    output_transport: asyncio.ReadTransport


@dataclass(slots=True)
class RunningJob:
    spec: JobSpec
    launch: Launch
    disk: DiskMeter
    on_output: Callable[[bytes], None] | None = None
    meter: TreeMeter | None = None
    cause: Cause | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _told: str = ""
    _deadline: float = 0.0
    _left_over: set[int] = field(default_factory=set[int])
    _disk_task: asyncio.Task[Cause | None] | None = None

    # ------------------------------------------------------------ from outside

    def stop(self, cause: Cause) -> None:
        """End the job; the first cause given counts."""
        if self.cause is None:
            self.cause = cause
        elif not cause.grace:
            self.cause = Cause(self.cause.exit, self.cause.detail)
        self._wake.set()

    async def drive(self) -> JobResult:
        """Run to the end. Raises JobError, or what ``on_output`` raised."""
        lines = await self._open()
        try:
            await self._watch(lines)
            await asyncio.wait([lines.output.closed], timeout=DRAIN_SECONDS)
            self._refuse_failed_launch(lines)
            await self._judge_disk()
        finally:
            self._close(lines)
        if lines.output.error is not None:
            raise lines.output.error
        return self._result(lines.control.report, lines.output.tail())

    # ------------------------------------------------------------ launch

    async def _open(self) -> Lines:
        loop = asyncio.get_running_loop()
        cap = int(self.spec.limits.output_mb * MB)
        output = OutputLog(self.spec.log, cap, self.on_output, self._wake.set)
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        try:
            control_transport, control = await loop.create_unix_connection(
                lambda: Control(self._wake.set), sock=ours
            )
            output_transport, _ = await loop.connect_read_pipe(
                lambda: output, os.fdopen(read_end, "rb", 0)
            )
            try:
                process = self._spawn(theirs.fileno(), write_end)
            except BaseException:
                control_transport.abort()
                output_transport.close()
                raise
        finally:
            theirs.close()
            os.close(write_end)
        order = marshal.dumps(self.launch.order)
        control_transport.write(len(order).to_bytes(8, "little") + order)
        self._deadline = loop.time() + LAUNCH_SECONDS
        return Lines(process, control, control_transport, output, output_transport)

    def _spawn(self, control: int, output: int) -> subprocess.Popen[bytes]:
        """Called in the event loop's thread: with bubblewrap, a job dies with the thread that
        started it."""
        handed = [control, *([self.launch.file.fileno()] if self.launch.file else [])]
        try:
            return subprocess.Popen(
                [*self.launch.argv, str(control)],
                env=self.launch.env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=handed,
                start_new_session=True,
            )
        except OSError as error:
            raise JobError(
                f"job {self.spec.key!r}: {self.launch.argv[0]} could not be started: {error}",
                next="is it installed and executable, and are there processes and memory left?",
            ) from error

    # ------------------------------------------------------------ watch

    async def _watch(self, lines: Lines) -> None:
        """Until the supervisor has reported and gone, or all was killed without it."""
        control = lines.control
        while not (control.report.ended or control.closed):
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            if not control.report.ended:
                self._step(lines)
        if not control.report.ended:
            await self._end_by_force(lines)
        elif not processes.LINUX:
            await self._kill_left(lines.process.pid)  # no subreaper there: daemons got away
        await self._collect(lines.process)

    def _pause(self) -> float:
        return self.meter.pause if self.meter and not self._told else 0.1

    def _step(self, lines: Lines) -> None:
        now = asyncio.get_running_loop().time()
        if lines.control.report.started and self.meter is None:
            self.meter = TreeMeter(self._supervisor(lines.process.pid), self.spec.limits)
            self._deadline = now + self.spec.limits.seconds
        if self.cause is None:
            self.cause = self._exceeded(lines, now)
        elif self.cause.grace and self.meter is not None and self.meter.sample():
            self.cause = Cause(self.cause.exit, self.cause.detail)  # no longer asked, told
        if self.cause is not None:
            self._end(lines, self.cause, now)

    def _supervisor(self, pid: int) -> int:
        return next(iter(children(pid)), pid) if self.launch.wrapped else pid

    def _exceeded(self, lines: Lines, now: float) -> Cause | None:
        limits = self.spec.limits
        if lines.output.over:
            detail = f"ended at {limits.output_mb:g} MB of output, which is the limit"
            return Cause(JobExit.OUTPUT_LIMIT, detail)
        if lines.output.error is not None:
            return Cause(JobExit.FAILED, "its output could not be kept")
        if self.meter is None:
            late = now > self._deadline
            return Cause(JobExit.FAILED, "it did not come up") if late else None
        if now >= self._deadline:
            detail = f"ended after {limits.seconds:g} s, which is the limit"
            return Cause(JobExit.TIMED_OUT, detail, grace=True)
        return self.meter.sample() or self._disk_cause(self.meter)

    def _disk_cause(self, meter: TreeMeter) -> Cause | None:
        """The last walk's finding; a walk runs in a thread, one at a time."""
        task = self._disk_task
        if task is not None and task.done():
            self._disk_task = None
            return task.result()
        if task is None and self.disk.due(asyncio.get_running_loop().time()):
            walk = asyncio.to_thread(self.disk.sample, list(meter.seen))
            self._disk_task = asyncio.create_task(walk)
            self._disk_task.add_done_callback(lambda _: self._wake.set())
        return None

    def _end(self, lines: Lines, cause: Cause, now: float) -> None:
        """Ask, then tell, then do it without the supervisor."""
        if cause.grace and not self._told:
            self._tell(lines, "T", now + GRACE_SECONDS)
        elif self._told != "K" and (not cause.grace or now >= self._deadline):
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
        report = lines.control.report
        report.cpu = self.meter.cpu if self.meter else 0.0
        lines.process.kill()
        await self._kill_left(lines.process.pid)

    async def _kill_left(self, root: int) -> None:
        for _ in range(200):
            left = self._left(root)
            if not left:
                return
            processes.kill(left)
            self._left_over |= left
            await asyncio.sleep(0.01)

    def _left(self, root: int) -> set[int]:
        seen = self.meter.seen if self.meter else {}
        left = {pid for pid, began in seen.items() if processes.started(pid) == began}
        left |= set(processes.descendants(root))
        left |= set(processes.marked(lambda env: env.get(environment.MARK) == self.launch.token))
        return {pid for pid in left - {root} if not processes.ended(pid)}

    async def _collect(self, process: subprocess.Popen[bytes]) -> None:
        """No zombie is left: wait for what was started, a kill if it lingers."""
        pause = 0.001
        for _ in range(10):
            if process.poll() is not None:
                return
            await asyncio.sleep(pause)
            pause *= 2
        process.kill()
        await asyncio.to_thread(process.wait)

    async def _judge_disk(self) -> None:
        """A job may have filled its folders and ended between two walks."""
        if self._disk_task is not None:
            await asyncio.wait([self._disk_task])
        if self.cause is None:
            self.cause = await asyncio.to_thread(self.disk.sample, ())

    def _close(self, lines: Lines) -> None:
        """Leaves nothing open; a supervisor that still runs ends the job."""
        if self._disk_task is not None:
            self._disk_task.cancel()
        if lines.process.poll() is None:
            lines.control_transport.write(b"K")
        lines.control_transport.abort()
        lines.output_transport.close()
        if lines.process.poll() is None:
            self._close_at_once(lines.process)

    def _close_at_once(self, process: subprocess.Popen[bytes]) -> None:
        """This coroutine was cancelled or failed, and the loop may never come back: no await."""
        try:
            process.wait(timeout=KILL_SECONDS)
        except subprocess.TimeoutExpired:
            processes.kill(self._left(process.pid))
            process.kill()
            process.wait()

    def _refuse_failed_launch(self, lines: Lines) -> None:
        report = lines.control.report
        if report.error:
            raise JobError(
                f"job {self.spec.key!r}: {self.spec.command[0]!r} could not be started: "
                f"{report.error}",
                next="may the job read it? Name its folder in `read`, or put it on the PATH",
            )
        if not report.started:
            said = lines.output.tail().strip()[-500:] or "nothing"
            raise JobError(
                f"job {self.spec.key!r} could not be launched; {self.launch.argv[0]} said: {said}",
                next="try another isolation level, or look at the paths that the job names",
            )

    # ------------------------------------------------------------ verdict

    def _result(self, report: Report, tail: str) -> JobResult:
        peak = self.meter.peak if self.meter and self.meter.peak else report.largest
        if self.cause is not None:
            exit, detail = self.cause.exit, self.cause.detail
        else:
            exit, detail = verdict(report.code, self.spec.limits, tail, peak)
        return JobResult(
            exit=exit,
            code=report.code,
            seconds=report.seconds,
            cpu_seconds=report.cpu,
            peak_memory_mb=round(peak / MB, 3),
            log_tail=tail,
            survivors=report.survivors + len(self._left_over),
            detail=detail,
        )
