"""Steps: once live, the same on replay, and every way out settles what it took."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from manyhands.errors import (
    DuplicateKey,
    InDoubt,
    JournalError,
    NotSerializable,
    ReplayMismatch,
    RunEnded,
    StepFailed,
    UnknownWorkflow,
    WorkflowError,
)
from manyhands.runtime import Effect, Retry, Run, Runtime, Settled, Status, Workflow
from manyhands.testing import ManualClock

Body = Callable[[Run, Any], Awaitable[Any]]


@pytest.fixture
def path(fast_path: Path) -> Path:
    return fast_path


async def play(path: Path, fn: Body, input: Any = None, **options: Any) -> Any:
    """Begin the run, or go on with it."""
    workflow = Workflow("w", fn)
    async with Runtime.open(path, workflows=[workflow], **options) as runtime:
        if runtime.runs():
            return await (await runtime.resume("r")).result()
        return await runtime.run(workflow, input, run_id="r")


def replay(path: Path, fn: Body) -> Any:
    """The whole run again from its journal, in a fork that was cut just before its end."""
    workflow = Workflow("w", fn)

    async def again() -> Any:
        async with Runtime.open(path, workflows=[workflow]) as runtime:
            end = runtime.view("r").seq
            new = await runtime.fork("r", before=end)
            return await (await runtime.resume(new)).result()

    return again()


class Point(BaseModel):
    x: float
    tags: tuple[str, ...] = ()


@dataclass
class Counted:
    calls: int = 0

    async def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return args


async def test_a_finished_step_is_not_called_again(path: Path) -> None:
    counted = Counted()

    async def body(run: Run, input: Any) -> Any:
        return [await run.step(f"s{i}", counted, i) for i in range(3)]

    live = await play(path, body)
    assert await replay(path, body) == live == [[0], [1], [2]]
    assert counted.calls == 3


@pytest.mark.parametrize(
    ("value", "returns"),
    [
        ((1, (2,)), None),
        ({1: "x"}, None),
        (Point(x=1, tags=("a",)), None),
        (Point(x=math.inf, tags=("a",)), Point),
        ([2**60, "\ud800", "\u2028", {"$float": 1}], None),
        ("x" * 10_000_000, None),
        (None, None),
    ],
    ids=["tuple", "int key", "model", "typed", "odd", "10 MB", "none"],
)
async def test_live_and_replayed_values_are_equal_in_value_and_type(
    path: Path, value: Any, returns: Any
) -> None:
    seen: list[Any] = []

    async def body(run: Run, input: Any) -> None:
        seen.append(await run.step("s", lambda: value, returns=returns))

    await play(path, body)
    await replay(path, body)
    assert seen[0] == seen[1]
    assert type(seen[0]) is type(seen[1])


async def test_a_failure_is_the_same_live_and_replayed(path: Path) -> None:
    seen: list[StepFailed] = []

    def fail() -> None:
        raise ValueError("x" * 5000 + "\ud800")

    async def body(run: Run, input: Any) -> None:
        try:
            await run.step("s", fail)
        except StepFailed as error:
            seen.append(error)

    await play(path, body)
    await replay(path, body)
    assert (seen[0].key, seen[0].kind, seen[0].message) == ("s", "ValueError", "x" * 4000)
    assert str(seen[0]) == str(seen[1])


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Odd(), "Odd"),
        (ExceptionGroup("many", [ValueError("a")]), "ExceptionGroup"),
        (asyncio.CancelledError(), "CancelledError"),
        (TimeoutError(), "TimeoutError"),
        (StopIteration(1), "RuntimeError"),
    ],
    ids=lambda e: type(e).__name__ if isinstance(e, BaseException) else e,
)
async def test_whatever_a_step_raises_ends_it_as_failed(
    path: Path, error: BaseException, kind: str
) -> None:
    def fail() -> None:
        raise error

    async def body(run: Run, input: Any) -> str:
        with pytest.raises(StepFailed) as caught:
            await run.step("s", fail)
        return caught.value.kind

    assert await play(path, body) == kind


async def test_a_value_that_json_cannot_hold_fails_the_step(path: Path) -> None:
    async def body(run: Run, input: Any) -> str:
        with pytest.raises(StepFailed) as caught:
            await run.step("s", object)
        return caught.value.kind

    assert await play(path, body) == "NotSerializable"
    assert await replay(path, body) == "NotSerializable"


async def test_a_value_of_another_type_fails_the_step(path: Path) -> None:
    async def body(run: Run, input: Any) -> str:
        with pytest.raises(StepFailed) as caught:
            await run.step("s", lambda: {"x": "no number"}, returns=Point)
        return caught.value.kind

    assert await play(path, body) == "ValidationError"
    assert await replay(path, body) == "ValidationError"


async def test_other_arguments_on_replay_are_refused(path: Path) -> None:
    async def body(run: Run, input: Any) -> None:
        await run.step("s", Counted(), 1)

    async def changed(run: Run, input: Any) -> None:
        await run.step("s", Counted(), 2)

    await play(path, body)
    with pytest.raises(ReplayMismatch, match=r"'s' of run r-fork.* arguments"):
        await replay(path, changed)


async def test_arguments_that_json_cannot_hold_are_refused_before_anything_happens(
    path: Path,
) -> None:
    counted = Counted()

    async def body(run: Run, input: Any) -> None:
        await run.step("s", counted, object())

    with pytest.raises(NotSerializable):
        await play(path, body)
    assert counted.calls == 0


async def test_one_key_names_one_thing(path: Path) -> None:
    async def body(run: Run, input: Any) -> None:
        await run.step("s", Counted())
        with pytest.raises(DuplicateKey, match="'s' is used twice in run r, first as a step"):
            await run.record("s", "test:row", {})
        async with run.scope("a"):
            pass
        with pytest.raises(DuplicateKey, match="'a'"):
            async with run.scope("a/b"):
                pass

        async def nothing(child: Run, item: int) -> None: ...

        with pytest.raises(DuplicateKey, match="two items"):
            await run.map("m", nothing, [1, 1], key_of=str)

    await play(path, body)


@pytest.mark.parametrize("key", ["a b", "é/ü", "\x00", "💥", "a//b", "%s", "'; DROP TABLE events;"])
async def test_odd_keys_are_keys(path: Path, key: str) -> None:
    async def body(run: Run, input: Any) -> Any:
        return await run.step(key, Counted(), key)

    assert await play(path, body) == [key]
    assert await replay(path, body) == [key]


@pytest.mark.parametrize("key", ["", "\ud800"])
async def test_a_key_that_cannot_be_written_is_refused(path: Path, key: str) -> None:
    async def body(run: Run, input: Any) -> Any:
        await run.step(key, Counted())

    with pytest.raises(WorkflowError, match="key"):
        await play(path, body)


# -------------------------------------------------------------------- attempts


class Busy(Exception):
    retryable = True
    retry_after: float | None = None


async def test_a_retryable_failure_is_tried_again_after_its_backoff(path: Path) -> None:
    clock = ManualClock(jump=True)
    calls: list[float] = []

    def flaky() -> str:
        calls.append(clock.time())
        if len(calls) < 4:
            raise Busy
        return "ok"

    async def body(run: Run, input: Any) -> str:
        return await run.step("s", flaky, retry=Retry(5, first=1, factor=2, cap=3))

    assert await play(path, body, clock=clock) == "ok"
    assert [b - a for a, b in pairwise(calls)] == [1, 2, 3]


async def test_retry_after_overrides_the_backoff_within_the_cap(path: Path) -> None:
    error = Busy()
    error.retry_after = 1000
    assert Retry(5, cap=30).delay(1, error) == 30
    error.retry_after = -1
    assert Retry(5).delay(1, error) == 0
    error.retry_after = None
    assert Retry(10_000, cap=30).delay(5000, error) == 30
    assert Retry(5).delay(5, error) is None
    assert Retry(5).delay(1, ValueError()) is None


async def test_a_crash_does_not_give_a_step_more_attempts(path: Path) -> None:
    calls = 0

    def flaky() -> str:
        nonlocal calls
        calls += 1
        raise Busy

    clock = ManualClock()

    async def body(run: Run, input: Any) -> str:
        await run.step("s", flaky, retry=Retry(3, first=10))
        return "never"

    workflow = Workflow("w", body)
    async with Runtime.open(path, workflows=[workflow], clock=clock) as runtime:
        await runtime.start(workflow, run_id="r")
        await clock.sleepers(1)  # it backs off, and the process goes
    with pytest.raises(StepFailed):
        await play(path, body, clock=ManualClock(jump=True))
    assert calls == 3


async def test_a_timeout_fails_the_step(path: Path) -> None:
    clock = ManualClock()

    async def body(run: Run, input: Any) -> str:
        with pytest.raises(StepFailed) as caught:
            await run.step("s", asyncio.Event().wait, timeout=5)
        return f"{caught.value.kind}: {caught.value.message}"

    async def turn() -> None:
        await clock.sleepers(1)
        await clock.advance(6)

    turning = asyncio.create_task(turn())
    assert await play(path, body, clock=clock) == "TimeoutError: no end after 5 s"
    await turning


# -------------------------------------------------------------------- in doubt


async def until(true: Callable[[], object]) -> None:
    """Look again and again, for 10 s."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def doubtful(path: Path, **options: Any) -> list[str]:
    """A journal whose step ``pay`` was begun, and never ended."""
    calls: list[str] = []

    async def body(run: Run, input: Any) -> None:
        async def hang() -> None:
            calls.append("paid")
            await asyncio.Event().wait()

        await run.step("pay", hang, effect=Effect.ONCE, **options)

    workflow = Workflow("w", body)
    async with Runtime.open(path, workflows=[workflow]) as runtime:
        await runtime.start(workflow, run_id="r")
        await until(lambda: calls)
    return calls


def paying(calls: list[str], **options: Any) -> Body:
    async def body(run: Run, input: Any) -> Any:
        def pay() -> str:
            calls.append("paid")
            return "receipt"

        return await run.step("pay", pay, effect=Effect.ONCE, **options)

    return body


async def test_a_once_step_in_doubt_blocks_the_run(path: Path) -> None:
    calls = await doubtful(path)
    with pytest.raises(InDoubt, match="manyhands resolve r pay --retry"):
        await play(path, paying(calls))
    assert calls == ["paid"]
    async with Runtime.open(path) as runtime:
        view = runtime.view("r")
    assert view.status is Status.BLOCKED
    assert [s.key for s in view.in_doubt()] == ["pay"]


async def test_a_run_that_was_let_go_of_shows_its_doubt_before_it_is_resumed(path: Path) -> None:
    await doubtful(path)
    async with Runtime.open(path) as runtime:
        assert [s.key for s in runtime.view("r").in_doubt()] == ["pay"]


@pytest.mark.parametrize(
    ("settled", "result", "paid"),
    [(Settled(True, "seen"), "seen", 1), (Settled(False), "receipt", 2)],
    ids=["happened", "did not"],
)
async def test_a_probe_settles_a_doubt(
    path: Path, settled: Settled, result: str, paid: int
) -> None:
    calls = await doubtful(path)

    async def probe() -> Settled:
        return settled

    body = paying(calls, probe=probe)
    assert await play(path, body) == result
    assert await replay(path, body) == result
    assert len(calls) == paid


async def test_a_probe_that_fails_or_cannot_tell_leaves_it_to_a_person(path: Path) -> None:
    calls = await doubtful(path)

    async def broken() -> Settled:
        raise OSError("no route")

    async def unsure() -> None:
        return None

    with pytest.raises(InDoubt, match="no route"):
        await play(path, paying(calls, probe=broken))
    with pytest.raises(InDoubt, match="could not tell"):
        await play(path, paying(calls, probe=unsure))
    assert calls == ["paid"]


async def resolve(path: Path, body: Body, action: str, value: Any = None) -> Any:
    workflow = Workflow("w", body)
    async with Runtime.open(path, workflows=[workflow]) as runtime:
        await runtime.resolve("r", "pay", action, value)
        return await (await runtime.resume("r")).result()


async def test_a_person_gives_the_result(path: Path) -> None:
    calls = await doubtful(path)
    assert await resolve(path, paying(calls), "result", "found it") == "found it"
    assert calls == ["paid"]


async def test_a_person_lets_it_be_tried_again(path: Path) -> None:
    calls = await doubtful(path)
    assert await resolve(path, paying(calls), "retry") == "receipt"
    assert calls == ["paid", "paid"]


async def test_a_person_fails_it(path: Path) -> None:
    calls = await doubtful(path)
    with pytest.raises(StepFailed, match="ResolvedAsFailed: lost"):
        await resolve(path, paying(calls), "fail", "lost")


async def test_a_result_that_does_not_fit_leaves_the_doubt(path: Path) -> None:
    calls = await doubtful(path)
    with pytest.raises(InDoubt, match="does not fit"):
        await resolve(path, paying(calls, returns=int), "result", "many")
    assert await resolve(path, paying(calls, returns=int), "result", 3) == 3


async def test_one_decision_settles_one_doubt(path: Path) -> None:
    """A ``retry`` that dies in its turn is in doubt again: the old word does not count twice."""
    calls = await doubtful(path)

    async def hangs(run: Run, input: Any) -> None:
        async def hang() -> None:
            calls.append("paid")
            await asyncio.Event().wait()

        await run.step("pay", hang, effect=Effect.ONCE)

    workflow = Workflow("w", hangs)
    async with Runtime.open(path, workflows=[workflow]) as runtime:
        await runtime.resolve("r", "pay", "retry")
        await runtime.resume("r")
        await until(lambda: len(calls) == 2)
    with pytest.raises(InDoubt):
        await play(path, paying(calls))
    assert len(calls) == 2


async def test_a_doubt_that_the_workflow_swallows_still_blocks_the_run(path: Path) -> None:
    calls = await doubtful(path)

    async def careless(run: Run, input: Any) -> str:
        try:
            await run.step("pay", Counted(), effect=Effect.ONCE)
        except Exception:
            return "all is well"
        return ""

    with pytest.raises(InDoubt):
        await play(path, careless)
    assert calls == ["paid"]


async def test_a_doubt_in_a_task_group_blocks_the_run(path: Path) -> None:
    calls = await doubtful(path)

    async def grouped(run: Run, input: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(run.step("pay", Counted(), effect=Effect.ONCE))

    with pytest.raises(InDoubt):
        await play(path, grouped)
    async with Runtime.open(path) as runtime:
        assert runtime.view("r").status is Status.BLOCKED
    assert calls == ["paid"]


async def test_in_a_map_a_doubt_comes_before_a_failure(path: Path) -> None:
    gate = asyncio.Event()

    async def branch(child: Run, item: str) -> None:
        if item == "fails":
            await child.step("s", lambda: 1 / 0)
        await child.step("pay", gate.wait, effect=Effect.ONCE)

    async def body(run: Run, input: Any) -> None:
        await run.map("m", branch, ["fails", "doubt"], key_of=str)

    workflow = Workflow("w", body)
    async with Runtime.open(path, workflows=[workflow]) as runtime:
        await runtime.start(workflow, run_id="r")
        await until(lambda: len(runtime.view("r").steps) == 2)
    with pytest.raises(InDoubt):
        await play(path, body)


# -------------------------------------------------------------------- workflows


async def test_a_map_keeps_the_order_of_its_items_and_bounds_its_children(path: Path) -> None:
    now = most = 0

    async def branch(child: Run, item: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01 * (3 - item % 3))
        now -= 1
        return item

    async def body(run: Run, input: Any) -> Any:
        return await run.map("m", branch, range(9), key_of=str, limit=3)

    assert await play(path, body) == list(range(9))
    assert most == 3


async def test_in_a_map_the_others_finish_before_the_failure_is_raised(path: Path) -> None:
    counted = Counted()

    async def branch(child: Run, item: int) -> None:
        if item == 0:
            await child.step("s", lambda: 1 / 0)
        await asyncio.sleep(0.01)
        await child.step("s", counted, item)

    async def body(run: Run, input: Any) -> None:
        await run.map("m", branch, range(4), key_of=str)

    with pytest.raises(StepFailed, match="m/0/s"):
        await play(path, body)
    assert counted.calls == 3


async def test_the_failures_of_a_task_group_fail_the_run(path: Path) -> None:
    async def body(run: Run, input: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(run.step("a", lambda: 1 / 0))

    with pytest.raises(ExceptionGroup):
        await play(path, body)
    async with Runtime.open(path) as runtime:
        view = runtime.view("r")
    assert view.status is Status.FAILED
    assert view.error is not None
    assert view.error["kind"] == "ExceptionGroup"


async def test_a_workflow_that_cancels_itself_has_failed(path: Path) -> None:
    async def body(run: Run, input: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(RunEnded):
        await play(path, body)
    async with Runtime.open(path) as runtime:
        assert runtime.view("r").status is Status.FAILED


async def test_a_step_that_its_workflow_gives_up_on_can_be_run_later(path: Path) -> None:
    """Cancelled by the workflow's own timeout: no end is journaled, nothing leaks."""
    counted = Counted()

    async def body(run: Run, input: Any) -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await run.step("slow", asyncio.Event().wait)
        return await run.step("next", counted)

    assert await play(path, body) == []
    async with Runtime.open(path) as runtime:
        assert runtime.view("r").steps["slow"].outcome == "started"


async def test_closing_leaves_a_live_run_resumable(path: Path) -> None:
    gate = asyncio.Event()

    async def body(run: Run, input: Any) -> Any:
        first = await run.step("first", Counted(), 1)
        await run.step("wait", gate.wait)
        return first

    workflow = Workflow("w", body)
    async with Runtime.open(path, workflows=[workflow]) as runtime:
        handle = await runtime.start(workflow, run_id="r")
        await until(lambda: "wait" in runtime.view("r").steps)
        tasks = asyncio.all_tasks()
    with pytest.raises(RunEnded, match="manyhands resume r"):
        await handle.result()
    assert all(t.done() for t in tasks - {asyncio.current_task()})
    async with Runtime.open(path) as runtime:
        assert runtime.view("r").status is Status.INTERRUPTED
    gate.set()
    assert await play(path, body) == [1]


async def test_a_failed_run_fails_the_same_way_until_its_steps_are_tried_anew(path: Path) -> None:
    broken = True

    def work() -> str:
        if broken:
            raise OSError("down")
        return "up"

    async def body(run: Run, input: Any) -> str:
        return await run.step("s", work)

    workflow = Workflow("w", body)
    with pytest.raises(StepFailed):
        await play(path, body)
    broken = False
    async with Runtime.open(path, workflows=[workflow]) as runtime:
        with pytest.raises(StepFailed, match="down"):
            await (await runtime.resume("r")).result()
        handle = await runtime.resume("r", retry_failed=True)
        assert await handle.result() == "up"


async def test_a_completed_run_gives_what_it_returned(path: Path) -> None:
    counted = Counted()

    async def body(run: Run, input: Any) -> Any:
        return await counted()

    assert await play(path, body) == await play(path, body) == []
    assert counted.calls == 1


async def test_a_run_goes_on_only_with_the_version_that_began_it(path: Path) -> None:
    async def body(run: Run, input: Any) -> int:
        await run.step("hang", asyncio.sleep, 0 if run.epoch > 1 else 60)
        return 1

    old, new = Workflow("w", body, version=1), Workflow("w", body, version=2)
    async with Runtime.open(path, workflows=[old]) as runtime:
        await runtime.start(old, run_id="r")
    async with Runtime.open(path, workflows=[new]) as runtime:
        with pytest.raises(ReplayMismatch, match=r"version 1 .* known here: 2"):
            await runtime.resume("r")
    async with Runtime.open(path, workflows=[Workflow("v", body)]) as runtime:
        with pytest.raises(UnknownWorkflow, match="'w'; known here: v"):
            await runtime.resume("r")
    async with Runtime.open(path, workflows=[old, new]) as runtime:
        assert runtime.view("r").version == 1


async def test_what_another_version_journaled_under_a_key_is_refused(path: Path) -> None:
    async def before(run: Run, input: Any) -> None:
        await run.record("k", "test:row", {"a": 1})

    async def after(run: Run, input: Any) -> None:
        await run.put("k", "notes", "text", kind="text")

    await play(path, before)
    with pytest.raises(ReplayMismatch, match=r"test:row.*artifact\.put"):
        await replay(path, after)


async def test_a_record_is_what_it_was_when_it_was_written(path: Path) -> None:
    async def body(run: Run, input: Any) -> None:
        data: dict[str, Any] = {"list": (1, 2)}
        await run.record("k", "test:row", data)
        data["list"] = "changed"
        with pytest.raises(NotSerializable):
            await run.record("bad", "test:row", {"x": object()})
        with pytest.raises(WorkflowError, match=r"run\.x"):
            await run.record("type", "run.x", {})
        await run.record("after", "test:row", {})

    await play(path, body)
    async with Runtime.open(path) as runtime:
        events = [e async for e in runtime.events("r")]
    assert [e.data for e in events if e.type == "test:row"] == [{"list": [1, 2]}, {}]


async def test_time_is_journaled(path: Path) -> None:
    clock = ManualClock(now=5)

    async def body(run: Run, input: Any) -> float:
        return await run.now("t")

    assert await play(path, body, clock=clock) == 5
    assert await replay(path, body) == 5


async def test_a_crash_does_not_prolong_a_sleep(path: Path) -> None:
    clock = ManualClock(now=100)

    async def body(run: Run, input: Any) -> str:
        await run.sleep("nap", 60)
        return "awake"

    workflow = Workflow("w", body)
    async with Runtime.open(path, workflows=[workflow], clock=clock) as runtime:
        await runtime.start(workflow, run_id="r")
        await clock.sleepers(1)
    await clock.advance(59)
    async with Runtime.open(path, workflows=[workflow], clock=clock) as runtime:
        handle = await runtime.resume("r")
        await clock.sleepers(1)
        assert not handle.done
        await clock.advance(1)
        assert await handle.result() == "awake"


async def test_a_runtime_belongs_to_one_event_loop(path: Path) -> None:
    async def body(run: Run, input: Any) -> None:
        await run.step("hang", asyncio.sleep, 60)

    workflow = Workflow("w", body)
    async with Runtime.open(path, workflows=[workflow]) as runtime:
        await runtime.start(workflow, run_id="r")

        def elsewhere() -> None:
            async def start() -> None:
                with pytest.raises(Exception, match="another event loop"):
                    await runtime.run(workflow)
                await runtime.command("r", "kill")  # a command may come from anywhere

            asyncio.run(start())

        await asyncio.to_thread(elsewhere)
        await until(lambda: runtime.status("r") is Status.KILLED)


async def test_a_journal_that_is_closed_says_so(path: Path) -> None:
    runtime = Runtime.open(path)
    await runtime.close()
    await runtime.close()
    with pytest.raises(JournalError, match="closed"):
        runtime.runs()
    with pytest.raises(JournalError, match="closed"):
        await runtime.run(Workflow("w", Counted()))


async def test_only_what_ended_a_run_is_tried_again(path: Path) -> None:
    broken, seen = True, Counted()

    async def flaky(name: str) -> str:
        await seen()
        if broken:
            raise OSError(f"{name} is down")
        return "up"

    async def body(run: Run, input: Any) -> Any:
        try:
            first = await run.step("handled", flaky, "a")
        except StepFailed:
            first = "gone round"
        return [
            first,
            *await run.map(
                "each", lambda r, x: r.step("s", flaky, x), ["b", "c"], key_of=lambda x: x
            ),
        ]

    workflow = Workflow("w", body)
    with pytest.raises(StepFailed):
        await play(path, body)
    broken = False
    async with Runtime.open(path, workflows=[workflow]) as runtime:
        error = runtime.view("r").error
        assert error is not None
        assert error["keys"] == ["each/b/s", "each/c/s"]
        handle = await runtime.resume("r", retry_ending=True)
        assert await handle.result() == ["gone round", "up", "up"]
    assert seen.calls == 5
