"""A run that cannot go on until a person has done something outside of it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from manyhands.errors import DiskFull, Halted, JobError
from manyhands.runtime import Run, Runtime, Status, Workflow

MONEY: dict[str, float] = {"limit": 1.0}


async def spend(run: Run, input: object) -> list[str]:
    async def one(scope: Run, name: str) -> str:
        async def work() -> str:
            DONE.append(name)
            if name == "dear" and MONEY["limit"] < 2:
                raise Halted("there is no money", next="give more")
            return name

        return await scope.step("pay", work)

    return await run.map("all", one, ["cheap", "dear", "free"], key_of=str)


DONE: list[str] = []


async def test_a_halted_run_is_blocked_and_goes_on(fast_path: Path) -> None:
    workflow = Workflow("spend", spend)
    DONE.clear()
    MONEY["limit"] = 1.0
    async with Runtime.open(str(fast_path), workflows=[workflow]) as runtime:
        with pytest.raises(Halted, match="no money"):
            await runtime.run(workflow, None, run_id="r")
        state = runtime.view("r")
        assert state.status is Status.BLOCKED
        assert state.error == {"kind": "Halted", "message": "there is no money\n→ give more"}
        assert not [s for s in state.steps.values() if s.outcome == "failed"]
        MONEY["limit"] = 2.0
        assert await (await runtime.resume("r")).result() == ["cheap", "dear", "free"]
        assert runtime.view("r").status is Status.COMPLETED
    assert DONE == ["cheap", "dear", "free", "dear"]


@pytest.mark.parametrize("where", ["in a step", "for a job", "between steps"])
async def test_a_full_disk_halts_a_run_and_fails_no_step(fast_path: Path, where: str) -> None:
    full = [True]

    def write() -> str:
        if full[0]:
            error = OSError(errno.ENOSPC, "No space left on device", "/there")
            if where == "for a job":
                raise JobError("no scratch folder can be made") from error
            raise error
        return "written"

    async def body(run: Run, input: object) -> str:
        return write() if where == "between steps" else await run.step("write", write)

    workflow = Workflow("write", body)
    async with Runtime.open(str(fast_path), workflows=[workflow]) as runtime:
        with pytest.raises(DiskFull, match=r"/there|scratch") as caught:
            await runtime.run(workflow, None, run_id="r")
        assert caught.value.exit_code == 12
        assert runtime.view("r").status is Status.BLOCKED
        assert not [s for s in runtime.view("r").steps.values() if s.outcome == "failed"]
        full[0] = False
        assert await (await runtime.resume("r")).result() == "written"


async def test_what_was_set_is_known_to_the_run(fast_path: Path) -> None:
    async def ask(run: Run, input: object) -> dict[str, object]:
        return run.settings("jobs")

    workflow = Workflow("ask", ask)
    async with Runtime.open(str(fast_path), workflows=[workflow]) as runtime:
        handle = await runtime.start(workflow, None, run_id="r")
        assert await handle.result() == {}
