"""An order to the code team that ends by itself; run again, it goes on where it was.

Two coders change the same line, so that one of them conflicts; a third settles it. Each appends to
a file of its own with commands, so that one that had an effect twice would be seen.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from manyhands.errors import InDoubt
from manyhands.ports import ModelRequest
from manyhands.testing.models import Conversation, Reply, Scripted, answer, call
from tests.coding.stage import Cast, Stage, coder_task, named

RUN = "solved"
MARKS = (
    "python3 -c \"import re; s = open('words.py').read(); "
    "open('words.py', 'w').write(re.sub('(?s)<<<<<<<.*>>>>>>>[^\\n]*\\n', 'NAME = 3\\n', s))\""
)


def coder(request: ModelRequest, conversation: Conversation) -> Scripted:
    name = "settle" if "You go on from" in conversation.task else named(conversation)
    note = call("bash", command=f"echo {name} >> {name}.log")
    ways: dict[str, list[Reply]] = {
        "sums": [
            note,
            call("edit", path="sums.py", old="- 1", new="- 0"),
            call("edit", path="words.py", old='NAME = "words"', new="NAME = 1"),
        ],
        "words": [
            call("bash", command="sed -i 's/min(/max(/; s/NAME = .*/NAME = 2/' words.py"),
            note,
        ],
        "settle": [call("bash", command=MARKS), note],
    }
    turns = ways[name]
    if conversation.spoken < len(turns):
        return turns[conversation.spoken]
    found = {"id": f"of-{name}", "content": f"{name} is done", "file": "words.py"}
    return answer({"summary": name, "changed": ["words.py"], "findings": [found]})


def orchestrator(request: ModelRequest, conversation: Conversation) -> Scripted:
    if conversation.spoken == 0:
        tasks = [coder_task("sums", checks=[]), coder_task("words", checks=[])]
        return call("delegate_many", tasks=tasks)
    if conversation.spoken == 1:
        lost = "words" if "words (coder): complete; CONFLICT" in conversation.last else "sums"
        settle = {**coder_task(lost), "id": "settle", "takes_up": lost, "checks": []}
        return call("delegate_many", tasks=[settle])
    return answer({"summary": "It is done."})


def solve(on_boundary: Any, folder: str) -> dict[str, Any]:
    return asyncio.run(_solve(on_boundary, Path(folder), Cast(orchestrator, coder=coder), {}))


def unsafe(on_boundary: Any, folder: str) -> dict[str, Any]:
    """One command whose effect is outside of any sandbox."""
    outside = Path(folder) / "outside.log"

    def coder(request: ModelRequest, conversation: Conversation) -> Scripted:
        if conversation.spoken == 0:
            return call("bash", command=f"echo done >> {outside}")
        return answer({"summary": "done"})

    def orchestrator(request: ModelRequest, conversation: Conversation) -> Scripted:
        if conversation.spoken == 0:
            return call("delegate_many", tasks=[coder_task("sums", checks=[])])
        return answer({"summary": "It is done."})

    settings = {"sandbox": "unsafe-local", "check": ""}
    cast = Cast(orchestrator, coder=coder)
    found = asyncio.run(_solve(on_boundary, Path(folder), cast, settings))
    return found | {"effects": outside.read_text().count("done") if outside.exists() else 0}


async def _solve(
    on_boundary: Any, folder: Path, cast: Cast, settings: dict[str, Any]
) -> dict[str, Any]:
    stage = Stage(folder, cast, settings)
    async with stage.runtime(on_boundary=on_boundary) as runtime:
        if any(info.run_id == RUN for info in runtime.runs()):
            handle = await runtime.resume(RUN)
        else:
            handle = await runtime.start(stage.workflow, stage.order(), run_id=RUN)
        try:
            outcome = await handle.result()
        except InDoubt as error:
            return {"in_doubt": error.key}
        view = runtime.view(RUN)
        tree = json.loads(runtime.journal.blob(outcome.tree)) if outcome.tree else {}
        return {
            "complete": outcome.complete,
            "states": sorted(f"{t.state} {t.merge}" for t in outcome.tasks),  # who lost varies
            "tree": tree,
            "patch": runtime.journal.blob(outcome.patch).decode(),
            "known": len(outcome.context),
            "commands": sum("/tool/" in key and key.endswith("/act") for key in view.steps),
            "finished": sum(step.finished for step in view.steps.values()),
            "spent": view.spent()["tokens"],
            "leaves": sum(agent.tokens for agent in outcome.agents),
        }
