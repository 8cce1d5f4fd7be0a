"""An agent that a person takes over, drives and hands back, for processes that are killed.

The person is as stubborn as the run: whatever the killed process had not yet said is said by the
next one, with the same idempotency keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from manyhands.agents.report import Report
from manyhands.agents.role import Role
from manyhands.agents.tools import CallContext, Toolbox, tool
from manyhands.agents.turn import run_agent
from manyhands.errors import LeaseHeld
from manyhands.ports import ModelRequest
from manyhands.runtime import Effect, Lease, Run, Runtime, Workflow
from manyhands.testing import ScriptedModel
from manyhands.testing.models import Conversation, Scripted, answer, call

AGENT = "team/a/worker"


class Said(BaseModel):
    what: str


def script(request: ModelRequest) -> Scripted:
    spoken = Conversation.of(request).spoken
    return call("note", text=f"m{spoken}") if spoken < 2 else answer({"what": "done"})


def drive(on_boundary: Callable[[str, int], None], folder: str) -> dict[str, Any]:
    notes = Path(folder) / "notes"
    notes.mkdir(parents=True, exist_ok=True)

    @tool(effect=Effect.IDEMPOTENT)
    def note(context: CallContext, text: str) -> str:
        """Note a text."""
        (notes / context.idempotency_key).write_text(text)
        return f"noted {text}"

    async def work(scope: Run, name: str) -> Report[Said]:
        role = Role("worker", "Works.", "You note things.", tools=("note",))
        model = ScriptedModel(script)
        return await run_agent(
            scope, role, f"Work as {name}.", model=model, output=Said, toolbox=Toolbox.of(note)
        )

    async def boss(run: Run, _: None) -> list[str]:
        return [r.told() for r in await run.map("team", work, ["a", "b"], key_of=str)]

    workflow = Workflow("boss", boss)

    async def main() -> dict[str, Any]:
        journal = f"sqlite:///{folder}/journal.db"
        async with Runtime.open(journal, workflows=[workflow], on_boundary=on_boundary) as runtime:
            if any(each.run_id == "r" for each in runtime.runs()):
                said = {c.verb for c in runtime.view("r").commands}
                handle = await runtime.resume("r")
            else:
                said = set[str]()
                handle = await runtime.start(workflow, run_id="r")
            if "hand_back" not in said and not handle.done:
                await _person(runtime)
            reports = await handle.result()
            events = [e async for e in runtime.events("r")]
        return {
            "reports": reports,
            "notes": sorted(each.read_text() for each in notes.iterdir()),
            "states": [e.data["state"] for e in events if e.type == "agent:driven"][-1:],
        }

    return asyncio.run(main())


async def _person(runtime: Runtime) -> None:
    lease = await _taken(runtime)
    for number, what in enumerate(
        (
            {"do": "call", "tool": "note", "arguments": {"text": "mine"}},
            {"do": "edit", "at": 1, "text": "Work as edited."},
            {"do": "report", "value": {"what": "by hand"}},
        )
    ):
        await runtime.act(lease, what, idempotency_key=f"act-{number}")
    await runtime.hand_back(lease, {"how": "finish"})


async def _taken(runtime: Runtime) -> Lease:
    """The lease; that of a process that was killed ends by itself."""
    while True:
        try:
            return await runtime.take("r", AGENT, "ada", seconds=0.3)
        except LeaseHeld:
            await asyncio.sleep(0.05)
