"""Good runs of the teams that come with Manyhands, and of a plain agent: real runs, read from their
journals. The models are scripted; tools, sandboxes and journals are real."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from manyhands.agents.role import Role
from manyhands.agents.stepcheck import Read, from_journal
from manyhands.agents.tools import Toolbox, tool
from manyhands.agents.turn import run_agent
from manyhands.errors import ToolError
from manyhands.ports import ModelRequest
from manyhands.runtime import Effect, Run, Runtime, Workflow
from manyhands.testing import ManualClock, ScriptedModel
from manyhands.testing.models import Conversation, Scripted, answer, call, calls
from tests.answering import stage as answering
from tests.coding import stage as coding
from tests.integration import test_lab_models as lab
from tests.stepcheck.good import Good

SHELF = {f"page-{n}.md": f"Page {n}: the kiln reached {n * 137 + 1000} degrees." for n in range(9)}


class Note(BaseModel):
    text: str
    quote: str = ""


@tool(effect=Effect.PURE)
def read(path: str) -> str:
    """Read a page."""
    if path not in SHELF:
        raise ToolError(f"there is no page {path!r}", next="list the pages")
    return SHELF[path]


@tool(effect=Effect.PURE)
def pages() -> str:
    """List the pages."""
    return "\n".join(SHELF)


def reader(number: int) -> ScriptedModel:
    """Reads some pages, asks for one that is not there, looks where they are, and reports."""
    names = [f"page-{(number + i) % 9}.md" for i in range(3)]
    last = SHELF[names[-1]]
    turns: list[Scripted] = [
        calls(*(("read", {"path": name}) for name in names[:2])),
        call("read", path=f"page-{number + 20}.md"),
        call("pages"),
        call("read", path=names[-1]),
        answer({"text": f"In {names[-1]} the kiln is measured.", "quote": last}),
    ]
    return ScriptedModel(lambda request: turns[Conversation.of(request).spoken])


async def plain_agents(folder: Path, count: int) -> list[Good]:
    found: list[Good] = []
    role = Role("reader", "Reads.", "Read pages.", tools=("read", "pages"), max_turns=9)
    async with Runtime.open(folder / "plain.db", clock=ManualClock(jump=True)) as runtime:
        for number in range(count):

            async def work(run: Run, _: None, number: int = number) -> str:
                report = await run_agent(
                    run,
                    role,
                    "How hot is the kiln?",
                    model=reader(number),
                    output=Note,
                    toolbox=Toolbox.of(read, pages),
                )
                return report.require().text

            run_id = f"plain-{number}"
            await runtime.run(Workflow("plain", work), run_id=run_id)
            found.append(Good("plain agent", await read_run(runtime, run_id)))
    return found


async def read_run(runtime: Runtime, run_id: str) -> Read:
    return from_journal([e async for e in runtime.events(run_id)], runtime.journal.blob)


def careful_solo(request: ModelRequest, conversation: Conversation) -> Scripted:
    """Searches for each framework before it speaks of it."""
    names = list(answering.FACTS)
    if conversation.spoken < len(names):
        return call("search", query=f"{names[conversation.spoken]} requests per second validate")
    facts = [fact for each in answering.FACTS.values() for fact in each]
    return answer({"findings": facts, "not_found": []})


async def answer_teams(folder: Path, count: int) -> list[Good]:
    found: list[Good] = []
    stage = answering.Stage(folder, answering.Cast(solo=careful_solo))
    async with stage.runtime() as runtime:
        for number in range(count):
            route = ("team", "single")[number % 2]
            order = stage.order(route=route)
            run_id = f"answer-{number}"
            handle = await runtime.start(stage.workflow, order, run_id=run_id)
            assert (await handle.result()).complete
            found.append(Good(f"answer {route}", await read_run(runtime, run_id)))
    return found


def stumbling_coder(request: ModelRequest, conversation: Conversation) -> Scripted:
    """Sees the check fail, looks into a file that is not there, and then does it well."""
    name = coding.named(conversation)
    path, old, new = coding.FIXES[name]
    check = f"{coding.CHECK} {name}"
    turns: list[Scripted] = [
        call("bash", command=check),
        call("read", path=f"lib/{path}"),
        call("read", path=path),
        call("edit", path=path, old=old, new=new),
        call("bash", command=check),
        answer({"summary": f"Mended {name}.", "changed": [path], "passed": [check]}),
    ]
    return turns[conversation.spoken]


def exploring(request: ModelRequest, conversation: Conversation) -> Scripted:
    if conversation.spoken == 0:
        return call("delegate", role="explorer", title="Look", instructions="What is wrong?")
    if conversation.spoken == 1:
        tasks = [coding.coder_task("sums", context=["t1"]), coding.coder_task("words")]
        return call("delegate_many", tasks=tasks)
    return answer({"summary": "Both modules are mended, and the check passes."})


async def code_teams(folder: Path, count: int) -> list[Good]:
    found: list[Good] = []
    for number in range(count):
        cast = coding.Cast(orchestrator=exploring, coder=stumbling_coder)
        stage = coding.Stage(folder / f"code-{number}", cast if number % 2 else coding.Cast())
        outcome = await stage.solve()
        assert outcome.complete
        async with stage.runtime() as runtime:
            found.append(Good("code team", await read_run(runtime, "solved")))
    return found


def careful_lab(request: ModelRequest) -> Scripted:
    """The lab's cast of the integration tests, with a worker that makes its edits at once."""
    told = Conversation.of(request)
    if told.role != "worker":
        return lab.script(request)
    start = {"path": "train.py", "old": lab.START, "new": f"    velocity = [0.0] * 4\n{lab.START}"}
    turns: list[Scripted] = [
        call("read_file", path="train.py"),
        call("edit_file", path="train.py", old=lab.STEP, new=lab.HEAVY_BALL),
        call("edit_file", **start),
        answer({"comment": "heavy-ball momentum of 0.9"}),
    ]
    return turns[told.spoken]


async def lab_team(folder: Path) -> list[Good]:
    folder.mkdir()
    await lab.run_with(folder, lab.ROLES, ScriptedModel(careful_lab), 16)
    async with Runtime.open(folder / "journal.db") as runtime:
        return [Good("lab team", await read_run(runtime, "study"))]


async def team_runs(folder: Path) -> list[Good]:
    return [
        *(await lab_team(folder / "lab")),
        *(await plain_agents(folder, 8)),
        *(await answer_teams(folder, 6)),
        *(await code_teams(folder, 4)),
    ]
