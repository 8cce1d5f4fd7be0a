"""The answer team's workflow: an order to a desk with models, documents and tools, and away again.

What this needs of the extra ``manyhands[answer]`` is imported by the adapters where it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from manyhands.adapters.documents.library import DocumentLibrary
from manyhands.adapters.documents.web_fetcher import WebFetcher
from manyhands.adapters.jobs.local import LocalJobRunner
from manyhands.agents.now_tool import now
from manyhands.agents.python_tool import python_allowed, python_tool
from manyhands.agents.role import Role, load_roles
from manyhands.agents.tools import Tool, Toolbox
from manyhands.config import Config, home
from manyhands.ports import JobRunner, Model
from manyhands.runtime import Run, Workflow
from manyhands.teams.answer.case import Desk
from manyhands.teams.answer.memory import Memory
from manyhands.teams.answer.records import (
    CriticAnswer,
    Order,
    Outcome,
    PlanAnswer,
    RouteAnswer,
    SynthesisAnswer,
    WorkAnswer,
)
from manyhands.teams.answer.shelves import Shelves
from manyhands.teams.answer.team import answer
from manyhands.wiring.models import Endpoints
from manyhands.wiring.roles import given_models, models_for
from manyhands.wiring.tapes import Tape
from manyhands.wiring.tools import tool_servers

ANSWER = "answer"
#: Where a project keeps role files of its own.
OVERRIDES = "roles/answer"
PROGRAM = 'manyhands answer "…" --model {}'

_ROLES = Path(__file__).parents[1] / "teams/answer/roles"
_OUTPUTS = (RouteAnswer, PlanAnswer, WorkAnswer, SynthesisAnswer, CriticAnswer)
_CHECKS = ("cited", "plan")
_TOOLS = ("search", "read", "fetch_url", "python", "now", "post_finding")
#: Roles that are handed the tools of servers.
_READERS = frozenset({"worker", "solo"})


def answer_workflow(
    config: Config,
    *,
    models: Mapping[str, Model | Sequence[Model]] | None = None,
    jobs: JobRunner | None = None,
    tape: Tape | None = None,
) -> Workflow:
    """The answer team; its input is an `Order`, or a question alone.

    ``models``: role -> model ('' for all others), instead of what the order names (tests,
    notebooks).
    """
    endpoints = Endpoints(config, tape)

    async def run_answer(run: Run, input: object) -> Outcome:
        order = Order.model_validate({"question": input} if isinstance(input, str) else input)
        async with endpoints:
            chains = await _models(order, config, endpoints, models)
            async with desk_of(run.id, order, config, models=chains, jobs=jobs) as desk:
                return await answer(run, order, desk=desk)

    return Workflow(ANSWER, run_answer, returns=Outcome)


def memory_of(project: Path) -> Memory:
    return Memory(project)


def shelves_of(project: Path, docs: str) -> Shelves:
    """The documents alone, to look things up outside of a run."""
    fetched = DocumentLibrary(None, _index(project, ""))
    return Shelves(fetched, _documents(project, docs))


async def answer_models(
    order: Order, config: Config, endpoints: Endpoints
) -> dict[str, tuple[Model, ...]]:
    """Role -> models to be tried in order, as `models_for` finds them."""
    return await models_for(order.models, answer_roles(order), config, endpoints, program=PROGRAM)


def answer_roles(order: Order) -> dict[str, Role]:
    """The team's roles by name; a file in the project's ``roles/answer`` replaces the packaged
    one."""
    overrides = Path(order.project) / OVERRIDES if order.project else None
    return load_roles(
        _ROLES,
        overrides if overrides is not None and overrides.is_dir() else None,
        tools=_TOOLS,
        outputs={output.__name__ for output in _OUTPUTS},
        checks=_CHECKS,
    )


@asynccontextmanager
async def desk_of(
    run_id: str,
    order: Order,
    config: Config,
    *,
    models: Mapping[str, Sequence[Model]],
    jobs: JobRunner | None = None,
) -> AsyncGenerator[Desk]:
    """What the order names, as objects; closed at the end. ``models``: of every role."""
    project = Path(order.project) if order.project else home() / ANSWER
    async with AsyncExitStack() as stack:
        fetched = DocumentLibrary(None, project / ".manyhands" / ANSWER / f"{run_id}.db")
        stack.push_async_callback(fetched.close)
        documents = _documents(project, order.docs)
        if documents is not None:
            stack.push_async_callback(documents.close)
        fetcher = WebFetcher(order.urls) if order.urls else None
        if fetcher is not None:
            stack.push_async_callback(fetcher.close)
        servers = await stack.enter_async_context(tool_servers(config, order.mcp))
        theirs = await servers.tools()
        runner = jobs or LocalJobRunner()
        python, why = _python(order, runner, project / ".manyhands" / ANSWER / run_id)
        dropped = [
            f"Tool {tool} of {name} is left out: {what}" for name, tool, what in theirs.dropped
        ]
        yield Desk(
            models=models,
            roles=_with_tools(answer_roles(order), [tool.name for tool in theirs.tools]),
            shelves=Shelves(fetched, documents),
            tools=Toolbox.of(now, *theirs.tools, *python),
            fetcher=fetcher,
            memory=Memory(project) if order.memory else None,
            notes=(*dropped, *why),
        )


def _python(order: Order, jobs: JobRunner, folder: Path) -> tuple[list[Tool], list[str]]:
    """Python where a sandbox keeps it in, and otherwise why there is none."""
    if not order.python:
        return [], []
    why = python_allowed(jobs.isolation)
    return ([], [f"Agents have no Python: {why}"]) if why else ([python_tool(jobs, folder)], [])


def _with_tools(roles: dict[str, Role], names: Sequence[str]) -> dict[str, Role]:
    """The roles that read are handed the servers' tools too."""
    return {
        name: replace(role, tools=(*role.tools, *names)) if name in _READERS else role
        for name, role in roles.items()
    }


async def _models(
    order: Order,
    config: Config,
    endpoints: Endpoints,
    models: Mapping[str, Model | Sequence[Model]] | None,
) -> Mapping[str, Sequence[Model]]:
    if models is None:
        return await answer_models(order, config, endpoints)
    return given_models(models, answer_roles(order))


def _documents(project: Path, docs: str) -> DocumentLibrary | None:
    return DocumentLibrary(Path(docs), _index(project, docs)) if docs else None


def _index(project: Path, docs: str) -> Path:
    name = hashlib.sha256(docs.encode()).hexdigest()[:12]
    return project / ".manyhands" / "library" / f"{name}.db"
