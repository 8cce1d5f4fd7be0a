"""The runtime: opens a journal, starts, resumes and forks runs, and passes commands to them.

Invariant: of the processes that have the journal open, one at a time drives a run; a run that is
let go of in any way but its end can be resumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from manyhands.errors import (
    ConfigError,
    InDoubt,
    JournalError,
    ManyhandsError,
    ReplayMismatch,
    RunEnded,
    RunHeld,
    UnknownWorkflow,
)
from manyhands.runtime.budget import Budget
from manyhands.runtime.clock import Clock
from manyhands.runtime.codec import decode, encode
from manyhands.runtime.commands import FINAL, Commands
from manyhands.runtime.database import INSERT_BLOB, INSERT_EVENT, INSERT_RUN, row_of
from manyhands.runtime.ending import end, killed, outcome, part, stopped
from manyhands.runtime.events import Event, Status, Type
from manyhands.runtime.execution import Execution
from manyhands.runtime.forking import fork_run
from manyhands.runtime.journal import Journal
from manyhands.runtime.owner import Owner, new_owner
from manyhands.runtime.reading import Row
from manyhands.runtime.run import Run, Workflow


class RunHandle:
    """A run in progress in this process."""

    def __init__(self, run_id: str, task: asyncio.Task[Any]) -> None:
        self.run_id = run_id
        self._task = task

    async def result(self) -> Any:
        """What the workflow returned. Raises what ended it otherwise (see `Runtime.resume`)."""
        me = asyncio.current_task()
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if not self._task.cancelled() or (me is not None and me.cancelling()):
                raise
            raise RunEnded(
                f"run {self.run_id} was let go of before its end",
                next=f"manyhands resume {self.run_id} goes on with it",
            ) from None

    @property
    def done(self) -> bool:
        return self._task.done()

    def let_go(self) -> None:
        """Cancel it here; it stays resumable."""
        self._task.cancel()


class Runtime(Commands):
    """One journal and the runs of it that this process holds. Use as ``async with``.

    It belongs to the event loop in which it starts its first run.
    """

    def __init__(self, journal: Journal, workflows: Iterable[Workflow], clock: Clock) -> None:
        super().__init__(journal, clock)
        self._workflows = {(w.name, w.version): w for w in workflows}
        self._owner = new_owner()
        self._orphans: set[tuple[str, int]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._inbox: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        workflows: Iterable[Workflow] = (),
        clock: Clock | None = None,
        on_boundary: Callable[[str, int], None] | None = None,
        secrets: Iterable[str] = (),
    ) -> Self:
        """Open (or make) the journal at ``sqlite:///PATH``.

        ``workflows``: those that `resume` may need to find by name and version. ``on_boundary``:
        see `Journal`. ``secrets``: texts that never reach the journal: in inputs, steps' values,
        messages and blobs ``***`` stands in their place, live and on replay alike.

        Raises `JournalUnreadable`, `JournalTooNew`, `JournalBusy`, `ConfigError`.
        """
        journal = Journal(url, on_boundary=on_boundary, secrets=secrets)
        return cls(journal, workflows, clock or Clock())

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
        for execution in self._live.values():
            execution.closing = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for execution in list(self._live.values()):
            await self._release(execution)
        self._owner.close()
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
        self._workflows[workflow.name, workflow.version] = workflow
        run_id = run_id or f"{workflow.name}-{secrets.token_hex(4)}"
        now = self._clock.time()
        data = {
            "workflow": workflow.name,
            "version": workflow.version,
            "budget": (budget or Budget()).model_dump(exclude_defaults=True),
        }
        told = self.journal.redactor.text(encode(input))
        created = Event(1, 0, now, Type.RUN_CREATED, "", data, told)
        row, blob = row_of(run_id, created)

        def create(db: sqlite3.Connection) -> None:
            if db.execute("SELECT 1 FROM runs WHERE run_id=?", (run_id,)).fetchone():
                raise ConfigError(
                    f"run {run_id!r} is in {self.journal.path} already",
                    next=f"manyhands resume {run_id}, or give another run id",
                )
            db.execute(INSERT_RUN, (run_id, workflow.name, workflow.version, now, 0))
            db.execute(INSERT_EVENT, row)
            if blob is not None:
                db.execute(INSERT_BLOB, blob)

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
        retry_ending: bool = False,
        take_over: bool = False,
    ) -> RunHandle:
        """Go on with a run: finished steps come from the journal, the rest is done.

        What it does depends on how the run was left. Interrupted or killed: it goes on. Blocked: it
        goes on if the step in doubt is settled, or what halted it is mended, and is blocked again
        otherwise. Paused: it goes on
        up to the next step and stays paused until ``continue``. Failed: it fails again in the same
        way, unless ``retry_failed`` tries its failed steps anew (``once`` steps too), or
        ``retry_ending`` only those whose failure ended it: what it has made of others stays.
        Completed or stopped: the handle gives what it returned; `fork` makes a run that goes on
        from there.

        ``budget``: new limits (steps that the old ones refused are tried again). ``take_over``:
        although an owner on another host cannot be seen to be gone. Raises `RunNotFound`,
        `RunHeld`, `UnknownWorkflow`, `ReplayMismatch` (another version of the workflow).

        The handle's ``result()`` raises what the workflow raised, `InDoubt` or `Halted` (blocked),
        `RunKilled`,
        `RunStopped` (it was stopped and has nothing to show), `JournalError` (resumable).
        """
        self._check_loop()
        row = self._row(run_id)
        workflow = self._workflow(row)
        last = self.journal.last(run_id)
        if last is not None and last.type == Type.RUN_ENDED and last.data["status"] in FINAL:
            return self._handle(run_id, asyncio.create_task(self._stored(workflow, run_id, last)))
        execution = await self._hold(run_id, budget, retry_failed, retry_ending, take_over)
        task = asyncio.create_task(self._drive(workflow, execution), name=f"run {run_id}")
        execution.main = task
        if self._inbox is None:
            self._inbox = asyncio.create_task(self._poll_inbox(), name="inbox")
        return self._handle(run_id, task)

    async def _child(
        self,
        parent: Execution,
        workflow: str,
        input: Any,
        run_id: str,
        budget: Budget | None,
        again: bool,
    ) -> Any:
        """A run that another one of this process waits for: begun if it is new, gone on with if it
        is not. A stop of the parent is passed on to it. ``again``: what ended it is tried again."""
        if self.journal.read("SELECT 1 FROM runs WHERE run_id=?", run_id):
            if parent.state.stop_of("") is not None:  # before it does anything
                await self._stop_child(parent, run_id)
            handle = await self.resume(run_id, retry_ending=again)
        else:
            found = self.workflow(workflow)
            handle = await self.start(found, input, run_id=run_id, budget=budget)
        stopping = asyncio.create_task(self._pass_stop_on(parent, run_id))
        try:
            return await handle.result()
        except asyncio.CancelledError:
            handle.let_go()
            raise
        except RunEnded as error:  # an end of the child, not of its parent
            if parent.closing:
                raise
            raise ManyhandsError(error.what, next=error.next) from error
        finally:
            stopping.cancel()

    async def _pass_stop_on(self, parent: Execution, run_id: str) -> None:
        while parent.state.stop_of("") is None:
            await parent.arrived.wait()
        await self._stop_child(parent, run_id)

    async def _stop_child(self, parent: Execution, run_id: str) -> None:
        with contextlib.suppress(ConfigError):  # it has just ended
            await self.command(run_id, "stop", idempotency_key=f"{parent.run_id} stops {run_id}")

    def workflow(self, name: str) -> Workflow:
        """The newest version that this runtime has. Raises `UnknownWorkflow`."""
        versions = [v for known, v in self._workflows if known == name]
        if not versions:
            known = ", ".join(sorted({known for known, _ in self._workflows})) or "none"
            raise UnknownWorkflow(
                f"there is no workflow {name!r} here; known: {known}",
                next="open the runtime with that workflow in `workflows=`",
            )
        return self._workflows[name, max(versions)]

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise ManyhandsError(
                "this runtime runs in another event loop",
                next="open a runtime of its own in each event loop",
            )

    def _handle(self, run_id: str, task: asyncio.Task[Any]) -> RunHandle:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda t: t.cancelled() or t.exception())
        return RunHandle(run_id, task)

    def _workflow(self, row: Row) -> Workflow:
        found = self._workflows.get((row.workflow, row.version))
        if found is not None:
            return found
        versions = sorted(v for name, v in self._workflows if name == row.workflow)
        if versions:
            raise ReplayMismatch(
                f"run {row.run_id} was begun by version {row.version} of workflow "
                f"{row.workflow!r}; known here: {', '.join(map(str, versions))}",
                next="hand that version in with `workflows=`, or begin a new run",
            )
        names = ", ".join(sorted({name for name, _ in self._workflows}))
        raise UnknownWorkflow(
            f"run {row.run_id} is of workflow {row.workflow!r}; known here: {names or 'none'}",
            next="open the runtime with that workflow in `workflows=`",
        )

    async def _stored(self, workflow: Workflow, run_id: str, output: Event) -> Any:
        text = self.journal.value(output)
        if text is None:
            raise stopped(run_id)
        return decode(text, workflow.returns)

    # ---------------------------------------------------------------- holding

    async def _hold(
        self,
        run_id: str,
        budget: Budget | None = None,
        retry_failed: bool = False,
        retry_ending: bool = False,
        take_over: bool = False,
    ) -> Execution:
        """Take hold of the run, begin an epoch, and let the commands that wait take effect."""
        epoch = await self._acquire(run_id, take_over)
        self._orphans.add((run_id, epoch))
        state = self._fold(run_id)
        ended_by = (state.error or {}).get("keys", ()) if retry_ending else ()
        retry = [
            s.key
            for s in state.steps.values()
            if s.outcome == "failed" and s.event is not None
            if retry_failed
            or s.key in ended_by
            or (budget is not None and "budget" in s.event.data)
        ]
        execution = Execution(
            run_id,
            epoch,
            self.journal,
            state,
            self._clock,
            asyncio.get_running_loop(),
            self._notify,
            self._child,
        )
        self._live[run_id] = execution
        try:
            data: dict[str, Any] = {"pid": self._owner.pid}
            if budget is not None:
                data["budget"] = budget.model_dump(exclude_defaults=True)
            if retry:
                data["retry"] = retry
            execution.post(Type.RUN_OPENED, "", data)
            await self._deliver(execution)
            execution.killed = False  # whoever was to be killed is gone
        except BaseException:
            await asyncio.shield(self._release(execution))
            raise
        return execution

    async def _acquire(self, run_id: str, take_over: bool) -> int:
        """Begin the run's next epoch; older owners are fenced from here on."""

        def acquire(db: sqlite3.Connection) -> int:
            row = db.execute("SELECT epoch, owner FROM runs WHERE run_id=?", (run_id,)).fetchone()
            owner = Owner.from_json(row[1]) if row[1] else None
            mine = owner == self._owner and (run_id, row[0]) in self._orphans
            lost = owner is not None and take_over and not owner.local
            if owner is not None and owner.alive and not lost and not mine:
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

        if run_id in self._live:
            raise RunHeld(
                f"run {run_id} is held by this {self._owner}", next="await the handle that it has"
            )
        return await self.journal.call(acquire)

    async def _release(self, execution: Execution) -> None:
        """Let go of the run. Where that cannot be written, this runtime may still take it again."""

        def release(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE runs SET owner=NULL WHERE run_id=? AND epoch=?",
                (execution.run_id, execution.epoch),
            )

        execution.flush()
        try:
            await self.journal.call(release)
            self._orphans.discard((execution.run_id, execution.epoch))
        except JournalError:
            pass
        finally:
            if self._live.get(execution.run_id) is execution:
                del self._live[execution.run_id]

    # ---------------------------------------------------------------- driving

    async def _drive(self, workflow: Workflow, execution: Execution) -> Any:
        async with self._ending(execution):
            state = execution.state
            budget = state.budget
            assert state.input is not None
            seconds = budget.seconds
            spans = (execution.span("", seconds, 0.0),) if seconds is not None else ()
            root = execution.pool("", None, budget)
            input = decode(self.journal.value(state.input) or "null", workflow.takes)
            value = await workflow.fn(Run(execution, "", root, budget, spans), input)
            if execution.doubt is not None:  # swallowed on its way up: still for a person to say
                raise InDoubt(execution.doubt, next=f"manyhands resolve {state.run_id} …")
            text = self.journal.redactor.text(encode(value))
            status = Status.STOPPED if execution.wrapping_up else Status.COMPLETED
            value = decode(text, workflow.returns)
            await end(execution, status, text)
            return value

    @asynccontextmanager
    async def _ending(self, execution: Execution) -> AsyncGenerator[None]:
        """Journal how the run ended, and let go of it."""
        task = asyncio.current_task()
        assert task is not None
        try:
            yield
        except BaseException as error:
            lost = part(error, JournalError)
            if lost is not None and lost is not error:
                raise lost from error
            if lost is not None:  # nothing can be journaled; the run can be resumed
                raise
            if execution.killed:
                await end(execution, Status.KILLED)
                raise killed(execution.run_id) from None
            cancelled = isinstance(error, asyncio.CancelledError) and task.cancelling()
            if execution.closing or cancelled:
                raise
            raise await outcome(execution, error) from error.__cause__
        finally:
            await asyncio.shield(self._release(execution))
            self._notify()

    async def _kill(self, run_id: str) -> None:
        """End a run that nobody holds. One that is being resumed just now gets the command."""
        with contextlib.suppress(RunHeld):
            execution = await self._hold(run_id)
            try:
                await end(execution, Status.KILLED)
            finally:
                await asyncio.shield(self._release(execution))

    # ---------------------------------------------------------------- forking

    async def fork(self, run_id: str, before: int | str, *, new_run_id: str | None = None) -> str:
        """A new run with this one's events up to, not including, a sequence number or a step's
        first event; `resume` goes on from there. Returns the new run's id.

        What the copied events spent counts; a pause or stop among them does not. A ``once`` step
        that had begun and not ended by then is in doubt in the fork.
        """
        state = self._fold(self._row(run_id).run_id)
        return await fork_run(self.journal, state, self._clock.time(), before, new_run_id)
