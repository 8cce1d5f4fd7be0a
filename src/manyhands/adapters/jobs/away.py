"""A job on another machine, from the search for one that was begun before to its result.

Invariants: one piece of work (a key, and the same contents) has one job at a time, and a process
that comes after one that was killed takes up the job that it finds; what was heard once is not
heard again; what ends a job by its own fault ends it, and only a machine's fault is a reason for
another attempt. How a job gets there and is heard of is a `Post`'s business.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from manyhands.adapters.jobs.bundle import Bundle
from manyhands.adapters.jobs.heard import Heard
from manyhands.errors import JobError, JobsHalted
from manyhands.isolation.endings import finish
from manyhands.ports import JobExit, JobResult, JobSpec

#: Bytes that come back of a job, packed.
MOST_RETURNED = 256_000_000


class Stage(StrEnum):
    """``ENDED``: by itself. ``LOST``: its machine failed, or was taken away."""

    UNKNOWN = "unknown"
    NEW = "new"
    RUNNING = "running"
    ENDED = "ended"
    CANCELLED = "cancelled"
    LOST = "lost"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True, slots=True)
class Standing:
    stage: Stage
    detail: str = ""


class Dropped(Exception):
    """A connection broke off, or was not to be had: worth another try."""


class Post(Protocol):
    """The way to another machine. All but `follow` try again where that helps, and then raise
    `JobError`."""

    async def attempts(self, stem: str) -> list[tuple[str, Standing]]:
        """The jobs named ``stem-N``, oldest first."""
        ...

    async def begin(self, name: str, bundle: Bundle, spec: JobSpec) -> None:
        """Begin it, unless it was begun before."""
        ...

    def follow(self, name: str, offset: int) -> AsyncGenerator[bytes]:
        """What it tells from a byte on; ends with the job. Raises `Dropped`."""
        ...

    async def standing(self, name: str) -> Standing: ...

    async def cancel(self, name: str) -> None:
        """Returns when nothing of it runs."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. ``silence``: without output, after which a job is stuck. ``queue``: until it begins.
    ``outage``: how long its machine may not be reached. ``attempts``: where machines fail."""

    silence: float = 1800.0
    queue: float = 3600.0
    outage: float = 900.0
    attempts: int = 3
    poll: float = 5.0


class Away:
    """One `run` of a job on another machine."""

    def __init__(
        self,
        post: Post,
        patience: Patience,
        spec: JobSpec,
        bundle: Bundle,
        on_output: Callable[[bytes], None] | None,
    ) -> None:
        self._post = post
        self._patience = patience
        self._spec = spec
        self._bundle = bundle
        self._on_output = on_output
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def drive(self) -> JobResult:
        stem, fault = stem_of(self._spec, self._bundle), ""
        name, before = await self._found(stem)
        for number in range(before + 1, before + 1 + self._patience.attempts):
            if self._stopped.is_set():
                raise asyncio.CancelledError
            if not name:
                name = f"{stem}-{number}"
                await self._post.begin(name, self._bundle, self._spec)
            found = await self._heard_out(name)
            if isinstance(found, JobResult):
                return found
            name, fault = "", found
        raise JobsHalted(
            f"job {self._spec.key!r}: {self._patience.attempts} attempts were lost with their "
            f"machines; the last: {fault}",
            next="see to the machines; a run that is resumed tries again",
        )

    async def _found(self, stem: str) -> tuple[str, int]:
        """The job that an earlier process began for this, if it is of use; and how many it was."""
        known = await self._post.attempts(stem)
        if not known:
            return "", 0
        name, standing = known[-1]
        if standing.stage is Stage.NEW:
            await self._post.begin(name, self._bundle, self._spec)
        usable = standing.stage not in (Stage.CANCELLED, Stage.LOST, Stage.UNKNOWN)
        return (name if usable else ""), len(known)

    async def _heard_out(self, name: str) -> JobResult | str:
        """The result; a text says how its machine failed."""
        heard = Heard(self._spec, self._on_output, MOST_RETURNED)
        try:
            why = await _Hearing(
                self._post, self._patience, name, heard, self._stopped
            ).to_the_end()
            return await self._result(name, heard, why)
        finally:
            heard.close()

    async def _result(self, name: str, heard: Heard, why: str) -> JobResult | str:
        if self._stopped.is_set() or heard.error is not None or why:
            await finish(asyncio.create_task(self._post.cancel(name)))
        if heard.error is not None:
            raise heard.error
        if self._stopped.is_set():
            raise asyncio.CancelledError
        if why == "queue":
            raise JobsHalted(
                f"job {self._spec.key!r} has not begun within {self._patience.queue:g} s",
                next="wait, or ask for less; a run that is resumed begins it anew",
            )
        if why == "stuck":
            told = f"no output for {self._patience.silence:g} s; it was ended"
            return _ended(heard, JobExit.TIMED_OUT, told)
        if not (heard.ended and heard.whole):
            return self._fault(name, heard, await self._post.standing(name))
        try:
            return await asyncio.to_thread(heard.result)
        except (KeyError, TypeError, ValueError) as error:
            return f"the end that job {name} told is none: {error!r}"

    def _fault(self, name: str, heard: Heard, standing: Standing) -> JobResult | str:
        """It ended without a word of ours: a person's, its own, or its machine's fault."""
        detail = ": ".join(filter(None, (standing.stage.value, standing.detail)))
        match standing.stage:
            case Stage.CANCELLED:
                return _ended(heard, JobExit.FAILED, f"cancelled by a person: {detail}")
            case Stage.TIMED_OUT:
                return _ended(heard, JobExit.TIMED_OUT, detail)
            case Stage.OUT_OF_MEMORY:
                return _ended(heard, JobExit.OUT_OF_MEMORY, detail)
            case _:
                pass
        if standing.stage is Stage.ENDED and "begun" not in heard.facts:
            told = heard.noise.strip()[-600:] or detail
            raise JobError(
                f"job {self._spec.key!r} could not be started there: {told}",
                next="is its Python the right one, and whole?",
            )
        if standing.stage is Stage.ENDED:
            # Its machine is well: the job's own doing, or that of the machine's want of memory.
            return _ended(heard, JobExit.FAILED, "its runner there was killed")
        return f"job {name}: {detail}"


def stem_of(spec: JobSpec, bundle: Bundle) -> str:
    """The same for the same work in every process."""
    return f"{hashlib.sha256(spec.key.encode()).hexdigest()[:20]}-{bundle.digest[:12]}"


def _ended(heard: Heard, exit: JobExit, detail: str) -> JobResult:
    return JobResult(exit, None, 0.0, 0.0, 0.0, heard.tail, detail=detail)


class _Hearing:
    """Hears a job until it has told how it ended, or will tell no more."""

    def __init__(
        self, post: Post, patience: Patience, name: str, heard: Heard, stopped: asyncio.Event
    ) -> None:
        self._post = post
        self._patience = patience
        self._name = name
        self._heard = heard
        self._stopped = stopped
        self._rest = b""
        self._offset = 0
        self._began = self._spoke = self._reached = time.monotonic()

    async def to_the_end(self) -> str:
        """'' (it has ended, or is to be), "stuck", or "queue" (it has not begun)."""
        reading = asyncio.create_task(self._read())
        stopping = asyncio.create_task(self._stopped.wait())
        try:
            while True:
                await asyncio.wait(
                    (reading, stopping),
                    timeout=self._patience.poll,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if reading.done():
                    reading.result()
                if reading.done() or stopping.done():
                    return ""
                if why := self._overdue():
                    return why
        finally:
            reading.cancel()
            stopping.cancel()
            await asyncio.wait((reading, stopping))

    async def _read(self) -> None:
        """A connection that broke off is taken up behind the last whole line."""
        while True:
            try:
                async with aclosing(self._post.follow(self._name, self._offset)) as stream:
                    async for data in stream:
                        self._take(data)
                        if self._heard.ended or self._heard.error is not None:
                            return
                self._take(b"\n" if self._rest else b"")
                return
            except Dropped as dropped:
                self._rest = b""
                if time.monotonic() - self._reached > self._patience.outage:
                    raise JobsHalted(
                        f"job {self._name}: its machine is not reached for "
                        f"{self._patience.outage:g} s: {dropped}",
                        next="the job may go on there: a run that is resumed takes it up",
                    ) from dropped
            await asyncio.sleep(self._patience.poll)

    def _overdue(self) -> str:
        now = time.monotonic()
        if "begun" not in self._heard.facts:
            return "queue" if now - self._began > self._patience.queue else ""
        return "stuck" if now - self._spoke > self._patience.silence else ""

    def _take(self, data: bytes) -> None:
        self._reached = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._offset += len(line) + 1
            begun = "begun" in self._heard.facts
            output = self._heard.take(line.decode("utf-8", "replace"))
            if output or begun != ("begun" in self._heard.facts):
                self._spoke = self._reached
