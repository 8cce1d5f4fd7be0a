"""`manyhands answer …` and `manyhands memory …`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from manyhands.cli import orders
from manyhands.cli.answer_progress import AnswerProgress, print_outcome
from manyhands.cli.printing import err, out, plain, print_json, table
from manyhands.cli.runs import (
    AsJson,
    Journal,
    NewId,
    OfAll,
    Patience,
    Resumed,
    Tokens,
    Usd,
    go,
    named_models,
    result_of,
)
from manyhands.cli.tapes import Record, ReplayFrom
from manyhands.config import load_config
from manyhands.errors import ConfigError
from manyhands.runtime import Budget, RunHandle, Runtime
from manyhands.teams.answer.records import Order, Outcome
from manyhands.wiring.answer import (
    ANSWER,
    answer_models,
    answer_workflow,
    memory_of,
    shelves_of,
)
from manyhands.wiring.roles import ANSWER_ROLES
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
OfRoles = Annotated[
    list[str] | None,
    typer.Option("--role", help=f"ROLE=MODEL, of {', '.join(ANSWER_ROLES)}. Repeatable."),
]
Kept = Annotated[bool, typer.Option("--memory", help="Recall and keep findings of this project.")]


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
        go(
            orders.resume(
                _TEAM, resume, _watch(as_json), budget=budget, record=record, journal=journal
            )
        )
        return
    order = Order(
        question=question.strip(),
        docs=_folder(docs),
        urls=tuple(url or ()),
        mcp=tuple(mcp or ()),
        python=python,
        route=_route(route),
        models=named_models(model, role or []),
        workers=workers,
        max_revisions=max_revisions,
        patience=patience,
        project=str(project.resolve()),
        memory=memory,
    )
    tool_servers(load_config(Path.cwd()), order.mcp)  # none is started by that
    go(
        orders.begin(
            _TEAM,
            order,
            _watch(as_json),
            budget=budget,
            run_id=run_id,
            record=record,
            replay=replay,
            journal=journal,
        )
    )


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


_TEAM = orders.Team(ANSWER, lambda config, tape: answer_workflow(config, tape=tape), answer_models)


def _watch(as_json: bool) -> orders.Watch:
    async def watch(runtime: Runtime, handle: RunHandle) -> None:
        with AnswerProgress(runtime, handle.run_id, quiet=as_json) as progress:
            outcome: Outcome = await result_of(
                handle, progress.follow(), "manyhands answer --resume"
            )
        if as_json:
            print_json(outcome.model_dump(mode="json") | {"run": handle.run_id})
        else:
            print_outcome(outcome, handle.run_id)

    return watch


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
