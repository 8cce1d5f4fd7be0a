"""One run held by this process: its state, its appends, the commands that reach it.

Invariant: the state is the fold of exactly the events that this object has appended or read; an
event enters the state and what is to be written in the same breath, in order. A command takes
effect in that breath too, so two that arrive together cannot hide each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from manyhands.errors import DuplicateKey, JournalError, ReplayMismatch, WorkflowError
from manyhands.runtime.artifacts import Artifacts
from manyhands.runtime.budget import Budget, Pool, Span, serve
from manyhands.runtime.clock import Clock
from manyhands.runtime.codec import decode, encode
from manyhands.runtime.events import Event, Type
from manyhands.runtime.fold import CommandState, RunState
from manyhands.runtime.journal import Journal, Prepared, awaitable

#: Why the calls of a scope that a person has killed end.
KILLED = "killed by a person"


@dataclass(slots=True, eq=False)
class Running:
    """A step's call in flight, so that ``interrupt`` can find it.

    ``cancels``: how often its task had been cancelled when the call began; what comes on top, and
    is no interruption, was meant for the workflow.
    """

    key: str
    task: asyncio.Task[Any]
    cancels: int
    interrupted: str | None = None
    over: bool = False

    @property
    def foreign(self) -> bool:
        """Somebody other than `Execution.interrupt` has cancelled the task."""
        return self.task.cancelling() > self.cancels


@dataclass(slots=True)
class Execution:
    """``artifacts``: as far as the workflow has come; ``state`` knows what it will do on replay.

    ``doubt``: a step that was left in doubt by this process. ``launch``: starts, or goes on with,
    another run of the journal, and waits for its end (True: with what ended it tried again).
    """

    run_id: str
    epoch: int
    journal: Journal
    state: RunState
    clock: Clock
    loop: asyncio.AbstractEventLoop
    on_append: Callable[[], None]
    launch: Callable[[Execution, str, Any, str, Budget | None, bool], Awaitable[Any]]
    unsent: list[Prepared] = field(default_factory=list[Prepared])
    claimed: dict[str, str] = field(default_factory=dict[str, str])
    within: set[str] = field(default_factory=set[str])
    running: dict[str, Running] = field(default_factory=dict[str, Running])
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    delivering: asyncio.Lock = field(default_factory=asyncio.Lock)
    inbox_seen: int = 0
    leases_seen: float = 0.0
    main: asyncio.Task[Any] | None = None
    killed: bool = False
    wrapping_up: bool = False
    ended: bool = False
    closing: bool = False
    doubt: str | None = None
    artifacts: Artifacts = field(default_factory=Artifacts)
    pools: dict[str, Pool] = field(default_factory=dict[str, Pool])
    spans: dict[str, Span] = field(default_factory=dict[str, Span])

    # ---------------------------------------------------------------- appending

    def post(self, type: str, key: str, data: dict[str, Any], value: str | None = None) -> Event:
        """Append without waiting: for what the next awaited append makes durable anyway.

        It is written together with that one, or at the loop's next turn if there is none by then.
        One that fails poisons its epoch: the next awaited one raises the error.
        """
        if self.journal.redactor:
            data, value = self._hidden(data, value)
        event = Event(self.state.seq + 1, self.epoch, self.clock.time(), type, key, data, value)
        prepared = self.journal.prepare(self.run_id, event)  # may raise: before anything changes
        blob = prepared[1]
        if blob is not None:  # the state keeps what a reader of the file would: the reference
            event = replace(event, value=None, ref=blob[0])
        self.state.apply(event)
        self.unsent.append(prepared)
        if len(self.unsent) == 1:
            self.loop.call_soon(self.flush)
        return event

    def _hidden(self, data: dict[str, Any], value: str | None) -> tuple[dict[str, Any], str | None]:
        hide = self.journal.redactor.text
        text = encode(data)
        hidden = hide(text)
        return data if hidden == text else decode(hidden), None if value is None else hide(value)

    def flush(
        self,
        durable: bool = False,
        done: Callable[[JournalError | None], None] | None = None,
    ) -> None:
        """Hand what was posted to the writer."""
        if self.unsent:
            events, self.unsent = self.unsent, []
            self.journal.append(self.run_id, self.epoch, events, durable=durable, done=done)

    async def append(
        self,
        type: str,
        key: str,
        data: dict[str, Any],
        value: str | None = None,
        *,
        durable: bool = False,
    ) -> Event:
        """Append and wait for the commit. Raises `StaleEpoch`, `JournalFull`, `NotSerializable`."""
        committed, done = awaitable(self.loop)
        event = self.post(type, key, data, value)
        self.flush(durable, done)
        await committed
        self.on_append()
        return event

    # ---------------------------------------------------------------- keys and pools

    def claim(self, path: str, key: str, what: str) -> str:
        """The full key. A key names one thing in one execution, and a scope's keys are its own."""
        if not key or not _writable(key):
            raise WorkflowError(
                f"key {key!r} of a {what} is {'not valid Unicode' if key else 'empty'}",
                next="name each step, record and scope",
            )
        full = f"{path}/{key}" if path else key
        if full in self.claimed:
            raise self._duplicate(full, self.claimed[full], what)
        if what == "scope":
            self._claim_folders(full, path)
        self.claimed[full] = what
        return full

    def _claim_folders(self, full: str, path: str) -> None:
        """A scope ``a/b`` that is not inside of ``a`` forbids a scope ``a``: spend is by path."""
        if full in self.within:
            raise self._duplicate(full, "part of another scope's key", "scope")
        folder = full.rpartition("/")[0]
        while len(folder) > len(path):
            if self.claimed.get(folder) == "scope":
                raise self._duplicate(folder, "scope", f"part of the scope {full!r} beside it")
            self.within.add(folder)
            folder = folder.rpartition("/")[0]

    def _duplicate(self, key: str, first: str, then: str) -> DuplicateKey:
        return DuplicateKey(
            f"key {key!r} is used twice in run {self.run_id}, first as a {first}, then as a {then}",
            next="give each step, record and scope a key of its own",
        )

    def check_type(self, event: Event, type: str) -> None:
        if event.type != type:
            raise self.mismatch(event.key, event.type, type)

    def check_args(self, key: str, found: str, args: str) -> None:
        if found != args:
            found, args = f"arguments {found or '(none)'}", f"arguments {args or '(none)'}"
            raise self.mismatch(key, found, args)

    def mismatch(self, key: str, then: str, now: str) -> ReplayMismatch:
        return ReplayMismatch(
            f"{key!r} of run {self.run_id} was journaled with {then}, and is now {now}",
            next="run the version of the workflow that began this run, or fork the run before "
            "this point",
        )

    def pool(self, path: str, parent: Pool | None, budget: Budget) -> Pool:
        """The pool of a scope, charged with what the journal says was spent in it and below it.

        Its parents are not charged: they were loaded with all that is below them when they opened,
        and nothing can be spent in a scope before it opens.
        """
        pool = Pool(path, budget.limits(), parent)
        self.load_spend(pool)
        self.pools[path] = pool
        return pool

    def span(self, path: str, seconds: float, since: float) -> Span:
        """The limit on the seconds of a scope, which a command may change."""
        span = self.spans[path] = Span(path, seconds, since)
        return span

    def load_spend(self, pool: Pool) -> None:
        below = pool.path + "/" if pool.path else ""
        for step in self.state.steps.values():
            if step.scope == pool.path or step.scope.startswith(below):
                pool.spent.update(step.used)
                pool.spent.update(step.lost)

    def active(self) -> float:
        """Seconds that processes have held this run, up to now."""
        return self.state.active + max(0.0, self.clock.time() - self.state.updated_at)

    # ---------------------------------------------------------------- calls in flight

    def enter(self, key: str) -> Running:
        task = asyncio.current_task()
        assert task is not None
        running = self.running[key] = Running(key, task, task.cancelling())
        return running

    def leave(self, running: Running) -> None:
        """The call is over: from here on nothing interrupts it. Safe to call twice."""
        if running.over:
            return
        running.over = True
        if self.running.get(running.key) is running:
            del self.running[running.key]
        if running.interrupted is not None:
            running.task.uncancel()

    async def released(self, scope: str, exempt: int, *, paced: bool) -> None:
        """Wait until nothing holds the steps of ``scope`` any more."""
        while self.state.holds.stops(scope, exempt, paced=paced):
            await self.arrived.wait()

    def begun(self, prefixes: tuple[str, ...]) -> bool:
        """Whether the journal has a key that begins with one of these."""
        state = self.state
        return any(
            key.startswith(prefixes)
            for keys in (state.steps, state.records, state.scopes, state.timers, state.waits)
            for key in keys
        )

    def interrupt(self, target: str, reason: str) -> None:
        """Cancel the calls in flight at or below ``target``; '' is the whole run."""
        for key, running in list(self.running.items()):
            hit = not target or key == target or key.startswith(target + "/")
            if hit and running.interrupted is None:
                running.interrupted = reason
                running.task.cancel()

    # ---------------------------------------------------------------- commands

    async def receive(self, row: tuple[Any, ...]) -> None:
        """Journal one command of the inbox and let it take effect."""
        _, id, verb, target, message, decided_on = row
        data = {
            "id": id,
            "verb": verb,
            "target": target,
            "message": decode(message),
            "decided_on": decided_on,
        }
        committed, done = awaitable(self.loop)
        self.post(Type.COMMAND, "", data)
        self.flush(done=done)
        self._take_effect(self.state.commands[-1])
        await committed
        self.on_append()

    def _take_effect(self, command: CommandState) -> None:
        match command.verb:
            case "budget":
                self._rebudget(command.target)
            case "interrupt":
                self.interrupt(command.target, str(command.message or "interrupted by a person"))
            case "kill" if command.target:
                self.interrupt(command.target, KILLED)
            case "kill":
                self.killed = True
                if self.main is not None:
                    self.main.cancel()
            case _:
                pass
        self.arrived.set()
        self.arrived = asyncio.Event()

    def _rebudget(self, target: str) -> None:
        """Limits that a command changed hold from here on, for those who wait, too."""
        state = self.state
        budget = state.scopes[target][0] if target in state.scopes else state.budget
        if target in self.pools:
            self.pools[target].limits.update(budget.limits())
            serve(self.pools[target])
        if target in self.spans and budget.seconds is not None:
            self.spans[target].seconds = budget.seconds


def _writable(key: str) -> bool:
    try:
        return key.isascii() or bool(key.encode())
    except UnicodeEncodeError:
        return False
