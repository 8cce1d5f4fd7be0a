"""Workers of the answer team at once, each over a scripted model that takes its time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from manyhands.config import Config
from manyhands.ports import ModelRequest
from manyhands.runtime import Run, Runtime, Workflow
from manyhands.teams.answer.case import Case
from manyhands.teams.answer.records import Order, Plan, Route, Subtask, Way
from manyhands.teams.answer.workers import investigate
from manyhands.testing import ScriptedModel
from manyhands.testing.models import Conversation, Scripted, answer, call
from manyhands.wiring.answer import ANSWER_ROLES, desk_of

_FACTS = 3


def workers(count: int, latency: float, folder: str) -> dict[str, Any]:
    return asyncio.run(_workers(count, latency, Path(folder)))


async def _workers(count: int, latency: float, folder: Path) -> dict[str, Any]:
    docs = folder / "docs"
    docs.mkdir()
    for number in range(count):
        (docs / f"part{number}.md").write_text(_document(number))
    model = ScriptedModel(_reply, delay=latency)
    order = Order(
        question="What do the parts weigh?",
        docs=str(docs),
        project=str(folder),
        python=False,
        workers=count,
    )
    tasks = tuple(
        Subtask(id=f"part{n}", title=f"Part {n}", question=f"What does part{n} weigh, in all?")
        for n in range(count)
    )
    models = dict.fromkeys(ANSWER_ROLES, (model,))
    took: dict[str, float] = {}

    async def work(run: Run, _: None) -> None:
        async with desk_of(run.id, order, Config(), models=models) as desk:
            assert desk.shelves.documents is not None
            await desk.shelves.documents.refresh()
            route = Route(way=Way.TEAM, reason="asked for", by="order")
            plan = Plan(subtasks=tasks, by="order")
            case = Case(order, desk, route=route, plan=plan, checked=True)
            begun, cpu = time.perf_counter(), time.process_time()
            await investigate(run, case, tasks)
            took["wall"] = time.perf_counter() - begun
            took["cpu"] = time.process_time() - cpu
            done = [work for work in case.latest_work if work.status == "complete"]
            assert len(done) == count, case.latest_work

    flow = Workflow("bench", work)
    async with Runtime.open(folder / "journal.db", workflows=[flow]) as runtime:
        await runtime.run(flow)
    return {**took, "count": count}


def _document(number: int) -> str:
    facts = [f"## Side {n}\n\n{_fact(number, n)}\n" for n in range(_FACTS)]
    return f"# Part {number}\n\n" + "\n".join(facts)


def _fact(number: int, side: int) -> str:
    return f"Side {side} of part{number} weighs {100 + 7 * number + side} grams when it is dry."


def _reply(request: ModelRequest) -> Scripted:
    conversation = Conversation.of(request)
    number = int(conversation.task.split("part", 1)[1].split(" ", 1)[0])
    if conversation.spoken == 0:
        return call("search", query=f"part{number} weighs grams")
    findings = [
        {
            "text": f"Side {side} of part{number} weighs {100 + 7 * number + side} grams.",
            "citations": [
                {"passage": f"part{number}.md#{side + 1}", "quote": _fact(number, side)[:-1]}
            ],
        }
        for side in range(_FACTS)
    ]
    return answer({"findings": findings, "not_found": []})
