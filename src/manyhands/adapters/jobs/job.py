"""One job, from its launch to the end of the last process that it started.

Invariant: when ``drive`` returns or raises, no process of the job runs, its output pipe and its
socket are closed. Whoever ends it (a limit, the caller, the harness's death), it happens through
the supervisor's socket; the direct kill is for a supervisor that does not answer.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from manyhands.errors import JobError
from manyhands.isolation import host, processes
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
from manyhands.ports import JobExit, JobResult, JobSpec

from . import environment
from .output import OutputLog
from .verdict import verdict

#: Between SIGTERM and SIGKILL at the time limit.
GRACE_SECONDS = 1.0
#: Between looks whether it has ended, once it should have.
PAUSES = tuple(0.001 * 2**round for round in range(10))


class Unbegun(JobError):
    """A launch that ended without a word before the job's program had begun: it was killed."""


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
class RunningJob:
    spec: JobSpec
    launch: Launch
    disk: DiskMeter
    on_output: Callable[[bytes], None] | None = None
    meter: TreeMeter | None = None
    cause: Cause | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _ending: Ending = field(default_factory=lambda: Ending(GRACE_SECONDS))
    _deadline: float = 0.0
    _left_over: set[int] = field(default_factory=set[int])
    _walks: DiskWalks = field(init=False)

    def __post_init__(self) -> None:
        self._walks = DiskWalks(self.disk, self._wake.set)

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
            await lines.drain()
            self._refuse_failed_launch(lines)
            await self._walks.end()
            if self.cause is None:
                self.cause = await self._walks.judge()
        finally:
            self._walks.cancel()
            lines.close(self._left)
        if lines.output.error is not None:
            raise lines.output.error
        return self._result(lines.report, lines.output.tail())

    # ------------------------------------------------------------ launch

    async def _open(self) -> Lines[OutputLog]:
        cap = int(self.spec.limits.output_mb * MB)
        output = OutputLog(self.spec.log, cap, self.on_output, self._wake.set)
        lines = await connect(output, self._wake.set, self._spawn)
        lines.order(self.launch.order)
        self._deadline = asyncio.get_running_loop().time() + LAUNCH_SECONDS
        return lines

    def _spawn(self, control: int, output: int) -> subprocess.Popen[bytes]:
        launch = self.launch
        handed = [launch.file.fileno()] if launch.file else []
        try:
            return spawn(launch.argv, control, output, env=launch.env, handed=handed)
        except OSError as error:
            raise JobError(
                f"job {self.spec.key!r}: {launch.argv[0]} could not be started: {error}",
                next="is it installed and executable, and are there processes and memory left?",
            ) from error

    # ------------------------------------------------------------ watch

    async def _watch(self, lines: Lines[OutputLog]) -> None:
        """Until the supervisor has reported and gone, or all was killed without it."""
        control = lines.control
        while not (control.report.ended or control.closed):
            await woken(self._wake, self._pause())
            if not control.report.ended:
                self._step(lines)
        if not control.report.ended:
            control.report.cpu = self.meter.cpu if self.meter else 0.0
            lines.process.kill()
            self._left_over = await lines.kill_left(self._left)
        elif not processes.LINUX:  # no subreaper there: daemons got away
            self._left_over = await lines.kill_left(self._left)
        await lines.collect(PAUSES)

    def _pause(self) -> float:
        return self.meter.pause if self.meter and not self._ending.told else 0.1

    def _step(self, lines: Lines[OutputLog]) -> None:
        now = asyncio.get_running_loop().time()
        if lines.report.started and self.meter is None:
            root = lines.supervisor(wrapped=self.launch.wrapped)
            self.meter = TreeMeter(root, self.spec.limits)
            self._deadline = now + self.spec.limits.seconds
        if self.cause is None:
            self.cause = self._exceeded(lines.output, now)
        elif self.cause.grace and self.meter is not None and self.meter.sample():
            self.cause = Cause(self.cause.exit, self.cause.detail)  # no longer asked, told
        if self.cause is not None:
            self._ending.go_on(lines, now, ask=self.cause.grace)

    def _exceeded(self, output: OutputLog, now: float) -> Cause | None:
        limits = self.spec.limits
        if output.over:
            return out_of_output(limits.output_mb)
        if output.error is not None:
            return Cause(JobExit.FAILED, "its output could not be kept")
        if self.meter is None:
            return NOT_UP if now > self._deadline else None
        if now >= self._deadline:
            return out_of_time(limits.seconds)
        return self.meter.sample() or self._walks.found(self.meter.seen)

    # ------------------------------------------------------------ the end

    def _left(self, root: int) -> set[int]:
        token = self.launch.token
        marked = processes.marked(lambda env: env.get(environment.MARK) == token)
        return left_behind(self.meter, root, marked)

    def _refuse_failed_launch(self, lines: Lines[OutputLog]) -> None:
        report = lines.report
        if report.error:
            raise JobError(
                f"job {self.spec.key!r}: {self.spec.command[0]!r} could not be started: "
                f"{report.error}",
                next="may the job read it? Name its folder in `read`, or put it on the PATH",
            )
        if not report.started:
            said = lines.output.tail().strip()[-500:]
            raise (JobError if said else Unbegun)(
                f"job {self.spec.key!r} could not be launched; {self.launch.argv[0]} said: "
                f"{said or 'nothing'}",
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
            host=host.kind(),
        )
