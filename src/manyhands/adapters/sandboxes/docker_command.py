"""One command in a container: run, limited, ended, told of.

Invariant: when `run` returns or raises, nothing of the command runs any more, unless it was to be
kept: where that cannot be had otherwise, the whole container is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from manyhands.errors import SandboxError
from manyhands.isolation.endings import finish
from manyhands.ports import ExecResult, Killed, SandboxLimits

from . import docker_scripts as scripts
from .docker_container import STATES, Container, owner
from .docker_exchange import Exchange
from .inside import exit_code, no_folder
from .output import HeadTail, Pipe

#: What a command may take beyond its own limit, until its container is given up.
GRACE = 30.0


@dataclass(slots=True)
class Order:
    """``begin``: an absolute folder of the container."""

    argv: Sequence[str]
    begin: str
    seconds: float
    env: Mapping[str, str]
    stdin: bytes
    background: bool


@dataclass(eq=False)
class Command:
    """``kept``: its group and its mark, where it left something that goes on."""

    container: Container
    order: Order
    limits: SandboxLimits
    on_output: Callable[[bytes], None] | None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    kept: tuple[str, str] | None = None
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def folder(self) -> str:
        return f"{STATES}/command-{self.mark}"

    async def run(self) -> ExecResult:
        order, limits = self.order, self.limits
        given = "/dev/null"
        if order.stdin:
            given = f"{STATES}/input-{self.mark}"
            await self.container.upload(order.stdin, given)
        output = Pipe(limits, self.on_output, self._over.set)
        argv = [
            *("sh", "-c", scripts.COMMAND, "sh", self.mark, self.folder, order.begin),
            *(f"{order.seconds:.3f}", str(int(order.background)), given, *order.argv),
        ]
        exchange = Exchange(
            self.container.daemon,
            self.container.id,
            argv,
            output.data_received,
            owner(),
            order.env,
        )
        began = time.monotonic()
        said = await self._ended(asyncio.create_task(exchange.run()))
        took = time.monotonic() - began
        if said is not None and said[0] == "done" and order.background and int(said[2]):
            self.kept = (said[5], self.mark)
        if output.error is not None:
            raise output.error
        if said is None:  # whatever it left cannot be told from what is ours
            await self.container.remove()
            return self._lost(exchange, output.kept, took)
        if said[0] == "folder":
            raise no_folder(order.begin)
        if said[0] != "done":
            raise SandboxError(f"{order.argv[0]!r} could not be started", next="is it installed?")
        return self._result(said, output, took)

    async def _ended(self, exchange: asyncio.Task[list[str] | None]) -> list[str] | None:
        over = asyncio.create_task(self._over.wait())
        try:
            wanted = self.order.seconds + GRACE
            await asyncio.wait(
                {exchange, over}, timeout=wanted, return_when=asyncio.FIRST_COMPLETED
            )
            if not exchange.done():
                await self._kill(exchange)
            return await exchange
        except asyncio.CancelledError:
            await finish(asyncio.create_task(self._kill(exchange)))
            raise
        finally:
            over.cancel()

    async def _kill(self, exchange: asyncio.Task[list[str] | None]) -> None:
        """The command by a signal from within; where that does not end it, the container."""
        killing = self.container.run(scripts.KILL, self.mark, self.folder, seconds=GRACE)
        with contextlib.suppress(SandboxError):
            await killing
            await asyncio.wait({exchange}, timeout=GRACE)
        if not exchange.done():
            await self.container.remove()
            await asyncio.wait({exchange}, timeout=GRACE)
        if not exchange.done():
            exchange.cancel()
            await asyncio.wait({exchange})

    def _lost(self, exchange: Exchange, kept: HeadTail, took: float) -> ExecResult:
        told = exchange.complaints.decode(errors="replace").strip()[-300:]
        why = "its container, or what watched it there, has ended: this sandbox is gone"
        return ExecResult(
            code=None,
            output=kept.text(),
            omitted=kept.omitted,
            seconds=took,
            killed=Killed.LOST,
            detail=f"{why}: {told}" if told else why,
        )

    def _result(self, said: list[str], output: Pipe, took: float) -> ExecResult:
        code, left, late, hungry = map(int, said[1:5])
        killed, detail = None, ""
        if output.over:
            killed = Killed.OUTPUT
            detail = f"it printed more than the limit of {self.limits.output_mb:g} MB"
        elif late:
            killed, detail = Killed.TIME, "the time limit"
        elif hungry > 0 and code != 0:
            killed = Killed.MEMORY
            detail = f"the kernel ended {hungry} of the container's processes for memory"
        return ExecResult(
            code=exit_code(code),
            output=output.kept.text(),
            omitted=output.kept.omitted,
            seconds=took,
            killed=killed,
            detail=detail,
            survivors=left,
        )
