"""Commands: from within, from another process, and to a run that nobody holds."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import ConfigError, RunKilled, RunStopped, StepFailed
from manyhands.runtime import Retry, Run, Runtime, Status, StepState, Workflow
from manyhands.testing import ManualClock


async def until(true: Callable[[], object]) -> None:
    """Look again and again, for 10 s."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def from_elsewhere(path: Path, verb: str, **options: Any) -> None:
    """Send a command from a process of its own."""
    code = (
        "import asyncio, sys, json\n"
        "from manyhands.runtime import Runtime\n"
        "async def main():\n"
        "    async with Runtime.open(sys.argv[1]) as runtime:\n"
        f"        await runtime.command('r', {verb!r}, **{options!r})\n"
        "asyncio.run(main())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(path))
    assert await process.wait() == 0


async def turns(run: Run, count: int) -> list[Any]:
    """Turns until the end or a stop, with the steering messages that came."""
    heard: list[Any] = []
    for i in range(count):
        if await run.stopping(f"stop{i}"):
            return [*heard, "wrapped up"]
        heard += await run.steers(f"steer{i}")
        await run.step(f"turn{i}", asyncio.sleep, 0.01)
    return heard


TURNS = Workflow("turns", turns)


async def hang(run: Run, input: Any) -> Any:
    try:
        return await run.step("hang", asyncio.Event().wait)
    except StepFailed as error:
        return [error.kind, error.message]


HANG = Workflow("hang", hang)


async def test_a_message_reaches_the_next_turn(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        handle = await runtime.start(TURNS, 10, run_id="r")
        await until(lambda: "turn2" in runtime.view("r").steps)
        await runtime.command("r", "steer", message="left", decided_on=7)
        await runtime.command("r", "steer", message="right", target="elsewhere")
        assert await handle.result() == ["left"]
        (command, _) = runtime.view("r").commands
        assert (command.verb, command.message, command.decided_on) == ("steer", "left", 7)


async def test_a_message_from_another_process_reaches_the_next_turn(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        handle = await runtime.start(TURNS, 20_000, run_id="r")
        await from_elsewhere(fast_path, "steer", message="left")
        await until(lambda: any(_said(step, "left") for step in _steers(runtime)))
        await runtime.command("r", "stop")
        assert await handle.result() == ["left", "wrapped up"]


def _said(step: StepState, word: str) -> bool:
    return step.event is not None and word in (step.event.value or "")


def _steers(runtime: Runtime) -> list[StepState]:
    steps = runtime.view("r").steps
    return [step for key, step in list(steps.items()) if key.startswith("steer")]


async def test_a_message_is_for_a_scope_and_what_is_below_it(fast_path: Path) -> None:
    async def body(run: Run, input: Any) -> Any:
        await run.wait("go")
        found: dict[str, list[str]] = {}
        async with run.scope("a") as a, a.scope("b") as b, run.scope("c") as c:
            for scope in (a, b, c):
                found[scope.path] = await scope.steers("s")
                assert await scope.steers("again") == []
        return found

    workflow = Workflow("w", body)
    async with Runtime.open(fast_path) as runtime:
        handle = await runtime.start(workflow, run_id="r")
        await runtime.command("r", "steer", target="a", message="to a")
        await runtime.command("r", "steer", target="a/b", message="to b")
        await runtime.command("r", "steer", message="to all")
        await runtime.answer("r", "go", 1)
        assert await handle.result() == {
            "a": ["to a", "to all"],
            "a/b": ["to a", "to b", "to all"],
            "c": ["to all"],
        }


async def test_one_command_is_sent_once(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        handle = await runtime.start(TURNS, 8, run_id="r")
        send = [
            runtime.command("r", "steer", message="left", idempotency_key="one") for _ in range(3)
        ]
        assert sorted(await asyncio.gather(*send)) == [False, False, True]
        assert await handle.result() == ["left"]
        assert not await runtime.command("r", "steer", message="left", idempotency_key="one")


async def test_commands_that_come_together_all_take_effect(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        handle = await runtime.start(TURNS, 500, run_id="r")
        send = [runtime.command("r", "steer", message=str(i)) for i in range(20)]
        await asyncio.gather(*send, runtime.command("r", "stop"))
        *_, last = await handle.result()
        assert last == "wrapped up"
        assert len(runtime.view("r").commands) == 21


async def test_a_pause_holds_the_next_step_until_it_may_go_on(fast_path: Path) -> None:
    async with Runtime.open(fast_path, workflows=[TURNS]) as runtime:
        handle = await runtime.start(TURNS, 5, run_id="r")
        await runtime.command("r", "pause")
        await asyncio.sleep(0.1)
        held = runtime.view("r")
        assert held.paused
        assert not handle.done
    async with Runtime.open(fast_path, workflows=[TURNS]) as runtime:
        handle = await runtime.resume("r")  # still paused
        await asyncio.sleep(0.1)
        assert len(runtime.view("r").steps) == len(held.steps)
        await runtime.command("r", "continue")
        assert await handle.result() == []


async def test_an_interrupt_ends_the_call_and_not_the_run(fast_path: Path) -> None:
    async with Runtime.open(fast_path, workflows=[HANG]) as runtime:
        handle = await runtime.start(HANG, run_id="r")
        await until(lambda: runtime._live["r"].running)
        await runtime.command("r", "interrupt", target="hang", message="enough")
        assert await handle.result() == ["Interrupted", "enough"]
        new = await runtime.fork("r", before=runtime.view("r").seq)
        assert await (await runtime.resume(new)).result() == ["Interrupted", "enough"]


async def test_an_interrupt_ends_the_calls_below_its_target_only(fast_path: Path) -> None:
    gate = asyncio.Event()

    async def branch(child: Run, item: str) -> str:
        try:
            await child.step("s", gate.wait)
        except StepFailed as error:
            return error.kind
        return "done"

    async def body(run: Run, input: Any) -> Any:
        return await run.map("m", branch, ["a", "ab", "b"], key_of=str)

    async with Runtime.open(fast_path) as runtime:
        handle = await runtime.start(Workflow("w", body), run_id="r")
        await until(lambda: len(runtime._live["r"].running) == 3)
        await runtime.command("r", "interrupt", target="m/a")
        gate.set()
        assert await handle.result() == ["Interrupted", "done", "done"]


async def test_an_interrupt_reaches_a_call_that_backs_off(fast_path: Path) -> None:
    class Busy(Exception):
        retryable = True

    def busy() -> None:
        raise Busy

    async def body(run: Run, input: Any) -> str:
        with pytest.raises(StepFailed) as failed:
            await run.step("s", busy, retry=Retry(10, first=1000, cap=1000))
        return failed.value.kind

    clock = ManualClock()
    async with Runtime.open(fast_path, clock=clock) as runtime:
        handle = await runtime.start(Workflow("w", body), run_id="r")
        await clock.sleepers(1)
        await runtime.command("r", "interrupt")
        assert await handle.result() == "Interrupted"


async def test_a_call_that_shrugs_an_interrupt_off_has_its_value(fast_path: Path) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "anyway"
        return ""

    async def body(run: Run, input: Any) -> list[str]:
        return [await run.step("s", stubborn), await run.step("t", lambda: "next")]

    async with Runtime.open(fast_path) as runtime:
        handle = await runtime.start(Workflow("w", body), run_id="r")
        await until(lambda: runtime._live["r"].running)
        await runtime.command("r", "interrupt")
        assert await handle.result() == ["anyway", "next"]


async def test_a_stop_is_a_wrap_up_with_a_value_of_its_own(fast_path: Path) -> None:
    async with Runtime.open(fast_path, workflows=[TURNS]) as runtime:
        handle = await runtime.start(TURNS, 1000, run_id="r")
        await from_elsewhere(fast_path, "stop")
        assert await handle.result() == ["wrapped up"]
        assert runtime.view("r").status is Status.STOPPED
        assert await (await runtime.resume("r")).result() == ["wrapped up"]
        with pytest.raises(ConfigError, match="stopped: no command reaches it"):
            await runtime.command("r", "steer", message="too late")


async def test_a_fork_of_a_stopped_run_goes_on(fast_path: Path) -> None:
    async with Runtime.open(fast_path, workflows=[TURNS]) as runtime:
        handle = await runtime.start(TURNS, 12, run_id="r")
        await until(lambda: "turn1" in runtime.view("r").steps)
        await runtime.command("r", "stop")
        assert await handle.result() == ["wrapped up"]
        (stop,) = runtime.view("r").commands
        new = await runtime.fork("r", before=stop.seq + 1)
        assert await (await runtime.resume(new)).result() == []
        assert runtime.view(new).status is Status.COMPLETED


async def test_a_run_that_ends_before_it_hears_of_the_stop_is_completed(fast_path: Path) -> None:
    async def deaf(run: Run, input: Any) -> str:
        return await run.step("s", lambda: "all of it")

    async with Runtime.open(fast_path) as runtime:
        handle = await runtime.start(Workflow("w", deaf), run_id="r")
        await runtime.command("r", "stop")
        assert await handle.result() == "all of it"
        assert runtime.view("r").status is Status.COMPLETED


async def test_a_stop_wakes_a_sleeper_and_ends_a_wait(fast_path: Path) -> None:
    async def body(run: Run, input: Any) -> Any:
        await run.sleep("nap", 10_000)
        await run.wait("answer")

    workflow = Workflow("w", body)
    async with Runtime.open(fast_path, workflows=[workflow]) as runtime:
        handle = await runtime.start(workflow, run_id="r")
        await until(lambda: runtime.view("r").timers)
        await runtime.command("r", "stop")
        with pytest.raises(RunStopped, match="waited for 'answer'"):
            await handle.result()
        assert runtime.view("r").status is Status.STOPPED
        with pytest.raises(RunStopped, match="nothing to show"):
            await (await runtime.resume("r")).result()


async def test_a_killed_run_can_be_resumed(fast_path: Path) -> None:
    async with Runtime.open(fast_path, workflows=[TURNS]) as runtime:
        handle = await runtime.start(TURNS, 1000, run_id="r")
        await from_elsewhere(fast_path, "kill")
        with pytest.raises(RunKilled, match="manyhands resume r"):
            await handle.result()
        assert runtime.view("r").status is Status.KILLED
        handle = await runtime.resume("r")
        await runtime.command("r", "stop")
        assert await handle.result() == ["wrapped up"]


async def test_a_kill_gets_through_task_groups_and_maps(fast_path: Path) -> None:
    async def branch(child: Run, item: int) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child.step("s", asyncio.Event().wait))

    async def body(run: Run, input: Any) -> None:
        await run.map("m", branch, range(3), key_of=str)

    async with Runtime.open(fast_path) as runtime:
        handle = await runtime.start(Workflow("w", body), run_id="r")
        await until(lambda: len(runtime._live["r"].running) == 3)
        await runtime.command("r", "kill")
        with pytest.raises(RunKilled):
            await handle.result()


async def test_a_run_that_nobody_holds_is_killed_on_the_spot(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        await runtime.start(TURNS, 30, run_id="r")
    async with Runtime.open(fast_path, workflows=[TURNS]) as runtime:
        await runtime.command("r", "kill")
        assert runtime.view("r").status is Status.KILLED
        assert await (await runtime.resume("r")).result() == []


async def test_what_was_sent_while_nobody_held_the_run_acts_on_resume(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        await runtime.start(TURNS, 1000, run_id="r")
        await until(lambda: "turn1" in runtime.view("r").steps)
    await from_elsewhere(fast_path, "steer", message="left")
    await from_elsewhere(fast_path, "stop")
    async with Runtime.open(fast_path, workflows=[TURNS]) as runtime:
        *_, last = await (await runtime.resume("r")).result()
        assert last == "wrapped up"
        assert [c.verb for c in runtime.view("r").commands] == ["steer", "stop"]


async def test_an_answer_ends_a_wait_across_restarts(fast_path: Path) -> None:
    async def body(run: Run, input: Any) -> Any:
        async with run.scope("ask") as ask:
            first = await ask.wait("a", returns=int)
            return [first, await ask.wait("b")]

    workflow = Workflow("w", body)
    async with Runtime.open(fast_path, workflows=[workflow]) as runtime:
        await runtime.start(workflow, run_id="r")
        await runtime.answer("r", "ask/a", "no number")  # does not fit: left aside
        await runtime.answer("r", "ask/a", 1)
        await runtime.answer("r", "ask/a", 2)  # too late
        await until(lambda: "ask/b" in runtime.view("r").waits)
    async with Runtime.open(fast_path, workflows=[workflow]) as runtime:
        await runtime.answer("r", "ask/b", {"x": [1, None]})
        assert await (await runtime.resume("r")).result() == [1, {"x": [1, None]}]


async def test_a_workflow_may_command_itself(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:

        async def body(run: Run, input: Any) -> Any:
            await runtime.command("r", "steer", message="note to self")
            return await run.steers("s")

        assert await runtime.run(Workflow("w", body), run_id="r") == ["note to self"]


async def test_an_unknown_verb_or_run_is_refused(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        with pytest.raises(ConfigError, match="'explode'; known: steer"):
            await runtime.command("r", "explode")
        await runtime.run(TURNS, 1, run_id="r")
        with pytest.raises(ConfigError, match="'turn0' of run r is done, not in doubt"):
            await runtime.resolve("r", "turn0", "retry")
        with pytest.raises(ConfigError, match="retry, result or fail"):
            await runtime.resolve("r", "turn0", "guess")
