"""A person edits the plan of a study: what the planner hands in, before it is in the queue."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from manyhands.adapters.models.person import PersonModel
from manyhands.config import Config
from manyhands.runtime import Runtime
from manyhands.teams.lab.state import Order
from manyhands.teams.lab.view import read_lab
from manyhands.wiring import lab_workflow
from tests.studies import lay_out

pytestmark = pytest.mark.needs("bubblewrap")

PLANNED: dict[str, object] = {
    "title": "a larger step",
    "rationale": "the descent is slow",
    "kind": "setting",
    "setting": "RATE",
    "value": 0.02,
    "expected_gain": 0.5,
}


async def plan(runtime: Runtime, round: int, hypotheses: list[dict[str, object]]) -> None:
    """Drive the planner of a round: its report is the plan."""
    agent = f"round-{round}/planner/agent"
    async with asyncio.timeout(120):
        async for event in runtime.events("study", follow=True):
            if event.type == "scope:rest" and event.key.startswith(agent):
                break
        lease = await runtime.take("study", agent, "ada")
        id = await runtime.act(lease, {"do": "report", "value": {"hypotheses": hypotheses}})
        async for event in runtime.events("study", follow=True):
            if event.type == "agent:done" and event.data["order"] == id:
                assert event.data["ok"], runtime.value(event)
                break
    await runtime.hand_back(lease, {"how": "finish"})


async def test_the_queue_is_what_the_person_planned(tmp_path: Path) -> None:
    study = lay_out("regression", tmp_path / "study")
    workflow = lab_workflow(Config(), models={"planner": PersonModel()})
    async with Runtime.open(tmp_path / "journal.db") as runtime:
        order = Order(study=str(study), runs=20)
        handle = await runtime.start(workflow, order, run_id="study")
        await plan(runtime, 1, [PLANNED])
        for round in (2, 3):
            resting = asyncio.create_task(plan(runtime, round, []))
            ended = asyncio.create_task(handle.result())
            done, _ = await asyncio.wait({resting, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended in done:
                resting.cancel()
                break
        await handle.result()
        view = read_lab(runtime, "study")
    first = view.experiments[0].hypothesis
    assert first.source == "person:ada"
    assert first.title == PLANNED["title"]
