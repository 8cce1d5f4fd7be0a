"""A question to the answer team that ends by itself; run again, it goes on where it was."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from manyhands.ports import ModelRequest
from manyhands.testing.models import Conversation, Scripted, answer, call
from tests.answering.stage import FACTS, LIE, SHIP, Cast, Stage, honest_worker, named

RUN = "asked"


def worker(request: ModelRequest, conversation: Conversation) -> Scripted:
    """Flask's posts a note first, and reports something false until it is shown the issue."""
    if named(conversation) != "flask":
        return honest_worker(request, conversation)
    if "You have reported on it before" in conversation.task:
        return answer({"findings": FACTS["flask"], "not_found": []})
    if conversation.spoken == 0:
        fact = FACTS["flask"][0]
        return call("post_finding", text=fact["text"], **fact["citations"][0])
    return answer({"findings": [FACTS["flask"][0], LIE], "not_found": []})


def critic(request: ModelRequest, conversation: Conversation) -> Scripted:
    if "34,000" in conversation.task:
        issue = {"kind": "vague", "span": FACTS["flask"][0]["text"], "why": "Since when?"}
        return answer({"verdict": "revise", "issues": [issue]})
    return answer(SHIP)


def ask(on_boundary: Any, folder: str) -> dict[str, Any]:
    return asyncio.run(_ask(on_boundary, Path(folder)))


async def _ask(on_boundary: Any, folder: Path) -> dict[str, Any]:
    stage = Stage(folder, Cast(worker=worker, critic=critic))
    async with stage.runtime(on_boundary=on_boundary) as runtime:
        if any(info.run_id == RUN for info in runtime.runs()):
            handle = await runtime.resume(RUN)
        else:
            order = stage.order(memory=True)
            handle = await runtime.start(stage.workflow, order, run_id=RUN)
        outcome = await handle.result()
        view = runtime.view(RUN)
        return {
            "outcome": outcome.model_dump(mode="json", exclude=_VARIES),
            "finished": sorted(key for key, step in view.steps.items() if step.finished),
            "spent": view.spent()["tokens"],
            "counted": outcome.tokens,
            "leaves": sum(agent.tokens for agent in outcome.agents),
            "remembered": sorted(p.name for p in (folder / ".manyhands/memory").glob("*.json")),
        }


#: Time, and what a request cost that was cut off by the crash.
_VARIES = {"seconds", "tokens", "requests", "micro_usd", "agents"}
