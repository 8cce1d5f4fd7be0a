"""What people say to a run, held by whichever process: through the journal's file.

Invariant: a command takes effect in the order in which it was journaled, once, whoever sends it
again; whoever drives a scope shows a lease that has not ended; an edit is a command, so what a
person changes is kept with the run and comes again on replay.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

from manyhands.errors import ConfigError, JournalError
from manyhands.runtime import leases
from manyhands.runtime.budget import Budget
from manyhands.runtime.clock import Clock
from manyhands.runtime.codec import decode, encode
from manyhands.runtime.events import Status, Type
from manyhands.runtime.execution import Execution
from manyhands.runtime.journal import Journal
from manyhands.runtime.leases import Lease
from manyhands.runtime.reading import POLL_SECONDS, Reader

#: What `Runtime.command` takes. ``steer``: a message at the next boundary; ``pause`` (``{"now":
#: false}``: agents end their turn)/``continue``; ``interrupt``: cancel the calls in flight below a
#: target; ``stop``: wrap up and keep what there is; ``kill``: end now (the run, which is resumable,
#: or the agents below a target, which report nothing); ``answer``: a value for a wait;
#: ``resolve``: a step in doubt.
VERBS = ("steer", "pause", "continue", "interrupt", "stop", "kill", "answer", "resolve")

#: Ended for good: what such a run returned is kept, and nothing is added to it.
FINAL = (Status.COMPLETED, Status.STOPPED)

#: How often it is looked whether a lease has ended.
LEASE_SECONDS = 0.5

_INSERT = (
    "INSERT OR IGNORE INTO inbox (run_id,verb,target,message,decided_on,idempotency_key,ts)"
    " VALUES (?,?,?,?,?,?,?)"
)


class Commands(Reader, ABC):
    """A journal, the runs of it that this process holds, and what is said to them."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        super().__init__(journal)
        self._clock = clock
        self._live: dict[str, Execution] = {}

    @abstractmethod
    async def _kill(self, run_id: str) -> None:
        """End a run that nobody holds."""

    async def command(
        self,
        run_id: str,
        verb: str,
        *,
        target: str = "",
        message: Any = None,
        decided_on: int | None = None,
        idempotency_key: str | None = None,
    ) -> bool:
        """Send a command to a run, held by whichever process; it acts on it at once or on resume.

        A run that no process holds is killed on the spot; an ``interrupt`` finds nothing to cancel
        there. ``target``: a scope's path or a step's key ('' is the whole run). ``decided_on``: the
        sequence number that the sender had seen. Returns False when a command with this
        ``idempotency_key`` is there already. Raises `ConfigError` for a run that is completed or
        stopped, `RunNotFound`.
        """
        if verb not in VERBS:
            raise ConfigError(
                f"command {verb!r}; known: {', '.join(VERBS)}", next="use one of them"
            )
        key = idempotency_key or secrets.token_hex(8)
        fresh = await self._send(run_id, verb, target, message, key, decided_on=decided_on)
        here = run_id in self._live
        if (
            fresh
            and verb == "kill"
            and not target
            and not here
            and self._row(run_id).holder is None
        ):
            await self._kill(run_id)
        return fresh

    async def _send(
        self,
        run_id: str,
        verb: str,
        target: str,
        message: Any,
        key: str,
        *,
        decided_on: int | None = None,
        ahead: Callable[[sqlite3.Connection, float], object] | None = None,
    ) -> bool:
        """Into the inbox, and to the run if it is here. ``ahead``: work in the same transaction,
        which refuses by raising."""
        self._row(run_id)
        now = self._clock.time()
        told = self.journal.redactor.text(encode(message))

        def insert(db: sqlite3.Connection) -> bool:
            row = (run_id, verb, target, told, decided_on, key, now)
            if db.execute(_INSERT, row).rowcount != 1:
                return False
            _check_going(db, run_id)
            if ahead is not None:
                ahead(db, now)
            return True

        fresh = await self.journal.call(insert)
        execution = self._live.get(run_id)
        if execution is not None and execution.loop is asyncio.get_running_loop():
            await self._deliver(execution)
        return fresh

    async def answer(self, run_id: str, key: str, value: Any) -> None:
        """Give a waiting run (`Run.wait`) its value. ``key`` is the full one."""
        await self.command(run_id, "answer", target=key, message=value)

    async def resolve(self, run_id: str, key: str, action: str, value: Any = None) -> None:
        """Say what became of a step in doubt: ``retry``, ``result`` (its value) or ``fail``.

        `resume` acts on it. Raises `ConfigError` when the step is not in doubt.
        """
        if action not in ("retry", "result", "fail"):
            raise ConfigError(f"action {action!r}", next="use retry, result or fail")
        step = self.view(run_id).steps.get(key)
        if step is None or step.outcome != "in_doubt":
            raise ConfigError(
                f"step {key!r} of run {run_id} is {step.outcome if step else 'not known'}, "
                "not in doubt",
                next=f"manyhands show {run_id} lists the steps in doubt",
            )
        message = {"action": action, "value": value}
        await self.command(run_id, "resolve", target=key, message=message)

    async def rebudget(self, run_id: str, target: str, budget: Budget) -> None:
        """Put the limits that ``budget`` names in the place of those of the scope ``target`` ('':
        of the run), from here on. What was refused before stays refused.

        Raises `ConfigError` for a scope that has no limits of its own.
        """
        named = budget.model_dump(exclude_unset=True)
        scopes = self.view(run_id).scopes
        if target and (target not in scopes or not named):
            there = ", ".join(sorted(scopes)) or "none"
            raise ConfigError(
                f"scope {target!r} of run {run_id} has no budget of its own; those that have: "
                f"{there}",
                next="name one of them, or none for the run's own",
            )
        await self._send(run_id, "budget", target, named, secrets.token_hex(8))

    # ---------------------------------------------------------------- a person who drives

    async def take(
        self,
        run_id: str,
        target: str,
        owner: str,
        *,
        seconds: float = 60.0,
        most: float = 3_600.0,
        then: str = "hold",
        alone: bool = True,
        decided_on: int | None = None,
    ) -> Lease:
        """Take the agent ``target`` over (not ``alone``: with all below it, which may be those that
        it waits for). It comes to rest at its next place for that, and does what `act` says.

        The lease ends ``seconds`` after its last heartbeat (`renew`), and after ``most`` seconds in
        any case; ``then`` the agent is held until somebody takes it or lets it go on (``hold``), or
        goes on by itself (``continue``).

        Raises `LeaseHeld` where another person drives it, or what is around or below it.
        """
        if then not in ("hold", "continue"):
            raise ConfigError(f"then = {then!r}", next="use hold or continue")
        taken: list[Lease] = []

        def ahead(db: sqlite3.Connection, now: float) -> None:
            terms = {"now": now, "seconds": seconds, "most": most}
            taken.append(leases.take(db, run_id, target, owner, alone=alone, **terms))

        about = {"owner": owner, "then": then, "alone": alone, "seconds": seconds, "most": most}
        key = secrets.token_hex(8)
        await self._send(run_id, "take", target, about, key, decided_on=decided_on, ahead=ahead)
        return taken[0]

    async def renew(self, lease: Lease) -> None:
        """A heartbeat. Raises `LeaseLost`."""
        now = self._clock.time()
        await self.journal.call(lambda db: leases.renew(db, lease, now))

    async def act(
        self, lease: Lease, what: dict[str, Any], *, to: str = "", idempotency_key: str = ""
    ) -> str:
        """Have the scope ``to`` (default: the lease's) do something; it is a heartbeat, too.

        Returns the command's id, by which the scope tells what came of it. Raises `LeaseLost`.
        """
        key = idempotency_key or secrets.token_hex(8)
        about = _said(lease, what, to)
        await self._send(
            lease.run_id,
            "act",
            lease.target,
            about,
            key,
            ahead=lambda db, now: leases.renew(db, lease, now),
        )
        return key

    async def hand_back(self, lease: Lease, what: dict[str, Any], *, to: str = "") -> str:
        """Give the scope back; it goes on as ``what`` says. Raises `LeaseLost`."""
        key = secrets.token_hex(8)
        await self._send(
            lease.run_id,
            "hand_back",
            lease.target,
            _said(lease, what, to),
            key,
            ahead=lambda db, now: leases.give_up(db, lease, now),
        )
        return key

    async def _expire(self, execution: Execution) -> None:
        """End the leases whose heartbeats have stopped."""
        now = self._clock.time()
        if not execution.state.holds.drivers or now < execution.leases_seen + LEASE_SECONDS:
            return
        execution.leases_seen = now
        run_id = execution.run_id
        for hold in list(execution.state.holds.drivers.values()):
            ended = partial(leases.expire, run_id=run_id, target=hold.target, now=now)
            if await self.journal.call(ended):
                about = {"owner": hold.owner, "alone": hold.alone}
                await self._send(run_id, "expire", hold.target, about, f"expire-{hold.seq}")

    # ---------------------------------------------------------------- delivery

    async def _poll_inbox(self) -> None:
        """Commands that other processes wrote, and leases that ended."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            for execution in list(self._live.values()):
                with contextlib.suppress(JournalError, ConfigError):  # its run meets the same
                    await self._deliver(execution)
                    await self._expire(execution)

    async def _deliver(self, execution: Execution) -> None:
        async with execution.delivering:
            if execution.ended:
                return
            rows = self.journal.read(
                "SELECT id,idempotency_key,verb,target,message,decided_on FROM inbox"
                " WHERE run_id=? AND id>? ORDER BY id",
                execution.run_id,
                execution.inbox_seen,
            )
            for row in rows:
                execution.inbox_seen = row[0]
                if all(c.id != row[1] for c in execution.state.commands):
                    await execution.receive(row)


def _said(lease: Lease, what: dict[str, Any], to: str) -> dict[str, Any]:
    about = {"owner": lease.owner, "alone": lease.alone, "to": to or lease.target}
    return {**what, **about}


def _check_going(db: sqlite3.Connection, run_id: str) -> None:
    last = db.execute(
        "SELECT type, data FROM events INDEXED BY lifecycle"
        " WHERE run_id=? AND type GLOB 'run.*' ORDER BY seq DESC LIMIT 1",
        (run_id,),
    ).fetchone()
    status = decode(last[1]).get("status") if last and last[0] == Type.RUN_ENDED else None
    if status in FINAL:
        raise ConfigError(
            f"run {run_id} is {status}: no command reaches it",
            next="`fork` makes a run that goes on from any point of it",
        )
