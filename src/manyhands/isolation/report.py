"""What a job's supervisor says, line by line, and the socket on which it says it.

A job that got hold of its supervisor could say anything here: a line that is not understood ends
the connection, and with it the job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Report:
    """What the supervisor said."""

    started: bool = False
    error: str = ""
    ended: bool = False
    code: int | None = None
    seconds: float = 0.0
    cpu: float = 0.0
    largest: int = 0
    survivors: int = 0
    crowd: int = 0
    ready: bool = False

    def take(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "ready":
            self.ready = True
        elif word == "start":
            self.started = True
        elif word == "error":
            self.error = rest
        elif word == "crowd":
            self.crowd = int(rest)
        elif word == "end":
            code, seconds, cpu, largest, survivors = rest.split()
            self.code = None if code == "?" else int(code)
            self.seconds, self.cpu = float(seconds), float(cpu)
            self.largest, self.survivors = int(largest), int(survivors)
            self.ended = True


class Control(asyncio.Protocol):
    """The harness's end of the socket to the supervisor."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.report = Report()
        self.closed = False
        self._wake = wake
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.report.take(line.decode(errors="replace"))
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._wake()
