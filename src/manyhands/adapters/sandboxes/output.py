"""What a command prints: live to a callback, and kept as a head and a tail.

Invariant: never more than twice ``half`` bytes are held, whatever a command prints, and what was
left out is counted to the byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


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


class Pipe(asyncio.Protocol):
    """The reading end of a command's output. ``over``: it printed more than ``cap`` bytes.

    Once ``muted``, what still comes is thrown away: a program in the background must not block.
    """

    def __init__(
        self,
        kept: HeadTail,
        cap: int,
        on_output: Callable[[bytes], None] | None,
        wake: Callable[[], None],
    ) -> None:
        self.kept = kept
        self._cap = cap
        self._on_output = on_output
        self._wake = wake
        self.over = False
        self.muted = False
        self.error: Exception | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if self.muted or self.over or self.error is not None:
            return
        data = data[: self._cap - self.kept.total] if self._cap else data
        full = self.kept.total + len(data) >= self._cap
        self.kept.add(data)
        try:
            if self._on_output is not None:
                self._on_output(data)
        except Exception as error:
            self.error = error
        self.over = full
        if self.over or self.error is not None:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._wake()
