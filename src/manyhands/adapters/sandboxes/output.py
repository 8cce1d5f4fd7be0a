"""What a command prints: live to a callback, and kept as a head and a tail.

Invariant: never more than twice ``half`` bytes are held, whatever a command prints, and what was
left out is counted to the byte.
"""

from __future__ import annotations

from collections.abc import Callable

from manyhands.isolation.driving import Output
from manyhands.isolation.limits import MB
from manyhands.ports import SandboxLimits


class HeadTail:
    """Bytes in, bounded bytes out."""

    def __init__(self, half: int) -> None:
        self._half = half
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data
            if len(self._tail) > 2 * self._half:
                del self._tail[: -self._half]

    @property
    def omitted(self) -> int:
        return max(0, self.total - 2 * self._half)

    def text(self) -> bytes:
        tail = bytes(self._tail[-self._half :]) if self._half else b""
        if not self.omitted:
            return bytes(self._head) + tail
        note = f"\n[manyhands: {self.omitted} bytes of the middle are not shown]\n".encode()
        return bytes(self._head) + note + tail


class Pipe(Output):
    """The reading end of a command's output. ``over``: it printed ``cap`` bytes or more.

    Once ``muted``, what still comes is thrown away: a program in the background must not block.
    """

    def __init__(
        self,
        limits: SandboxLimits,
        on_output: Callable[[bytes], None] | None,
        wake: Callable[[], None],
    ) -> None:
        super().__init__(on_output, wake)
        self.kept = HeadTail(max(1, limits.shown_kb) * 512)
        self.muted = False
        self._cap = int(limits.output_mb * MB)

    def data_received(self, data: bytes) -> None:
        if self.muted or self.over or self.error is not None:
            return
        data = data[: self._cap - self.kept.total]
        full = self.kept.total + len(data) >= self._cap
        self.kept.add(data)
        try:
            if self._on_output is not None and data:
                self._on_output(data)
        except Exception as error:
            self.error = error
        self.over = full
        if self.over or self.error is not None:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wake()
