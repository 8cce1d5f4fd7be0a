"""One run held by this process: its state, its appends, the commands that reach it.

Invariant: the state is the fold of exactly the events that this object has appended or read; an
event enters the state and the writer's queue in the same breath, in order.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from manyhands.errors import DuplicateKey, ReplayMismatch
from manyhands.runtime.budget import Budget, Pool
from manyhands.runtime.clock import Clock
from manyhands.runtime.events import Event, Type
from manyhands.runtime.fold import CommandState, RunState
from manyhands.runtime.journal import Journal


@dataclass(slots=True)
class Running:
    """A step's call in flight, so that ``interrupt`` can find it."""

    task: asyncio.Task[Any]
    interrupted: str | None = None


@dataclass(slots=True)
class Execution:
    run_id: str
    epoch: int
    journal: Journal
    state: RunState
    clock: Clock
    loop: asyncio.AbstractEventLoop
    claimed: dict[str, str] = field(default_factory=dict[str, str])
    pools: dict[str, Pool] = field(default_factory=dict[str, Pool])
    running: dict[str, Running] = field(default_factory=dict[str, Running])
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    stop_requested: bool = False
    main: asyncio.Task[Any] | None = None
    killed: bool = False
    listeners: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def __post_init__(self) -> None:
        self.gate.set()
        self.pools[""] = Pool("", self.state.budget.limits())
        for command in self.state.commands:
            self._take_effect(command, replayed=True)

    # ---------------------------------------------------------------- appending

    def _event(self, type: str, key: str, data: dict[str, Any], value: str | None) -> Event:
        event = Event(self.state.seq + 1, self.epoch, self.clock.time(), type, key, data, value)
        self.state.apply(event)
        return event

    def post(self, type: str, key: str, data: dict[str, Any], value: str | None = None) -> Event:
        """Append without waiting: for what the next awaited append makes durable anyway."""
        event = self._event(type, key, data, value)
        self.journal.append(self.run_id, self.epoch, (event,), durable=False, done=_ignore)
        return event

    async def append(
        self,
        type: str,
        key: str,
        data: dict[str, Any],
        value: str | None = None,
        *,
        durable: bool = False,
    ) -> Event:
        """Append and wait for the commit. Raises `StaleEpoch`, `JournalFull`, ..."""
        event = self._event(type, key, data, value)
        committed: asyncio.Future[None] = self.loop.create_future()

        def finish(error: BaseException | None) -> None:
            if not committed.done():
                if error is None:
                    committed.set_result(None)
                else:
                    committed.set_exception(error)

        def done(error: BaseException | None) -> None:
            self.loop.call_soon_threadsafe(finish, error)

        self.journal.append(self.run_id, self.epoch, (event,), durable=durable, done=done)
        await committed
        for listener in self.listeners:
            listener()
        return event

    # ---------------------------------------------------------------- keys and pools

    def claim(self, key: str, what: str) -> None:
        """A key names one thing in one execution."""
        if key in self.claimed:
            raise DuplicateKey(
                f"key {key!r} is used twice in run {self.run_id} "
                f"(first as a {self.claimed[key]}, then as a {what})",
                next="give each step, record and scope a key of its own",
            )
        self.claimed[key] = what

    def pool(self, path: str, parent: Pool, budget: Budget) -> Pool:
        """The pool of a scope, charged with what the journal says was spent below it."""
        pool = self.pools[path] = Pool(path, budget.limits(), parent)
        return pool

    def load_spend(self, pool: Pool) -> None:
        """Charge ``pool`` alone; its parents were charged when they were opened."""
        below = pool.path + "/" if pool.path else ""
        for step in self.state.steps.values():
            if step.scope == pool.path or step.scope.startswith(below):
                pool.spent.update(step.used)
                pool.spent.update(step.lost)

    # ---------------------------------------------------------------- commands

    async def receive(self, row: tuple[Any, ...]) -> None:
        """Journal one command of the inbox, then let it take effect."""
        inbox, verb, target, message, decided_on, _ts = row
        data = {
            "inbox": inbox,
            "verb": verb,
            "target": target,
            "message": json.loads(message),
            "decided_on": decided_on,
        }
        await self.append(Type.COMMAND, f"command/{inbox}", data)
        self._take_effect(self.state.commands[-1], replayed=False)

    def _take_effect(self, command: CommandState, *, replayed: bool) -> None:
        match command.verb:
            case "pause":
                self.gate.clear()
            case "continue":
                self.gate.set()
            case "stop":
                self.stop_requested = True
                self.gate.set()
            case "interrupt" if not replayed:
                self.interrupt(command.target, str(command.message or "interrupted by a person"))
            case "kill" if not replayed:
                self.killed = True
                self.gate.set()
                if self.main is not None:
                    self.main.cancel()
            case _:
                pass
        self.arrived.set()
        self.arrived = asyncio.Event()

    def interrupt(self, target: str, reason: str) -> None:
        for key, running in list(self.running.items()):
            if not target or key == target or key.startswith(target + "/"):
                running.interrupted = reason
                running.task.cancel()

    def check_args(self, key: str, found: str, args: str) -> None:
        if found != args:
            raise ReplayMismatch(
                f"step {key!r} of run {self.run_id} was journaled with arguments {found or 'none'}"
                f" and is called with {args or 'none'}",
                next="run the version of the workflow that began this run, or fork the run before "
                "this step",
            )


def _ignore(error: BaseException | None) -> None:
    """A posted append that fails poisons its epoch: the next awaited one raises the error."""
