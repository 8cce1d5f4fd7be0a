"""What a job prints: into its log up to a cap, live to a callback, and the end of it kept.

Invariant: the log never holds more than the cap and one line that says that it was cut.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

TAIL_BYTES = 8192


class OutputLog(asyncio.Protocol):
    """The reading end of a job's output pipe. ``over``: it wrote more than ``cap`` bytes."""

    def __init__(
        self,
        log: Path,
        cap: int,
        on_output: Callable[[bytes], None] | None,
        wake: Callable[[], None],
    ) -> None:
        self._log = log.open("wb", buffering=0)
        self._cap = cap
        self._on_output = on_output
        self._wake = wake
        self._written = 0
        self._tail = bytearray()
        self.over = False
        self.error: Exception | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if self.over or self.error:
            return
        room = self._cap - self._written
        self._take(data[:room])
        if len(data) > room:
            self.over = True
            self._wake()

    def _take(self, data: bytes) -> None:
        self._written += len(data)
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        try:
            self._log.write(data)
            if self._on_output is not None and data:
                self._on_output(data)
        except Exception as error:
            self.error = error
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.over:
            note = f"\n[manyhands: output cut at the limit of {self._cap} bytes]\n".encode()
            self._tail += note
            with contextlib.suppress(OSError):
                self._log.write(note)
        self._log.close()
        if not self.closed.done():
            self.closed.set_result(None)

    def tail(self) -> str:
        """The last part of the output as text."""
        return self._tail.decode("utf-8", errors="replace")
