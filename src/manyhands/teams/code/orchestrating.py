"""The orchestrator's tools, and when it may finish. None of them reads or writes a file.

Invariant: what a tool of it returns is a journaled step, made of what is known and not of what was
said.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal

from manyhands.agents.context import Item
from manyhands.agents.tools import Tool, Toolbox
from manyhands.agents.workspace.notes import read_more_tool
from manyhands.errors import ToolError
from manyhands.runtime import Effect, Run
from manyhands.teams.code.board import board, told
from manyhands.teams.code.case import Case
from manyhands.teams.code.commands import run_check
from manyhands.teams.code.delegating import delegated
from manyhands.teams.code.keeping import keep
from manyhands.teams.code.records import Delegation, FinishAnswer, Step, Task
from manyhands.teams.code.store import Offer

ORCHESTRATOR = "orchestrator"
_PLACE = re.compile(r"turn/(\d+)/tool/(\d+)")


async def orchestrate(run: Run, case: Case, items: Sequence[Item]) -> None:
    """The orchestrator's turns, until it finishes or cannot go on."""

    async def finished(answer: FinishAnswer) -> str:
        return await _why_not(run, case, answer)

    report = await case.crew.ask(
        run,
        ORCHESTRATOR,
        _task(case),
        FinishAnswer,
        items=items,
        toolbox=Toolbox.of(*orchestrator_tools(case), read_more_tool()),
        checks={"finished": finished},
        limits=case.limits(parallel_calls=8),
    )
    case.ending = report.ending
    if report.value is not None:
        case.summary = report.value.summary
        case.left_out = report.value.leave_out
    if report.value is None or report.status != "complete":
        case.ended = f"The orchestrator ended {report.status}: {report.detail or report.ending}"


def _task(case: Case) -> str:
    order = case.order
    text = f"What is wanted:\n{order.instruction}"
    if order.check:
        text += f"\n\nIt is done when this command succeeds in the workspace: `{order.check}`"
    if order.protect:
        text += f"\n\nFiles that must stay as they are: {', '.join(order.protect)}"
    return text


async def _why_not(run: Run, case: Case, answer: FinishAnswer) -> str:
    """Why it is not finished ('': it is). Called in a step."""
    known = [task.id for task in case.held()]
    if wrong := [id for id in answer.leave_out if id not in known]:
        return f"leave_out names {wrong[0]!r}; changes beside the workspace: {_some(known)}"
    open_ones = [task.id for task in case.conflicts() if task.id not in answer.leave_out]
    if open_ones:
        return (
            f"changes of {_some(open_ones)} conflict with others and are not in the workspace: "
            "delegate a coder with takes_up, or name them in leave_out"
        )
    if not case.order.check:
        return ""
    tree = case.trunk.head(run)
    ground, order = case.desk.ground, case.order
    check = case.checked[tree.hash] = await run_check(run, ground, tree, order.check, order.seconds)
    return "" if check.passed else f"`{order.check}` fails:\n{check.output}"


def _some(ids: Iterable[str]) -> str:
    return ", ".join(ids) or "none"


# -------------------------------------------------------------------- the tools


def orchestrator_tools(case: Case) -> list[Tool]:
    made = (_delegate(case), _delegate_many(case), _add_context(case), _plan(case))
    return [Tool.from_function(fn, None, seconds=None, result_bytes=48_000) for fn in made]


#: What a tool is made from.
Function = Callable[..., Awaitable[str]]


def _delegate(case: Case) -> Function:
    async def delegate(
        run: Run,
        role: Literal["explorer", "coder"],
        title: str,
        instructions: str,
        returns: str = "",
        checks: tuple[str, ...] = (),
        max_turns: int | None = None,
        minutes: float | None = None,
        context: tuple[str, ...] = (),
        files: tuple[str, ...] = (),
        takes_up: str = "",
    ) -> str:
        """Give one task to a sub-agent and wait for its report. It knows nothing but what you tell
        and hand it here.

        Args:
            role: explorer (finds out; cannot write) or coder (changes files in its own copy).
            title: A few words.
            instructions: All that it needs to know to do this.
            returns: What its report has to hold.
            checks: Commands that must succeed before a coder's work is accepted.
            max_turns: How many turns it gets; by default as its role says.
            minutes: Its time, after which it reports what it has.
            context: Items of the context store by id, or all of an earlier task by its id.
            files: Files or folders of the workspace that it is shown.
            takes_up: A task whose changes are not in the workspace: it goes on from them.
        """
        given = Delegation(
            id=_id_of(run),
            role=role,
            title=title[:120] or "a task",
            instructions=instructions or title or "see the title",
            returns=returns,
            checks=checks,
            max_turns=max_turns,
            minutes=minutes,
            context=context,
            files=files,
            takes_up=takes_up,
        )
        return await _told(run, case, await delegated(run, case, [given]))

    return delegate


def _delegate_many(case: Case) -> Function:
    async def delegate_many(run: Run, tasks: tuple[Delegation, ...]) -> str:
        """Give several tasks to sub-agents, which work at the same time, each in a copy of its own;
        one that depends on others starts when those are complete. Gives all reports.

        Args:
            tasks: As for delegate, each with an id, and depends_on where it needs others of these.
        """
        return await _told(run, case, await delegated(run, case, tasks))

    return delegate_many


def _add_context(case: Case) -> Function:
    async def add_context(
        run: Run,
        id: str,
        content: str,
        kind: Literal["fact", "file", "plan", "decision", "command", "risk"] = "decision",
        supersedes: str = "",
    ) -> str:
        """Keep something in the context store, for those to whom you hand it.

        Args:
            id: Short: a-z, 0-9 and '-'. An id that exists gets a new version.
            content: What is to be known.
            kind: fact, file, plan, decision, command or risk.
            supersedes: The id of an item that this one replaces.
        """
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", id):
            raise ToolError(f"id {id[:60]!r}; allowed: a-z, 0-9 and '-', at most 40", next="rename")
        offer = Offer(id=id, kind=kind, content=content, supersedes=supersedes)
        return await _shown(run, case, await keep(run, case, "item", offer, ORCHESTRATOR))

    return add_context


def _plan(case: Case) -> Function:
    async def plan(run: Run, steps: tuple[Step, ...]) -> str:
        """Write down your plan, whole, each step with its status; shows the state of things.

        Args:
            steps: text and status (pending, doing, done, dropped) of each.
        """
        case.plan = steps
        await run.record("plan", "code:plan", {"steps": [s.model_dump() for s in steps]})
        return await _shown(run, case, "The plan is kept.")

    return plan


def _id_of(run: Run) -> str:
    """From the place of the call: the same on replay, whatever runs beside it."""
    found = _PLACE.search(run.path)
    assert found is not None
    turn, call = int(found[1]) + 1, int(found[2])
    return f"t{turn}" if call == 0 else f"t{turn}-{call + 1}"


async def _told(run: Run, case: Case, tasks: Sequence[Task]) -> str:
    return await _shown(run, case, "\n\n".join(map(told, tasks)))


async def _shown(run: Run, case: Case, text: str) -> str:
    def made() -> str:
        return f"{text}\n\n--- now ---\n{board(run, case)}"

    return await run.step("shown", made, effect=Effect.PURE, returns=str)
