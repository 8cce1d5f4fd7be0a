"""The runtime: opens a journal, starts, resumes and forks runs, and passes commands to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from manyhands.errors import (
    ConfigError,
    InDoubt,
    JournalError,
    RunHeld,
    RunKilled,
    RunNotFound,
    UnknownWorkflow,
)
from manyhands.runtime.budget import Budget
from manyhands.runtime.clock import Clock
from manyhands.runtime.codec import decode, encode
from manyhands.runtime.events import Event, Status, Type
from manyhands.runtime.execution import Execution
from manyhands.runtime.fold import RunState
from manyhands.runtime.journal import Journal
from manyhands.runtime.owner import Owner, this_process
from manyhands.runtime.run import Run, Workflow

#: What `Runtime.command` takes. ``steer``: a message at the next boundary; ``pause``/``continue``;
#: ``interrupt``: cancel the calls in flight below a target; ``stop``: wrap up and keep what there
#: is; ``kill``: end now (resumable); ``answer``: a value for a wait; ``resolve``: a step in doubt.
VERBS = ("steer", "pause", "continue", "interrupt", "stop", "kill", "answer", "resolve")

_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One line of the list of runs; ``owner`` names the live process that holds it, if one does."""

    run_id: str
    workflow: str
    status: Status
    created_at: float
    updated_at: float
    events: int
    owner: str | None


class RunHandle:
    """A run in progress in this process."""

    def __init__(self, run_id: str, task: asyncio.Task[Any]) -> None:
        self.run_id = run_id
        self._task = task

    async def result(self) -> Any:
        """What the workflow returned. Raises what ended it otherwise."""
        return await asyncio.shield(self._task)

    @property
    def done(self) -> bool:
        return self._task.done()


class Runtime:
    """One journal and the runs of it that this process holds. Use as ``async with``."""

    def __init__(self, journal: Journal, workflows: Iterable[Workflow], clock: Clock) -> None:
        self.journal = journal
        self._workflows = {w.name: w for w in workflows}
        self._clock = clock
        self._owner = this_process()
        self._live: dict[str, Execution] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._inbox: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        workflows: Iterable[Workflow] = (),
        clock: Clock | None = None,
        on_boundary: Callable[[str, int], None] | None = None,
    ) -> Self:
        """Open (or make) the journal at ``sqlite:///PATH``.

        ``workflows``: those that `resume` may need to find by name. Raises `JournalUnreadable`,
        `JournalTooNew`, `ConfigError`.
        """
        return cls(Journal(url, on_boundary=on_boundary), workflows, clock or Clock())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel what still runs (it stays resumable), let go of the runs, close the journal."""
        tasks = [*self._tasks, *([self._inbox] if self._inbox else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.journal.close()

    # ---------------------------------------------------------------- starting

    async def start(
        self,
        workflow: Workflow,
        input: Any = None,
        *,
        run_id: str | None = None,
        budget: Budget | None = None,
    ) -> RunHandle:
        """Begin a run. ``run_id`` (default: a fresh one) must be new to the journal."""
        self._workflows.setdefault(workflow.name, workflow)
        run_id = run_id or f"{workflow.name}-{secrets.token_hex(4)}"
        now = self._clock.time()
        text = encode(input)

        def create(db: sqlite3.Connection) -> None:
            if db.execute("SELECT 1 FROM runs WHERE run_id=?", (run_id,)).fetchone():
                raise ConfigError(
                    f"run {run_id!r} is in {self.journal.path} already",
                    next=f"manyhands resume {run_id}, or give another run id",
                )
            db.execute(
                "INSERT INTO runs VALUES (?,?,?,?,?,NULL)",
                (run_id, workflow.name, workflow.version, now, 0),
            )
            data = {
                "workflow": workflow.name,
                "version": workflow.version,
                "budget": (budget or Budget()).model_dump(exclude_defaults=True),
            }
            db.execute(
                "INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?)",
                (run_id, 1, 0, now, Type.RUN_CREATED, "", encode(data), text, None),
            )

        await self.journal.call(create)
        return await self.resume(run_id)

    async def run(
        self,
        workflow: Workflow,
        input: Any = None,
        *,
        run_id: str | None = None,
        budget: Budget | None = None,
    ) -> Any:
        """`start`, and the result."""
        return await (await self.start(workflow, input, run_id=run_id, budget=budget)).result()

    async def resume(
        self,
        run_id: str,
        *,
        budget: Budget | None = None,
        retry_failed: bool = False,
        take_over: bool = False,
    ) -> RunHandle:
        """Go on with a run: finished steps come from the journal, the rest is done.

        ``budget``: new limits (steps that the old ones refused are tried again).
        ``retry_failed``: try failed steps again. ``take_over``: although an owner on another host
        cannot be seen to be gone. Raises `RunNotFound`, `RunHeld`, `UnknownWorkflow`.
        """
        state = self.view(run_id)
        workflow = self._workflow(state)
        if state.status is Status.COMPLETED:
            return self._handle(run_id, asyncio.create_task(self._stored(workflow, state)))
        epoch = await self._acquire(run_id, take_over)
        state = self.view(run_id)
        retry = [
            s.key
            for s in state.steps.values()
            if s.outcome == "failed" and s.event is not None
            if retry_failed or (budget and s.event.data.get("kind") == "BudgetExceeded")
        ]
        execution = await self._execution(state, epoch, budget, retry)
        task = asyncio.create_task(self._drive(workflow, execution), name=f"run {run_id}")
        execution.main = task
        self._live[run_id] = execution
        if self._inbox is None:
            self._inbox = asyncio.create_task(self._poll_inbox(), name="inbox")
        return self._handle(run_id, task)

    def _handle(self, run_id: str, task: asyncio.Task[Any]) -> RunHandle:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda t: t.cancelled() or t.exception())
        return RunHandle(run_id, task)

    def _workflow(self, state: RunState) -> Workflow:
        workflow = self._workflows.get(state.workflow)
        if workflow is None:
            raise UnknownWorkflow(
                f"run {state.run_id} is of workflow {state.workflow!r}; known here: "
                f"{', '.join(sorted(self._workflows)) or 'none'}",
                next="open the runtime with that workflow in `workflows=`",
            )
        return workflow

    async def _stored(self, workflow: Workflow, state: RunState) -> Any:
        assert state.output is not None
        return decode(self.journal.value(state.output) or "null", workflow.returns)

    async def _acquire(self, run_id: str, take_over: bool) -> int:
        """Take hold of the run and begin its next epoch; older owners are fenced from here on."""

        def acquire(db: sqlite3.Connection) -> int:
            row = db.execute("SELECT epoch, owner FROM runs WHERE run_id=?", (run_id,)).fetchone()
            owner = Owner.from_json(row[1]) if row[1] else None
            if owner is not None and owner.alive and not (take_over and not owner.local):
                hint = "" if owner.local else "; if that one is gone: --take-over"
                raise RunHeld(
                    f"run {run_id} is held by {owner}",
                    next=f"wait for it, or stop it: manyhands stop {run_id}{hint}",
                )
            db.execute(
                "UPDATE runs SET epoch=?, owner=? WHERE run_id=?",
                (row[0] + 1, self._owner.to_json(), run_id),
            )
            return row[0] + 1

        return await self.journal.call(acquire)

    async def _release(self, execution: Execution) -> None:
        def release(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE runs SET owner=NULL WHERE run_id=? AND epoch=?",
                (execution.run_id, execution.epoch),
            )

        self._live.pop(execution.run_id, None)
        with contextlib.suppress(JournalError):
            await self.journal.call(release)

    async def _execution(
        self, state: RunState, epoch: int, budget: Budget | None, retry: list[str]
    ) -> Execution:
        data: dict[str, Any] = {"pid": self._owner.pid}
        if budget is not None:
            data["budget"] = budget.model_dump(exclude_defaults=True)
        if retry:
            data["retry"] = retry
        now = self._clock.time()
        opened = Event(state.seq + 1, epoch, now, Type.RUN_OPENED, "", data)
        state.apply(opened)
        execution = Execution(
            state.run_id,
            epoch,
            self.journal,
            state,
            self._clock,
            asyncio.get_running_loop(),
            listeners=[self._notify],
        )
        execution.load_spend(execution.pools[""])
        self.journal.append(state.run_id, epoch, (opened,), durable=False, done=lambda error: None)
        return execution

    # ---------------------------------------------------------------- driving

    async def _drive(self, workflow: Workflow, execution: Execution) -> Any:
        state = execution.state
        assert state.input is not None
        run = Run(execution, "", execution.pools[""], state.budget)
        try:
            input = decode(self.journal.value(state.input) or "null", workflow.takes)
            value = await workflow.fn(run, input)
            text = encode(value)
            status = Status.STOPPED if execution.stop_requested else Status.COMPLETED
            await execution.append(Type.RUN_ENDED, "", {"status": status}, text)
            return decode(text, workflow.returns)
        except InDoubt as error:
            await execution.append(Type.RUN_BLOCKED, "", {"key": error.key, "message": error.what})
            raise
        except JournalError:
            raise
        except asyncio.CancelledError:
            if not execution.killed:
                raise
            await execution.append(Type.RUN_ENDED, "", {"status": Status.KILLED})
            raise RunKilled(
                f"run {run.id} was killed", next=f"manyhands resume {run.id} goes on with it"
            ) from None
        except Exception as error:
            data = {"kind": type(error).__name__, "message": str(error)[:4000]}
            await execution.append(Type.RUN_ENDED, "", {"status": Status.FAILED, "error": data})
            raise
        finally:
            await asyncio.shield(self._release(execution))
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # ---------------------------------------------------------------- commands

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

        ``target``: a scope's path or a step's key ('' is the whole run). ``decided_on``: the
        sequence number that the sender had seen. Returns False when a command with this
        ``idempotency_key`` is there already.
        """
        if verb not in VERBS:
            raise ConfigError(
                f"command {verb!r}; known: {', '.join(VERBS)}", next="use one of them"
            )
        self._row(run_id)
        key = idempotency_key or secrets.token_hex(8)
        text, now = encode(message), self._clock.time()

        def insert(db: sqlite3.Connection) -> bool:
            cursor = db.execute(
                "INSERT OR IGNORE INTO inbox"
                " (run_id,verb,target,message,decided_on,idempotency_key,ts)"
                " VALUES (?,?,?,?,?,?,?)",
                (run_id, verb, target, text, decided_on, key, now),
            )
            return cursor.rowcount == 1

        fresh = await self.journal.call(insert)
        if (execution := self._live.get(run_id)) is not None:
            await self._deliver(execution)
        return fresh

    async def answer(self, run_id: str, key: str, value: Any) -> None:
        """Give a waiting run (`Run.wait`) its value."""
        await self.command(run_id, "answer", target=key, message=value)

    async def resolve(self, run_id: str, key: str, action: str, value: Any = None) -> None:
        """Say what became of a step in doubt: ``retry``, ``result`` (its value) or ``fail``."""
        if action not in ("retry", "result", "fail"):
            raise ConfigError(f"action {action!r}", next="use retry, result or fail")
        step = self.view(run_id).steps.get(key)
        if step is None or step.outcome not in ("in_doubt", "started"):
            raise ConfigError(
                f"step {key!r} of run {run_id} is {step.outcome if step else 'not known'}, "
                "not in doubt",
                next=f"manyhands show {run_id} lists the steps in doubt",
            )
        message = {"action": action, "value": value}
        await self.command(run_id, "resolve", target=key, message=message)

    async def _poll_inbox(self) -> None:
        """Commands that other processes wrote. Also tells listeners that they wrote at all."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            for execution in list(self._live.values()):
                with contextlib.suppress(JournalError):
                    await self._deliver(execution)

    async def _deliver(self, execution: Execution) -> None:
        seen = max((c.inbox for c in execution.state.commands), default=0)
        rows = self.journal.read(
            "SELECT id,verb,target,message,decided_on,ts FROM inbox"
            " WHERE run_id=? AND id>? ORDER BY id",
            execution.run_id,
            seen,
        )
        for row in rows:
            if all(c.inbox != row[0] for c in execution.state.commands):
                await execution.receive(row)

    # ---------------------------------------------------------------- looking

    def _row(self, run_id: str) -> tuple[Any, ...]:
        rows = self.journal.read(
            "SELECT run_id,workflow,created_at,epoch,owner FROM runs WHERE run_id=?", run_id
        )
        if not rows:
            raise RunNotFound(
                f"run {run_id!r} is not in {self.journal.path}",
                next="manyhands runs lists what is there",
            )
        return rows[0]

    def view(self, run_id: str) -> RunState:
        """The fold of a run's events as they are now. Raises `RunNotFound`."""
        row = self._row(run_id)
        state = RunState(run_id)
        for event in self.journal.events(run_id):
            state.apply(event)
        state.status = self._seen(state.status, row[4])
        return state

    def _seen(self, status: Status, owner: str | None) -> Status:
        if status is not Status.RUNNING:
            return status
        alive = owner is not None and Owner.from_json(owner).alive
        return Status.RUNNING if alive else Status.INTERRUPTED

    def runs(self) -> list[RunInfo]:
        """All runs, newest first."""
        return [
            self._info(row)
            for row in self.journal.read(
                "SELECT run_id,workflow,created_at,epoch,owner FROM runs ORDER BY created_at DESC"
            )
        ]

    def _info(self, row: tuple[Any, ...]) -> RunInfo:
        run_id, workflow, created_at, _epoch, owner = row
        last = self.journal.read(
            "SELECT type,data FROM events INDEXED BY lifecycle"
            " WHERE run_id=? AND type GLOB 'run.*' ORDER BY seq DESC LIMIT 1",
            run_id,
        )
        tail = self.journal.read(
            "SELECT seq,ts FROM events WHERE run_id=? ORDER BY seq DESC LIMIT 1", run_id
        )
        status = Status.RUNNING
        if last and last[0][0] == Type.RUN_ENDED:
            status = Status(json.loads(last[0][1])["status"])
        elif last and last[0][0] == Type.RUN_BLOCKED:
            status = Status.BLOCKED
        holder = Owner.from_json(owner) if owner else None
        return RunInfo(
            run_id,
            workflow,
            self._seen(status, owner),
            created_at,
            tail[0][1] if tail else created_at,
            tail[0][0] if tail else 0,
            str(holder) if holder and holder.alive else None,
        )

    async def events(
        self, run_id: str, after: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[Event]:
        """Events with seq > ``after``; with ``follow`` also those to come, until the run ends.

        Works on a run of any process. Large values stay references (`value` reads them).
        """
        self._row(run_id)
        while True:
            ended = False
            for event in self.journal.events(run_id, after):
                after = event.seq
                ended = event.type in (Type.RUN_ENDED, Type.RUN_BLOCKED)
                yield event
            if not follow or ended:
                return
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), _POLL_SECONDS)

    def value(self, event: Event, returns: Any = None) -> Any:
        """The decoded value of an event, None where it has none."""
        text = self.journal.value(event)
        return None if text is None else decode(text, returns)

    # ---------------------------------------------------------------- forking

    async def fork(self, run_id: str, before: int | str, *, new_run_id: str | None = None) -> str:
        """A new run with this one's events up to, not including, a sequence number or a step's
        start; `resume` goes on from there. Returns the new run's id."""
        cut = self._cut(run_id, before)
        new = new_run_id or f"{run_id}-fork-{secrets.token_hex(2)}"
        events = list(self.journal.events(run_id, before=cut))
        now = self._clock.time()
        mark = Event(
            cut, events[-1].epoch, now, Type.RUN_FORKED, "", {"run_id": run_id, "before": cut}
        )

        def copy(db: sqlite3.Connection) -> None:
            if db.execute("SELECT 1 FROM runs WHERE run_id=?", (new,)).fetchone():
                raise ConfigError(f"run {new!r} is there already", next="give another run id")
            db.execute(
                "INSERT INTO runs SELECT ?,workflow,version,?,?,NULL FROM runs WHERE run_id=?",
                (new, now, mark.epoch, run_id),
            )
            for e in [*events, mark]:
                row = (new, e.seq, e.epoch, e.ts, e.type, e.key, encode(e.data), e.value, e.ref)
                db.execute("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?)", row)

        await self.journal.call(copy)
        return new

    def _cut(self, run_id: str, before: int | str) -> int:
        state = self.view(run_id)
        if isinstance(before, int):
            cut = before
        elif before in state.steps:
            cut = state.steps[before].seq
        else:
            raise ConfigError(
                f"run {run_id} has no step {before!r}",
                next=f"manyhands show {run_id} --steps lists them",
            )
        if not 2 < cut <= state.seq + 1:
            raise ConfigError(
                f"cannot fork run {run_id} before event {cut}",
                next=f"give a number from 3 to {state.seq + 1}",
            )
        return cut
