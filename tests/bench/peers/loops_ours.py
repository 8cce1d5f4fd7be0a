"""Manyhands: `run_agent` in a run that is journaled in SQLite and budgeted, over real HTTP.

The run and each agent in it have a budget of tokens and of requests, so every request reserves its
worst case in two pools and settles it; all is kept in the journal before the next request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from manyhands.adapters.models.openai_compatible import OpenAICompatibleModel
from manyhands.agents.role import Role
from manyhands.agents.tools import Toolbox, tool
from manyhands.agents.turn import run_agent
from manyhands.runtime import Budget, Effect, Run, Runtime, Workflow
from tests.bench.peers.loops_course import INSTRUCTIONS, Course, Many, look

#: Above the worst case that a request of the longest history reserves.
_TOKENS_A_REQUEST = 1_000_000


@asynccontextmanager
async def agents(course: Course) -> AsyncGenerator[Many]:
    role = Role(
        "looker",
        "Looks.",
        INSTRUCTIONS,
        max_turns=course.turns,
        tools=("look",),
        budget=_budget(course.turns),
    )
    toolbox = Toolbox.of(tool(effect=Effect.PURE)(look))
    model = OpenAICompatibleModel("scripted", course.url, concurrency=course.count)

    async def program(run: Run, tasks: list[str]) -> list[str]:
        async def one(run: Run, task: str) -> str:
            report = await run_agent(run, role, task, model=model, toolbox=toolbox)
            if str(report.status) != "complete":
                raise AssertionError(f"an agent ended {report.status}: {report.detail}")
            return report.text

        return await run.map("agent", one, tasks, key_of=lambda task: task.split()[-1])

    workflow = Workflow("bench", program)
    async with Runtime.open(course.folder / "journal.db") as runtime:

        async def many(tasks: Sequence[str]) -> list[str]:
            budget = _budget(course.turns * len(tasks))
            return await runtime.run(workflow, list(tasks), budget=budget)

        yield many
    await model.close()


def _budget(requests: int) -> Budget:
    return Budget(requests=requests, tokens=requests * _TOKENS_A_REQUEST)
