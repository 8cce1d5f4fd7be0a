"""What a job on another machine prints, taken apart as it comes.

Invariant: the log holds the job's own output and nothing else, never more than its limit and a line
that says that it was cut; lines that were heard once are not heard again when a stream is resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from manyhands.adapters.jobs.bundle import unpack
from manyhands.adapters.jobs.frames import Fact, Noise, Output, Piece, parse
from manyhands.adapters.jobs.output import TAIL_BYTES, log_error
from manyhands.errors import JobError
from manyhands.isolation.limits import MB
from manyhands.ports import JobExit, JobResult, JobSpec

_NOISE = 4_000


class Heard:
    """One attempt at a job. ``error``: what ``on_output``, or the log, has raised."""

    def __init__(
        self, spec: JobSpec, on_output: Callable[[bytes], None] | None, most_returned: int
    ) -> None:
        self._spec = spec
        self._on_output = on_output
        self._most_returned = most_returned
        self._room = int(spec.limits.output_mb * MB)
        try:
            self._log = spec.log.open("wb", buffering=0)
        except OSError as error:
            raise log_error(spec.log, error) from error
        self._tail = bytearray()
        self._files = bytearray()
        self.facts: dict[str, Any] = {}
        self.noise = ""
        self.error: Exception | None = None

    def close(self) -> None:
        self._log.close()

    @property
    def ended(self) -> bool:
        return "result" in self.facts or "refused" in self.facts

    @property
    def tail(self) -> str:
        return self._tail.decode("utf-8", "replace")

    def take(self, line: str) -> bool:
        """Whether it was output of the job."""
        try:
            frame = parse(line)
        except ValueError:
            frame = Noise(line)
        match frame:
            case Output(data):
                self._keep(data[: self._room])
                self._room -= min(len(data), self._room)
                return True
            case Fact(name, value):
                self.facts[name] = value
            case Piece(data):
                if len(self._files) + len(data) <= self._most_returned:
                    self._files += data
            case Noise(text):
                self.noise = (self.noise + text + "\n")[-_NOISE:]
        return False

    def _keep(self, data: bytes, *, told: bool = True) -> None:
        if self.error is not None or not data:
            return
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        try:
            self._log.write(data)
            if told and self._on_output is not None:
                self._on_output(data)
        except Exception as error:
            self.error = error

    def result(self) -> JobResult:
        """As the runner at the other end has it, with the files that came in their place. Raises
        `JobError` where that one could not begin; KeyError, TypeError or ValueError where what it
        told is no result."""
        if "refused" in self.facts:
            refused = self.facts["refused"]
            raise JobError(refused["what"], next=refused["next"])
        said: dict[str, Any] = self.facts["result"]
        self._keep(str(said["log_end"]).encode(), told=False)
        result = JobResult(
            exit=JobExit(said["exit"]),
            code=said["code"],
            seconds=float(said["seconds"]),
            cpu_seconds=float(said["cpu_seconds"]),
            peak_memory_mb=float(said["peak_memory_mb"]),
            log_tail=self.tail,
            survivors=int(said["survivors"]),
            detail=str(said["detail"]),
            host=str(said.get("host", "")),
        )
        if self._files or said.get("gone"):
            try:
                unpack(self._spec, bytes(self._files), list(said.get("gone", ())))
            except ValueError as error:
                return replace(result, exit=JobExit.FAILED, detail=str(error))
        return result

    @property
    def whole(self) -> bool:
        """Whether the files that were to come are those that came."""
        said = self.facts.get("result", {})
        if "sha256" not in said:
            return True
        same = hashlib.sha256(self._files).hexdigest() == said["sha256"]
        return same and len(self._files) == said["bytes"]
