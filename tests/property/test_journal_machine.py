"""Any sequence of steps, failures, records, crashes in the middle of a step, commands, forks and
moves to another journal: what has finished is never repeated, and the live state, the fold of the
file and the result of the workflow agree."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from manyhands.errors import InDoubt, RunEnded, StepFailed
from manyhands.runtime import (
    Effect,
    Run,
    RunHandle,
    RunState,
    Runtime,
    Workflow,
    export_run,
    import_run,
)

VALUES = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


class Journals(RuleBasedStateMachine):
    """The workflow is a growing list of verbs; each rule adds one, or does something to the run,
    and resumes it, so that all the earlier ones are replayed."""

    def __init__(self) -> None:
        super().__init__()
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.folder = TemporaryDirectory(dir=memory)
        self.journals = 0
        self.run_id = "r"
        self.verbs: list[tuple[Any, ...]] = []
        self.expected: list[Any] = []
        self.found: list[Any] = []
        self.calls: dict[int, int] = {}
        self.most: dict[int, int] = {}
        self.hang: int | None = None
        self.hanging = asyncio.Event()
        self.live: RunState | None = None
        self.stored: RunState | None = None
        self.seqs: list[int] = []

    def teardown(self) -> None:
        self.folder.cleanup()

    @property
    def path(self) -> Path:
        return Path(self.folder.name) / f"{self.journals}.db"

    # ---------------------------------------------------------------- the workflow

    async def call(self, i: int) -> Any:
        self.calls[i] = self.calls.get(i, 0) + 1
        if self.hang == i:
            self.hanging.set()
            await asyncio.Event().wait()
        verb, *rest = self.verbs[i]
        if verb == "fail":
            raise ValueError(rest[0])
        return rest[0]

    async def one(self, run: Run, i: int) -> Any:
        verb, value, effect = self.verbs[i]
        if verb == "record":
            await run.record(f"v{i}", "test:row", {"value": value}, value=value)
            return None
        try:
            return await run.step(f"v{i}", self.call, i, effect=effect)
        except StepFailed as error:
            return error.message

    async def body(self, run: Run, input: Any) -> None:
        self.live = run._execution.state
        self.found = [await self.one(run, i) for i in range(len(self.verbs))]
        raise asyncio.CancelledError  # leave the run open: the next verb goes on with it

    # ---------------------------------------------------------------- driving it

    def go(self, **options: Any) -> None:
        asyncio.run(self.resume(**options))

    async def resume(self, *, crash: bool = False, **options: Any) -> None:
        workflow = Workflow("w", self.body)
        self.hanging = asyncio.Event()
        async with Runtime.open(self.path, workflows=[workflow]) as runtime:
            if runtime.runs():
                handle = await runtime.resume(self.run_id, **options)
            else:
                handle = await runtime.start(workflow, run_id=self.run_id)
            if crash:
                await self.hanging.wait()
            else:
                await self.end(runtime, handle)
        self.hang = None
        await self.look()

    async def end(self, runtime: Runtime, handle: RunHandle) -> None:
        try:
            with contextlib.suppress(RunEnded):
                await handle.result()
        except InDoubt as doubt:
            await runtime.resolve(self.run_id, doubt.key, "result", self.verbs[-1][1])
            await self.end(runtime, await runtime.resume(self.run_id))

    async def look(self) -> None:
        async with Runtime.open(self.path) as runtime:
            self.stored = runtime._fold(self.run_id)
            self.seqs = [e.seq async for e in runtime.events(self.run_id)]

    # ---------------------------------------------------------------- rules

    @rule(value=VALUES, effect=st.sampled_from(list(Effect)))
    def step(self, value: Any, effect: Effect) -> None:
        self.verbs.append(("step", value, effect))
        self.expected.append(value)
        self.most[len(self.verbs) - 1] = 1
        self.go()

    @rule(message=st.text(max_size=5))
    def failure(self, message: str) -> None:
        self.verbs.append(("fail", message, Effect.PURE))
        self.expected.append(message)
        self.most[len(self.verbs) - 1] = 1
        self.go()

    @rule(value=VALUES)
    def record(self, value: Any) -> None:
        self.verbs.append(("record", value, None))
        self.expected.append(None)
        self.go()

    @rule(value=VALUES, effect=st.sampled_from(list(Effect)))
    def crash_in_a_step(self, value: Any, effect: Effect) -> None:
        """A ``once`` step is settled by a person; the others are run again."""
        i = len(self.verbs)
        self.verbs.append(("step", value, effect))
        self.expected.append(value)
        self.most[i] = 1 if effect is Effect.ONCE else 2
        self.hang = i
        self.go(crash=True)
        self.go()

    @precondition(lambda self: self.verbs)
    @rule()
    def replay(self) -> None:
        self.go()

    @precondition(lambda self: any(v[0] == "fail" for v in self.verbs))
    @rule()
    def retry_failed(self) -> None:
        for i, verb in enumerate(self.verbs):
            if verb[0] == "fail":
                self.most[i] += 1
        self.go(retry_failed=True)

    @precondition(lambda self: self.verbs)
    @rule()
    def fork(self) -> None:
        async def do() -> None:
            async with Runtime.open(self.path) as runtime:
                end = runtime.view(self.run_id).seq
                self.run_id = await runtime.fork(self.run_id, before=end + 1)

        asyncio.run(do())
        self.go()

    @precondition(lambda self: self.verbs and self.journals < 4)
    @rule()
    def move(self) -> None:
        out = Path(self.folder.name) / f"{self.journals}.jsonl"

        async def do() -> None:
            async with Runtime.open(self.path) as runtime:
                export_run(runtime.journal, self.run_id, out)
            self.journals += 1
            async with Runtime.open(self.path) as runtime:
                await import_run(runtime.journal, out)

        asyncio.run(do())
        self.go()

    # ---------------------------------------------------------------- invariants

    @invariant()
    def the_result_is_that_of_one_life(self) -> None:
        assert self.found == self.expected
        assert [type(v) for v in self.found] == [type(v) for v in self.expected]

    @invariant()
    def nothing_finished_is_repeated(self) -> None:
        assert all(count <= self.most[i] for i, count in self.calls.items())

    @invariant()
    def there_are_no_holes(self) -> None:
        assert self.seqs == list(range(1, len(self.seqs) + 1))

    @invariant()
    def the_live_state_is_the_fold_of_the_file(self) -> None:
        if self.live is None or self.stored is None:
            return
        for field in fields(RunState):
            live, stored = getattr(self.live, field.name), getattr(self.stored, field.name)
            if field.name == "artifacts":
                live, stored = live.all(), stored.all()
            assert live == stored, field.name


Journals.TestCase.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
TestJournals = Journals.TestCase
