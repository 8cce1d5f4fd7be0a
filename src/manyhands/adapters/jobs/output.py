"""What a job prints: into its log up to a cap, live to a callback, and the end of it kept.

Invariant: the log never holds more than the cap and one line that says that it was cut.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from manyhands.errors import JobError
from manyhands.isolation.driving import Output

TAIL_BYTES = 8192


def log_error(path: Path | str, error: OSError) -> JobError:
    """Also where it is not raised from ``error``: what it was is read off its cause."""
    told = JobError(
        f"the job's log {path} cannot be written: {error.strerror}",
        next="is there room on the disk, and may this user write there?",
    )
    told.__cause__ = error
    return told


class OutputLog(Output):
    """The reading end of a job's output pipe. ``over``: it wrote more than ``cap`` bytes."""

    def __init__(
        self,
        log: Path,
        cap: int,
        on_output: Callable[[bytes], None] | None,
        wake: Callable[[], None],
    ) -> None:
        super().__init__(on_output, wake)
        try:
            self._log = log.open("wb", buffering=0)
        except OSError as error:
            raise log_error(log, error) from error
        self._cap = cap
        self._written = 0
        self._tail = bytearray()

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
        except OSError as error:
            self._fail(log_error(self._log.name, error))
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.error = error
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.over:
            note = f"\n[manyhands: output cut at the limit of {self._cap} bytes]\n".encode()
            self._tail += note
            with contextlib.suppress(OSError):
                self._log.write(note)
        self._log.close()
        super().connection_lost(exc)

    def tail(self) -> str:
        """The last part of the output as text."""
        return self._tail.decode("utf-8", errors="replace")
