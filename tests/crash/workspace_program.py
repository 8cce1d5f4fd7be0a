"""A scripted coder whose every call leaves a mark in its workspace; run again, it goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from manyhands.adapters.sandboxes.linux import LinuxSandboxes
from manyhands.adapters.sandboxes.unsafe import UnsafeLocal
from manyhands.agents.role import Role
from manyhands.agents.tools import Toolbox
from manyhands.agents.turn import run_agent
from manyhands.agents.workspace.ground import Ground
from manyhands.agents.workspace.toolset import workspace_tools
from manyhands.agents.workspace.tree import Tree
from manyhands.agents.workspace.workspace import Workspace
from manyhands.ports import Sandboxes
from manyhands.runtime import Run, Runtime, Workflow
from manyhands.testing.models import ScriptedModel, answer, call, calls

RUN = "coded"


class Done(BaseModel):
    what: str


TURNS = [
    calls(
        ("write", {"path": "src/a.py", "content": "one\ntwo\n"}),
        ("bash", {"command": "echo first >> log; ln -s src/a.py link; mkdir empty; chmod 700 run"}),
    ),
    call("edit", path="src/a.py", old="two", new="three"),
    call("todo", items=[{"content": "test", "status": "doing"}]),
    calls(
        ("bash", {"command": "echo second >> log; rm base/gone; cat src/a.py; exit 3"}),
        (
            "multi_edit",
            {
                "edits": [
                    {"path": "src/a.py", "old": "one", "new": "1"},
                    {"path": "base/kept", "old": "kept", "new": "changed"},
                ]
            },
        ),
        ("read", {"path": "log"}),
    ),
    call("edit", path="src/a.py", old="absent", new="x"),
    call("bash", command="echo third >> log; mv src/a.py src/b.py; grep -c . log"),
    answer(Done(what="done")),
]


def code(on_boundary: Any, folder: str, real: bool) -> dict[str, Any]:
    return asyncio.run(
        _code(on_boundary, Path(folder), LinuxSandboxes() if real else UnsafeLocal())
    )


async def _code(on_boundary: Any, folder: Path, sandboxes: Sandboxes) -> dict[str, Any]:
    base = folder / "base"
    if not base.exists():
        (base / "base").mkdir(parents=True)
        (base / "base/kept").write_text("kept\n")
        (base / "base/gone").write_text("gone\n")
        (base / "run").write_text("#!/bin/sh\n")
    names = ("write", "edit", "multi_edit", "bash", "read", "todo")
    role = Role("coder", "Codes.", "You write code.", tools=names, max_turns=12)

    async def program(run: Run, _: None) -> dict[str, Any]:
        async with Workspace(Ground(sandboxes, base), Tree(), writable=True) as workspace:
            report = await run_agent(
                run,
                role,
                "Code it.",
                model=ScriptedModel(_said),
                output=Done,
                toolbox=Toolbox.of(*workspace_tools(workspace)),
            )
            assert report.value is not None, report
            tree = workspace.tree
            read = run.read_blob
            files = {p: read(n.blob).decode() for p, n in tree.nodes.items() if n.kind == "file"}
            return {
                "tree": tree.model_dump(mode="json"),
                "files": files,
                "acts": [[act.command, act.code, act.ok, act.output] for act in workspace.acts],
            }

    flow = Workflow("code", program)
    async with Runtime.open(
        folder / "journal.db", workflows=[flow], on_boundary=on_boundary
    ) as runtime:
        if any(info.run_id == RUN for info in runtime.runs()):
            handle = await runtime.resume(RUN)
        else:
            handle = await runtime.start(flow, run_id=RUN)
        value = await handle.result()
        events = [event async for event in runtime.events(RUN)]
        ended = [e.key for e in events if e.type == "step.done" and e.key.endswith("/act")]
        return {**value, "ended": ended}


def _said(request: Any) -> Any:
    spoken = sum(message.startswith(b'{"role":"assistant"') for message in request.messages)
    return TURNS[spoken]
