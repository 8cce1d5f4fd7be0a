"""Coders of the code team at once, each over a scripted model that takes its time."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

from manyhands.config import Config
from manyhands.ports import ModelRequest
from manyhands.runtime import Runtime
from manyhands.teams.code.records import Order, Outcome
from manyhands.testing import ScriptedModel
from manyhands.testing.models import Conversation, Scripted, answer, call
from manyhands.wiring.code import code_workflow


def coders(count: int, latency: float, folder: str) -> dict[str, Any]:
    """A task for each part, all at once."""
    return asyncio.run(_coders(count, latency, Path(folder), range(count)))


def whole(count: int, latency: float, folder: str) -> dict[str, Any]:
    """One task with all parts, for one coder."""
    return asyncio.run(_coders(count, latency, Path(folder), None))


async def _coders(count: int, latency: float, folder: Path, each: range | None) -> dict[str, Any]:
    repo = folder / "repo"
    repo.mkdir()
    for number in range(count):
        (repo / f"part{number}.py").write_text("VALUE = 1\n")
    tasks = [
        {
            "id": f"part{n}",
            "role": "coder",
            "title": f"Raise part{n}",
            "instructions": "VALUE becomes 2.",
            "checks": [f"grep -q 'VALUE = 2' part{n}.py"],
        }
        for n in each or [0]
    ]

    def reply(request: ModelRequest) -> Scripted:
        conversation = Conversation.of(request)
        if conversation.role == "orchestrator":
            done = answer({"summary": "All are raised."})
            return call("delegate_many", tasks=tasks) if conversation.spoken == 0 else done
        found = re.search(r"Raise (part\d+)", conversation.task)
        assert found is not None
        paths = [f"{found[1]}.py"] if each is not None else [f"part{n}.py" for n in range(count)]
        turns = [
            turn
            for path in paths
            for turn in (
                call("read", path=path),
                call("edit", path=path, old="VALUE = 1", new="VALUE = 2"),
                call("bash", command=f"python3 {path}"),
            )
        ]
        if conversation.spoken < len(turns):
            return turns[conversation.spoken]
        return answer({"summary": "raised", "changed": paths})

    model = ScriptedModel(reply, delay=latency)
    workflow = code_workflow(Config(), models={"": model})
    order = Order(instruction="Raise all.", repo=str(repo), check="true", coders=count)
    async with Runtime.open(str(folder / "journal.db"), workflows=[workflow]) as runtime:
        begun, cpu = time.perf_counter(), time.process_time()
        outcome: Outcome = await (await runtime.start(workflow, order, run_id="r")).result()
        took = {"wall": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
        took |= {"count": count, "tokens": outcome.tokens}
    assert outcome.complete, outcome
    assert len(outcome.files) == count, outcome
    return took
