"""What holds for every sandbox, whatever it is made of: the rules of ``ports.Sandbox``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from manyhands.errors import SandboxBusy, SandboxError, SandboxRefused
from manyhands.ports import SandboxLimits


@dataclass(slots=True)
class Turns:
    """Commands of a sandbox, and the keeping of its states.

    Invariants: a command begins when no state is being kept, and states are kept one after the
    other; once ``closed``, none of both begins.
    """

    closed: bool = False
    running: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def command(self) -> AsyncGenerator[None]:
        """From before its launch on."""
        async with self._lock:
            self.refuse_closed()
            self.running += 1
            self._idle.clear()
        try:
            yield
        finally:
            self.running -= 1
            if not self.running:
                self._idle.set()

    @asynccontextmanager
    async def state(self) -> AsyncGenerator[None]:
        async with self._lock:
            self.refuse_closed()
            yield

    async def idle(self) -> None:
        """No command runs any more."""
        if self.running:
            await self._idle.wait()

    def refuse_busy(self, left: int) -> None:
        """``left``: commands of which something goes on."""
        if busy := self.running + left:
            raise SandboxBusy(
                f"{busy} command(s) of this sandbox still run",
                next="wait for them, or end_background()",
            )

    def refuse_closed(self) -> None:
        if self.closed:
            raise SandboxError("this sandbox is closed", next="open another one")


def only_reads(path: str) -> SandboxRefused:
    return SandboxRefused(
        f"{path[:200]!r} cannot be written: this sandbox only reads",
        next="report what should be changed; a sandbox that is writable can do it",
    )


def no_snapshot(number: int) -> SandboxError:
    return SandboxError(f"this sandbox has no snapshot {number}", next="use one that it gave")


def runnable(argv: list[str]) -> list[str]:
    """Raises SandboxRefused for what no program can be given."""
    if not argv or not argv[0]:
        raise SandboxRefused("an empty command", next="give it something to run")
    if any("\0" in each for each in argv):
        raise SandboxRefused("a command with a zero byte in it", next="leave it out")
    return argv


def seconds_of(limits: SandboxLimits, timeout: float | None) -> float:
    """A command's time; ``timeout`` can only shorten the limit."""
    return limits.seconds if timeout is None else min(max(0.0, timeout), limits.seconds)
