"""One live process drives a run: who holds it, who may take it, who is fenced."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import JournalError, RunHeld, StaleEpoch
from manyhands.runtime import Effect, Run, Runtime, Status, Workflow
from manyhands.runtime.owner import Owner, new_owner

HOLDER = """
import asyncio, sys
from manyhands.runtime import Runtime, Workflow

async def body(run, input):
    await run.step("first", lambda: 1)
    print("held", flush=True)
    await run.step("hang", asyncio.Event().wait)

async def main():
    async with Runtime.open(sys.argv[1]) as runtime:
        await runtime.run(Workflow("w", body), run_id="r")

asyncio.run(main())
"""


async def until(true: Callable[[], object]) -> None:
    """Look again and again, for 10 s."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def body(run: Run, input: Any) -> str:
    await run.step("first", lambda: 1)
    await run.step("hang", lambda: None)
    return "done"


W = Workflow("w", body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


async def test_a_run_of_a_live_process_is_refused_by_its_id(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    async with Runtime.open(path, workflows=[W]) as runtime:
        with pytest.raises(RunHeld, match=f"held by process {holder.pid}") as caught:
            await runtime.resume("r")
        assert "manyhands stop r" in caught.value.next
        assert runtime.status("r") is Status.RUNNING
        assert runtime.runs()[0].owner == f"process {holder.pid}"


async def test_after_kill_9_of_its_owner_a_run_can_be_resumed(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    async with Runtime.open(path, workflows=[W]) as runtime:
        assert runtime.status("r") is Status.INTERRUPTED
        assert await (await runtime.resume("r")).result() == "done"


async def test_a_zombie_holds_nothing(path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)  # and nobody waits for it
    async with Runtime.open(path, workflows=[W]) as runtime:
        await until(lambda: runtime.status("r") is not Status.RUNNING)
        assert await (await runtime.resume("r")).result() == "done"


async def test_a_process_that_stands_still_loses_nothing_and_keeps_the_run(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.send_signal(signal.SIGSTOP)
    async with Runtime.open(path, workflows=[W]) as runtime:
        with pytest.raises(RunHeld):
            await runtime.resume("r")
    holder.send_signal(signal.SIGCONT)


def own(path: Path, owner: Owner) -> None:
    db = sqlite3.connect(path)
    db.execute("UPDATE runs SET owner=?", (owner.to_json(),))
    db.commit()
    db.close()


async def interrupted(path: Path) -> None:
    async def hangs(run: Run, input: Any) -> None:
        await run.step("first", lambda: 1)
        await asyncio.Event().wait()

    async with Runtime.open(path) as runtime:
        await runtime.start(Workflow("w", hangs), run_id="r")
        await until(lambda: "first" in runtime.view("r").steps)


async def test_a_recycled_process_id_is_not_the_owner(path: Path) -> None:
    await interrupted(path)
    own(path, replace(new_owner(), pid=1, started=-1.0))  # process 1 lives, and is another
    async with Runtime.open(path, workflows=[W]) as runtime:
        assert await (await runtime.resume("r")).result() == "done"


async def test_an_owner_elsewhere_counts_as_alive_until_it_is_overruled(path: Path) -> None:
    await interrupted(path)
    own(path, replace(new_owner(), host="far", place="another boot"))
    async with Runtime.open(path, workflows=[W]) as runtime:
        with pytest.raises(RunHeld, match=r"on far") as caught:
            await runtime.resume("r")
        assert "--take-over" in caught.value.next
        assert await (await runtime.resume("r", take_over=True)).result() == "done"


async def test_a_live_owner_here_cannot_be_overruled(path: Path) -> None:
    await interrupted(path)
    own(path, new_owner())
    async with Runtime.open(path, workflows=[W]) as runtime:
        with pytest.raises(RunHeld):
            await runtime.resume("r", take_over=True)


async def test_two_runtimes_of_one_process_do_not_share_a_run(path: Path) -> None:
    async def hangs(run: Run, input: Any) -> None:
        await asyncio.Event().wait()

    workflow = Workflow("w", hangs)
    async with (
        Runtime.open(path, workflows=[workflow]) as one,
        Runtime.open(path, workflows=[workflow]) as other,
    ):
        await one.start(workflow, run_id="r")
        for runtime in (one, other):
            with pytest.raises(RunHeld, match=f"process {os.getpid()}"):
                await runtime.resume("r")


async def test_an_owner_that_was_overruled_cannot_append(path: Path) -> None:
    """Its next append fails, its run ends without a word, and the new owner's is untouched."""
    go = asyncio.Event()
    effects: list[str] = []

    async def old(run: Run, input: Any) -> str:
        await run.step("first", lambda: 1)
        await go.wait()
        await run.step("second", effects.append, "old")
        return "old"

    async def new(run: Run, input: Any) -> str:
        await run.step("first", lambda: 1)
        await run.step("second", effects.append, "old")
        return "new"

    async with Runtime.open(path) as one, Runtime.open(path, workflows=[Workflow("w", new)]) as two:
        handle = await one.start(Workflow("w", old), run_id="r")
        await until(lambda: one.view("r").seq == 4)
        own(path, replace(new_owner(), place="another boot"))
        assert await (await two.resume("r", take_over=True)).result() == "new"
        before = [e async for e in two.events("r")]
        go.set()
        with pytest.raises(StaleEpoch, match="epoch 1 is over, the journal is at 2"):
            await handle.result()
        assert [e async for e in two.events("r")] == before
        assert two.status("r") is Status.COMPLETED


async def test_a_once_step_of_a_fenced_owner_is_not_called(path: Path) -> None:
    go = asyncio.Event()
    effects: list[int] = []

    async def old(run: Run, input: Any) -> None:
        await go.wait()
        await run.step("pay", effects.append, 1, effect=Effect.ONCE)

    async with Runtime.open(path) as runtime:
        handle = await runtime.start(Workflow("w", old), run_id="r")
        await until(lambda: runtime.view("r").seq == 2)
        await runtime.journal.call(lambda db: db.execute("UPDATE runs SET epoch=7").rowcount)
        go.set()
        with pytest.raises(StaleEpoch):
            await handle.result()
    assert effects == []


async def test_a_run_that_could_not_be_let_go_of_can_be_taken_again(path: Path) -> None:
    """The journal fails while the run is released, in a process that goes on living."""
    broken = False

    def on_boundary(moment: str, count: int) -> None:
        if broken and moment == "before":
            raise OSError("no space")

    async def once(run: Run, input: Any) -> int:
        nonlocal broken
        broken = run.epoch == 1
        return await run.step("s", lambda: 1)

    workflow = Workflow("w", once)
    async with Runtime.open(path, workflows=[workflow], on_boundary=on_boundary) as runtime:
        with pytest.raises(JournalError, match="no space"):
            await runtime.run(workflow, run_id="r")
        broken = False
        assert await (await runtime.resume("r")).result() == 1


def test_an_owner_is_written_and_read() -> None:
    owner = new_owner()
    assert owner.alive
    assert Owner.from_json(json.dumps(json.loads(owner.to_json()))) == owner
    owner.close()
    assert not owner.alive
