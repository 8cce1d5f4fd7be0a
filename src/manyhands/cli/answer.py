"""`manyhands answer …` and `manyhands memory …`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from manyhands.cli.answer_progress import AnswerProgress, print_outcome
from manyhands.cli.models import fetch
from manyhands.cli.printing import err, out, plain, print_json, table
from manyhands.cli.runs import (
    MODEL_FORMS,
    AsJson,
    Journal,
    NewId,
    Tokens,
    Usd,
    go,
    result_of,
    runtime_of,
)
from manyhands.cli.tapes import Record, ReplayFrom, journal_of, run_id_of, taped
from manyhands.config import load_config, located_text
from manyhands.errors import ConfigError
from manyhands.runtime import Budget, RunHandle, Runtime
from manyhands.teams.answer.records import Order, Outcome
from manyhands.wiring import Endpoints
from manyhands.wiring.answer import (
    ANSWER,
    ANSWER_ROLES,
    answer_models,
    answer_workflow,
    memory_of,
    shelves_of,
)
from manyhands.wiring.tools import tool_servers

memory = typer.Typer(
    help="Findings that earlier answers kept in this project (`manyhands answer --memory`).",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Project = Annotated[
    Path, typer.Option("--project", help="The folder whose .manyhands keeps index and memory.")
]
Docs = Annotated[
    Path | None,
    typer.Option(help="A folder to answer from: Markdown, text, HTML, PDF, source code."),
]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--url", help="A host to fetch pages from: docs.python.org. Repeatable."),
]
Servers = Annotated[
    list[str] | None,
    typer.Option("--mcp", help="A tool server of manyhands.toml ([mcp.NAME]). Repeatable."),
]
Python = Annotated[
    bool, typer.Option(help="Give agents a sandboxed Python, where there is a sandbox.")
]
OfAll = Annotated[str, typer.Option("--model", help=f"Of all roles: {MODEL_FORMS}")]
OfRoles = Annotated[
    list[str] | None,
    typer.Option("--role", help=f"ROLE=MODEL, of {', '.join(ANSWER_ROLES)}. Repeatable."),
]
Patience = Annotated[
    float, typer.Option(help="Seconds of silence of a model that are taken for a hang.", min=0.1)
]
Kept = Annotated[bool, typer.Option("--memory", help="Recall and keep findings of this project.")]
Resumed = Annotated[
    str, typer.Option("--resume", metavar="RUN", help="Go on with a run that was interrupted.")
]


def answer(
    question: Annotated[str, typer.Argument(help="What you want to know.")] = "",
    docs: Docs = None,
    url: Hosts = None,
    mcp: Servers = None,
    python: Python = True,
    route: Annotated[str, typer.Option(help="auto, single (one agent) or team.")] = "auto",
    model: OfAll = "",
    role: OfRoles = None,
    workers: Annotated[int, typer.Option(help="Workers at once.", min=1)] = 4,
    max_revisions: Annotated[int, typer.Option(help="Revisions at most.", min=0)] = 2,
    patience: Patience = 30.0,
    tokens: Tokens = None,
    requests: Annotated[int | None, typer.Option(help="Limit of requests.", min=0)] = None,
    usd: Usd = None,
    memory: Kept = False,
    project: Project = Path("."),
    resume: Resumed = "",
    run_id: NewId = None,
    record: Record = None,
    replay: ReplayFrom = None,
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question with citations: one agent, or a team with a critic, whichever fits.

    Examples:

    `manyhands answer "How do I set a timeout?" --docs ./docs --model ollama:qwen3:8b`

    `manyhands answer "Compare FastAPI, Flask and Django for a small JSON API" --docs ./docs`

    `manyhands answer "What changed in 3.13?" --url docs.python.org --role critic=hf:Qwen/Qwen3-32B`

    `manyhands answer --resume answer-1a2b3c4d`
    """
    if bool(question.strip()) == bool(resume):
        raise ConfigError(
            "a question or --resume RUN is needed, and not both",
            next='manyhands answer "…" --docs FOLDER',
        )
    budget = Budget(tokens=tokens, requests=requests, usd=usd)
    if resume:
        go(_resume(resume, budget, record, journal, as_json))
        return
    order = Order(
        question=question.strip(),
        docs=_folder(docs),
        urls=tuple(url or ()),
        mcp=tuple(mcp or ()),
        python=python,
        route=_route(route),
        models=_models(model, role or []),
        workers=workers,
        max_revisions=max_revisions,
        patience=patience,
        project=str(project.resolve()),
        memory=memory,
    )
    go(_begin(order, budget, run_id, record, replay, journal, as_json))


def _route(wanted: str) -> Literal["auto", "single", "team"]:
    if wanted not in ("auto", "single", "team"):
        raise ConfigError(f"--route {wanted!r}", next="give auto, single or team")
    return wanted


def _folder(docs: Path | None) -> str:
    if docs is None:
        return ""
    if not docs.is_dir():
        raise ConfigError(f"--docs {str(docs)!r} is not a folder", next="give a folder")
    return str(docs.resolve())


def _models(model: str, roles: list[str]) -> dict[str, str]:
    """Role -> model, '' for all others; paths are made absolute, for a resume from anywhere."""
    here = Path.cwd()
    named = {"": located_text(model, here)} if model else {}
    for item in roles:
        name, _, spec = item.partition("=")
        if not name or not spec:
            raise ConfigError(f"--role {item!r}", next="write --role critic=MODEL")
        named[name] = located_text(spec, here)
    return named


async def _begin(
    order: Order,
    budget: Budget,
    run_id: str | None,
    record: Path | None,
    replay: Path | None,
    journal: str | None,
    as_json: bool,
) -> None:
    config = load_config(Path.cwd())
    tool_servers(config, order.mcp)  # none is started by that
    with taped(config, record, replay) as tape:
        async with Endpoints(config, tape) as endpoints:
            await answer_models(order, config, endpoints)
            await fetch(endpoints)
        id = run_id_of(tape, run_id, ANSWER)
        with journal_of(tape, journal) as url:
            async with runtime_of(url, tape) as runtime:
                workflow = answer_workflow(config, tape=tape)
                handle = await runtime.start(workflow, order, run_id=id, budget=budget)
                await _watch(runtime, handle, as_json)


async def _resume(
    run_id: str, budget: Budget, record: Path | None, journal: str | None, as_json: bool
) -> None:
    with taped(load_config(Path.cwd()), record, None) as tape:
        async with runtime_of(journal, tape) as runtime:
            if runtime.view(run_id).workflow != ANSWER:
                raise ConfigError(
                    f"run {run_id!r} is of {runtime.view(run_id).workflow!r}, not of {ANSWER!r}",
                    next=f"manyhands resume {run_id}",
                )
            run_id_of(tape, run_id, ANSWER)
            more = budget if budget.model_dump(exclude_none=True, exclude={"units"}) else None
            handle = await runtime.resume(run_id, budget=more)
            await _watch(runtime, handle, as_json)


async def _watch(runtime: Runtime, handle: RunHandle, as_json: bool) -> None:
    with AnswerProgress(runtime, handle.run_id, quiet=as_json) as progress:
        outcome: Outcome = await result_of(handle, progress.follow(), "manyhands answer --resume")
    if as_json:
        print_json(outcome.model_dump(mode="json") | {"run": handle.run_id})
    else:
        print_outcome(outcome, handle.run_id)


# -------------------------------------------------------------------- memory


@memory.command("list")
def list_memory(
    search: Annotated[str, typer.Option("--search", help="Only what shares words with this.")] = "",
    docs: Annotated[
        Path | None, typer.Option(help="Look first whether their sources have changed.")
    ] = None,
    project: Project = Path("."),
    as_json: AsJson = False,
) -> None:
    """List what is remembered, newest first, or what fits best.

    Example: `manyhands memory list --search "timeouts" --docs ./docs`
    """
    known = memory_of(project)
    if docs is not None:
        go(_refresh(project.resolve(), docs))
    found = known.search(search, 50) if search else known.all()
    if as_json:
        print_json([each.model_dump(mode="json") for each in found])
        return
    if not found:
        out.print("Nothing is remembered here yet.")
        out.print('→ manyhands answer "…" --docs FOLDER --memory', markup=False)
        return
    table(
        ["finding", "kept", "state", "says"],
        [(e.id, e.date[:10], e.stale or "holds", plain(e.finding.text)[:80]) for e in found],
    )


async def _refresh(project: Path, docs: Path) -> None:
    shelves = shelves_of(project, _folder(docs))
    assert shelves.documents is not None
    try:
        await shelves.documents.refresh()
        marked = await memory_of(project).refresh(shelves)
    finally:
        await shelves.documents.close()
        await shelves.fetched.close()
    if marked:
        err.print(f"{marked} are stale now: their sources have changed")


Finding = Annotated[str, typer.Argument(metavar="FINDING", help="Its id, or the beginning of it.")]


@memory.command("show")
def show_memory(finding: Finding, project: Project = Path("."), as_json: AsJson = False) -> None:
    """Show one finding with its evidence. Example: `manyhands memory show 1a2b`"""
    found = memory_of(project).get(finding)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    out.print(plain(found.finding.text), markup=False, soft_wrap=True)
    for citation in found.finding.citations:
        out.print(f"  [{citation.passage}] “{plain(citation.quote)}”", markup=False, soft_wrap=True)
    out.print(f"kept {found.date} by {found.run}, asked: {plain(found.question)}", markup=False)
    out.print(found.stale or "it holds, as far as is known", markup=False)


@memory.command("forget")
def forget(finding: Finding, project: Project = Path(".")) -> None:
    """Remove one finding. Example: `manyhands memory forget 1a2b`"""
    gone = memory_of(project).forget(finding)
    out.print(f"forgotten: {plain(gone.finding.text)}", markup=False, soft_wrap=True)
