"""The failure table over Manyhands: one agent in a real run, over HTTP, judged from outside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from manyhands.adapters.models.openai_compatible import OpenAICompatibleModel
from manyhands.agents.contract import Completion
from manyhands.agents.report import Report, ReportStatus
from manyhands.agents.request import Limits
from manyhands.agents.role import Role
from manyhands.agents.tools import Toolbox, tool
from manyhands.agents.turn import run_agent
from manyhands.ports import Price
from manyhands.runtime import Budget, Clock, Effect, Event, Run, Runtime, Workflow
from manyhands.testing.faults import TASK, Lookup
from tests.bench.peers.faults_ask import INSTRUCTIONS, TURNS, Ask, Found, NotDone

CLEAN = ("manyhands",)
BUDGET = Budget(tokens=400_000, requests=40, usd=2.0)
ROLE = Role(
    "finder",
    "Finds a number.",
    INSTRUCTIONS,
    max_tokens=256,
    max_turns=TURNS,
    tools=("look",),
    completion=Completion(requires=("look",)),
    budget=BUDGET,
)


@dataclass(frozen=True)
class Trial:
    """``left``: what remains of each limit of the role's budget, after the agent's end."""

    report: Report[Found]
    left: dict[str, int | None]
    events: list[Event]


def toolbox(lookup: Lookup) -> Toolbox:
    @tool(effect=Effect.PURE)
    async def look(key: str, floor: int) -> str:
        """Find the number of a key.

        Args:
            key: which key
            floor: on which floor
        """
        return lookup.look(key, floor)

    return Toolbox.of(look)


async def attempt(
    ask: Ask, journal: Path, *, clock: Clock | None = None, role: Role = ROLE
) -> Trial:
    """One agent on the task; `ManualClock` ``clock`` spares the waits between attempts.

    The deadline of a request is real time in any case.
    """
    model = OpenAICompatibleModel("faulty", ask.url, price=Price(1.0, 2.0))
    limits = Limits(seconds=ask.seconds, first_token_seconds=ask.seconds / 2)
    reports: list[Report[Found]] = []
    left: dict[str, int | None] = {}

    async def workflow(run: Run, _: None) -> None:
        async with run.scope("trial", BUDGET) as scope:
            report = await run_agent(
                scope,
                role,
                TASK,
                model=model,
                output=Found,
                toolbox=toolbox(ask.lookup),
                limits=limits,
                on_text=(lambda _: None) if ask.streamed else None,
            )
            left.update({unit: scope.remaining(unit) for unit in BUDGET.limits()})
        reports.append(report)

    async with Runtime.open(journal, clock=clock) as runtime:
        try:
            await runtime.run(Workflow("trial", workflow), run_id="r")
            events = [event async for event in runtime.events("r")]
        finally:
            await model.close()
    return Trial(reports[0], left, events)


async def solve(ask: Ask) -> str:
    """As the other contestants are asked."""
    with TemporaryDirectory() as folder:
        report = (await attempt(ask, Path(folder) / "journal.db")).report
    if report.status is not ReportStatus.COMPLETE or report.value is None:
        raise NotDone(f"{report.status}: {report.ending}")
    return str(report.value.number)
