"""A run that cannot go on until a person has done something outside of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyhands.errors import Halted
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


async def test_what_was_set_is_known_to_the_run(fast_path: Path) -> None:
    async def ask(run: Run, input: object) -> dict[str, object]:
        return run.settings("jobs")

    workflow = Workflow("ask", ask)
    async with Runtime.open(str(fast_path), workflows=[workflow]) as runtime:
        handle = await runtime.start(workflow, None, run_id="r")
        assert await handle.result() == {}
