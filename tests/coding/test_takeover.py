"""A person drives a coder: in its workspace, and with the change on the card."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from manyhands.runtime import Event, Runtime
from manyhands.teams.code.records import Merge, TaskState
from tests.coding.stage import Cast, Stage

pytestmark = pytest.mark.needs("bubblewrap")

CODER = "orchestrator/turn/0/tool/0/tasks/sums/coder"


async def seen(runtime: Runtime, type: str, key: str = "") -> Event:
    async with asyncio.timeout(60):
        async for event in runtime.events("r", follow=True):
            if event.type == type and event.key.startswith(key):
                return event
    raise AssertionError(f"no {type}")


async def act(runtime: Runtime, lease: object, **what: object) -> tuple[bool, str]:
    id = await runtime.act(lease, what)  # type: ignore[arg-type]
    async with asyncio.timeout(60):
        async for event in runtime.events("r", follow=True):
            if event.type == "agent:done" and event.data["order"] == id:
                return event.data["ok"], runtime.value(event)
    raise AssertionError("the run ended without it")


async def test_a_person_edits_in_a_coder_s_workspace_and_it_goes_on_from_there(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, Cast(delay=0.05))
    async with stage.runtime() as runtime:
        handle = await runtime.start(stage.workflow, stage.order(), run_id="r")
        lease = await runtime.take("r", CODER, "ada")
        await seen(runtime, "agent:driven", CODER)
        edit = {"command": "echo '# by hand' >> sums.py"}
        ok, text = await act(runtime, lease, do="call", tool="bash", arguments=edit)
        assert ok, text
        await runtime.hand_back(lease, {"note": "I left a remark."})
        outcome = await handle.result()
        steps = [s for s in runtime.view("r").steps.values() if s.actor]
        resuming = [e async for e in runtime.events("r") if e.data.get("state") == "resuming"]
        told = runtime.value(resuming[0])
        patch = runtime.journal.blob(outcome.patch)
    assert outcome.complete
    assert b"+# by hand" in patch
    assert {step.actor for step in steps} == {"ada"}
    assert "+# by hand" in told["difference"]
    cards = [r for r in stage.asked("coder") if b"worked in your place" in b"".join(r.messages)]
    assert cards
    assert b"# by hand" in b"".join(cards[0].messages)


async def test_a_report_by_a_person_is_held_against_the_check_and_marked(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Cast())
    async with stage.runtime() as runtime:
        handle = await runtime.start(stage.workflow, stage.order(), run_id="r")
        lease = await runtime.take("r", CODER, "ada")
        await seen(runtime, "agent:driven", CODER)
        edit = {"command": "echo '# not mended' >> sums.py"}
        await act(runtime, lease, do="call", tool="bash", arguments=edit)
        report = {"summary": "It is good enough.", "changed": ["sums.py"]}
        ok, text = await act(runtime, lease, do="report", value=report)
        assert ok, text
        await runtime.hand_back(lease, {"how": "finish"})
        outcome = await handle.result()
    (sums,) = [task for task in outcome.tasks if task.id == "sums"]
    assert sums.by == "ada"
    if any(not check.passed for check in sums.checks):
        assert (sums.state, sums.merge) == (TaskState.PARTIAL, Merge.HELD)
    assert "ada, a person, says in its place" in stage.told("orchestrator", 1)
