"""`manyhands runs | show | resume | export | import | stop | …`: what works on every run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from manyhands.cli.pages import export_timeline
from manyhands.cli.printing import ago, err, out, print_json, status, table
from manyhands.cli.telemetry import export_spans
from manyhands.config import load_config, located_text
from manyhands.errors import ConfigError
from manyhands.runtime import Budget, RunHandle, RunState, Runtime, Status, export_run, import_run
from manyhands.telemetry.content import limit_of
from manyhands.wiring import Tape, open_runtime

Journal = Annotated[
    str | None,
    typer.Option("--journal", envvar="MANYHANDS_JOURNAL", help="Path of the journal to use."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NewId = Annotated[str | None, typer.Option("--run-id", help="Default: a fresh one.")]
Tokens = Annotated[int | None, typer.Option(help="Limit of tokens.", min=0)]
Usd = Annotated[float | None, typer.Option(help="Limit of US dollars.", min=0)]
#: How a model is named, for the help of options that take one.
MODEL_FORMS = (
    "hf:OWNER/MODEL, ollama:NAME, vllm:NAME, http://HOST/v1#NAME, gguf:OWNER/REPO:FILE, "
    "a path of a .gguf file, script:FILE, or a name of manyhands.toml. Several with commas: tried "
    "in order."
)
OfAll = Annotated[str, typer.Option("--model", help=f"Of all roles: {MODEL_FORMS}")]
Patience = Annotated[
    float, typer.Option(help="Seconds of silence of a model that are taken for a hang.", min=0.1)
]
Resumed = Annotated[
    str, typer.Option("--resume", metavar="RUN", help="Go on with a run that was interrupted.")
]
Content = Annotated[
    bool, typer.Option("--content", help="Of spans: with what was asked and said, in words.")
]
ContentLimit = Annotated[
    int | None,
    typer.Option(help="Bytes of each text, with --content (16384).", min=1, show_default=False),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id (see `manyhands runs`).")]


def runtime_of(journal: str | None, tape: Tape | None = None) -> Runtime:
    return open_runtime(load_config(Path.cwd()), journal, tape)


def go(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end; Ctrl-C leaves the run resumable."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def named_models(model: str, roles: list[str]) -> dict[str, str]:
    """Role -> model, '' for all others; paths are made absolute, for a resume from anywhere."""
    here = Path.cwd()
    named = {"": located_text(model, here)} if model else {}
    for item in roles:
        name, _, spec = item.partition("=")
        if not name or not spec:
            raise ConfigError(f"--role {item!r}", next="write --role critic=MODEL")
        named[name] = located_text(spec, here)
    return named


async def result_of(handle: RunHandle, follow: Coroutine[Any, Any, None], again: str) -> Any:
    """The run's result, while ``follow`` shows its events; Ctrl-C names ``again``, the command that
    goes on with it."""
    following = asyncio.create_task(follow)
    try:
        outcome = await handle.result()
        with suppress(TimeoutError):
            await asyncio.wait_for(following, 5)
    except asyncio.CancelledError:
        err.print(f"\ninterrupted; → {again} {handle.run_id}")
        raise
    finally:
        following.cancel()
    return outcome


def list_runs(journal: Journal = None, as_json: AsJson = False) -> None:
    """List the runs of the journal, newest first.

    Example: `manyhands runs --json | jq '.[0].run_id'`
    """

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            infos = runtime.runs()
            if as_json:
                print_json([i.__dict__ if hasattr(i, "__dict__") else _asdict(i) for i in infos])
                return
            if not infos:
                out.print(f"No runs in {runtime.journal.path} yet.")
                out.print("→ manyhands lab run examples/tinylm")
                return
            table(
                ["run", "workflow", "status", ">events", "began", "last event", "held by"],
                [
                    (
                        i.run_id,
                        i.workflow,
                        status(i.status),
                        i.events,
                        ago(i.created_at),
                        ago(i.updated_at),
                        i.owner or "",
                    )
                    for i in infos
                ],
            )

    go(work())


def _asdict(info: Any) -> dict[str, Any]:
    return {name: getattr(info, name) for name in info.__dataclass_fields__}


def show(
    run_id: RunId,
    steps: Annotated[bool, typer.Option("--steps", help="List every step.")] = False,
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """Show one run: status, spend, steps, artifacts, what is in doubt.

    Example: `manyhands show lab-1a2b3c4d --steps`
    """

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            view = runtime.view(run_id)
            if as_json:
                print_json(_as_data(view, steps))
                return
            _print_view(view, steps)

    go(work())


def _as_data(view: RunState, steps: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "run_id": view.run_id,
        "workflow": view.workflow,
        "status": view.status,
        "epoch": view.epoch,
        "events": view.seq,
        "created_at": view.created_at,
        "updated_at": view.updated_at,
        "active_seconds": view.active,
        "spent": dict(view.spent()),
        "reserved": dict(view.reserved()),
        "budget": view.budget.model_dump(exclude_defaults=True),
        "error": view.error,
        "in_doubt": [s.key for s in view.in_doubt()],
        "forked_from": view.forked_from or None,
        "artifacts": [a.model_dump(mode="json") for a in view.artifacts.all()],
        "commands": [
            {"seq": c.seq, "verb": c.verb, "target": c.target, "message": c.message}
            for c in view.commands
        ],
        "step_counts": _counts(view),
    }
    if steps:
        data["steps"] = [
            {"key": s.key, "outcome": s.outcome, "effect": s.effect, "attempts": s.attempts}
            for s in view.steps.values()
        ]
    return data


def _counts(view: RunState) -> dict[str, int]:
    counts: dict[str, int] = {}
    for step in view.steps.values():
        counts[step.outcome] = counts.get(step.outcome, 0) + 1
    return counts


def _print_view(view: RunState, steps: bool) -> None:
    out.print(status(view.status), end=" ")
    out.print(f"[bold]{view.run_id}[/] · {view.workflow} · began {ago(view.created_at)}")
    counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(_counts(view).items()))
    out.print(f"{view.seq} events in {view.epoch} epoch(s); steps: {counts or 'none'}")
    spent = ", ".join(f"{n} {unit}" for unit, n in sorted(view.spent().items()) if n)
    out.print(f"spent: {spent or 'nothing'} · {view.active:.0f} s held")
    if view.error:
        out.print(
            f"error: {view.error.get('kind', '')} {view.error.get('message', '')}", markup=False
        )
    for step in view.in_doubt():
        out.print(f"in doubt: {step.key}", markup=False)
        out.print(
            f"→ manyhands resolve {view.run_id} {step.key} --retry | --result JSON | --fail TEXT",
            markup=False,
        )
    if steps:
        table(
            ["step", "outcome", "effect", ">attempts", ">seconds"],
            [
                (
                    s.key,
                    s.outcome,
                    s.effect,
                    s.attempts,
                    f"{s.ended_at - s.started_at:.2f}" if s.ended_at and s.started_at else "",
                )
                for s in view.steps.values()
            ],
        )
    if view.status in (Status.INTERRUPTED, Status.KILLED, Status.BLOCKED):
        out.print(f"→ manyhands resume {view.run_id}")


def resume(
    run_id: RunId,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed steps again.")
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Although an owner on another host may still live."),
    ] = False,
    tokens: Annotated[int | None, typer.Option(help="New limit of tokens.")] = None,
    usd: Annotated[float | None, typer.Option(help="New limit of US dollars.")] = None,
    journal: Journal = None,
) -> None:
    """Go on with a run that was interrupted, killed or blocked. Nothing finished is done again.

    Example: `manyhands resume lab-1a2b3c4d`
    """
    budget = Budget(tokens=tokens, usd=usd) if tokens is not None or usd is not None else None

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            handle = await runtime.resume(
                run_id, retry_failed=retry_failed, take_over=take_over, budget=budget
            )
            out.print(f"resumed {run_id}; Ctrl-C leaves it resumable")
            print_json(await handle.result())

    go(work())


def fork(
    run_id: RunId,
    before: Annotated[
        str, typer.Option(help="A sequence number, or a step's key: what comes before it is kept.")
    ],
    journal: Journal = None,
) -> None:
    """Begin a new run with this one's history up to a point; `manyhands resume` goes on from there.

    Example: `manyhands fork lab-1a2b3c4d --before 120`
    """

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            new = await runtime.fork(run_id, int(before) if before.isdigit() else before)
            out.print(f"forked to {new}")
            out.print(f"→ manyhands resume {new}")

    go(work())


def export(
    run_id: RunId,
    file: Annotated[Path | None, typer.Option("--out", "-o", help="Default: RUN.jsonl")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the timeline, as one file, to FILE.")
    ] = None,
    otlp: Annotated[
        str | None,
        typer.Option("--otlp", metavar="URL|FILE", help="Its spans, to a collector or a file."),
    ] = None,
    content: Content = False,
    content_limit: ContentLimit = None,
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """Write a run to one JSONL file that `manyhands import` reads back, to a page (--html), or its
    spans to a collector or a file (--otlp).

    Examples: `manyhands export lab-1a2b3c4d -o study.jsonl`,
    `manyhands export lab-1a2b3c4d --html study.html`,
    `manyhands export lab-1a2b3c4d --otlp http://localhost:4318`,
    `manyhands export lab-1a2b3c4d --otlp study.otlp.json --content`
    """

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            if html is not None:
                export_timeline(runtime, run_id, html)
            if otlp is not None:
                limit = limit_of(content, content_limit)
                export_spans(runtime.journal, run_id, otlp, limit=limit, as_json=as_json)
            if (html or otlp) is not None and file is None:
                return
            path = file or Path(f"{run_id}.jsonl")
            lines = export_run(runtime.journal, run_id, path)
            if not as_json:
                out.print(f"{lines} lines in {path}")
            elif otlp is None:
                print_json({"run_id": run_id, "file": str(path), "lines": lines})

    go(work())


def import_(file: Path, journal: Journal = None) -> None:
    """Read a run that `manyhands export` wrote into the journal.

    Example: `manyhands import study.jsonl`
    """

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            run_id = await import_run(runtime.journal, file)
            out.print(f"imported {run_id}")
            out.print(f"→ manyhands show {run_id}")

    go(work())


def resolve(
    run_id: RunId,
    key: Annotated[str, typer.Argument(metavar="STEP", help="The key of the step in doubt.")],
    retry: Annotated[bool, typer.Option("--retry", help="It did not happen: do it.")] = False,
    result: Annotated[
        str | None, typer.Option("--result", help="It happened: its value, as JSON.")
    ] = None,
    fail: Annotated[str | None, typer.Option("--fail", help="Take it as failed, and why.")] = None,
    journal: Journal = None,
) -> None:
    """Say what became of a step whose end is not known.

    Example: `manyhands resolve pay-1a2b transfer --result '{"id": 7}'`
    """
    chosen = [retry, result is not None, fail is not None]
    if sum(chosen) != 1:
        raise ConfigError(
            f"{sum(chosen)} of --retry, --result and --fail are given; exactly one is needed",
            next="choose one",
        )
    action = "retry" if retry else "result" if result is not None else "fail"
    try:
        value = json.loads(result) if result is not None else fail
    except ValueError as error:
        raise ConfigError(f"--result {result!r}: {error}", next="give JSON") from error

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            await runtime.resolve(run_id, key, action, value)
            out.print(f"→ manyhands resume {run_id}")

    go(work())


def _command(verb: str, journal: str | None, run_id: str, target: str, message: Any) -> None:
    async def work() -> None:
        async with runtime_of(journal) as runtime:
            seen = runtime.view(run_id).seq
            await runtime.command(run_id, verb, target=target, message=message, decided_on=seen)
            held = runtime.view(run_id).status is Status.RUNNING
            when = "delivered" if held else "kept until the run is resumed"
            out.print(f"{verb}: {when}")

    go(work())


def steer(
    run_id: RunId,
    message: Annotated[str, typer.Argument(help="What the agents are to take into account.")],
    to: Annotated[str, typer.Option("--to", help="Only below this scope.")] = "",
    journal: Journal = None,
) -> None:
    """Send a message, read at the next boundary. Example: `manyhands steer RUN "try Adam"`"""
    _command("steer", journal, run_id, to, message)


At = Annotated[str, typer.Option("--at", help="Only this agent or scope, with all below it.")]


def pause(
    run_id: RunId,
    at: At = "",
    now: Annotated[
        bool, typer.Option("--now", help="Begin no step; else agents end the turn they are at.")
    ] = False,
    alone: Annotated[
        bool, typer.Option("--alone", help="The agent of --at, and none of those below it.")
    ] = False,
    journal: Journal = None,
) -> None:
    """Let agents rest before their next turn, and begin no other step, until `manyhands unpause`.

    Examples:

    `manyhands pause RUN`

    `manyhands pause RUN --at orchestrator --now`
    """
    _command("pause", journal, run_id, at, {"now": now, "alone": alone})


def unpause(run_id: RunId, at: At = "", journal: Journal = None) -> None:
    """Let what is paused go on. Example: `manyhands unpause RUN`"""
    _command("continue", journal, run_id, at, None)


def interrupt(
    run_id: RunId,
    at: Annotated[str, typer.Option("--at", help="Only calls below this scope or step.")] = "",
    journal: Journal = None,
) -> None:
    """Cancel the calls in flight; the run goes on. Example: `manyhands interrupt RUN`"""
    _command("interrupt", journal, run_id, at, None)


def stop(
    run_id: RunId,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what there is: what a stop always does.")
    ] = True,
    at: At = "",
    journal: Journal = None,
) -> None:
    """Wrap up with a partial report, and keep what there is. To end a run at once: `kill`.

    Examples: `manyhands stop RUN --keep`, `manyhands stop RUN --at AGENT`
    """
    _command("stop", journal, run_id, at, None)


def kill(run_id: RunId, at: At = "", journal: Journal = None) -> None:
    """End a run now; `manyhands resume` goes on with it. With --at: end one agent for good, without
    a report, and those below it; all others go on.

    Examples: `manyhands kill RUN`, `manyhands kill RUN --at AGENT`
    """
    _command("kill", journal, run_id, at, None)


def add_commands(app: typer.Typer) -> None:
    app.command("runs")(list_runs)
    app.command("import")(import_)
    for command in (
        show,
        resume,
        fork,
        export,
        resolve,
        steer,
        pause,
        unpause,
        interrupt,
        stop,
        kill,
    ):
        app.command()(command)
