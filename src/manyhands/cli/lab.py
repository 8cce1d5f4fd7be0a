"""`manyhands lab …`: studies. Parse, call, print; the lab's parts are imported where they are used,
because they belong to the extra ``manyhands[lab]``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from manyhands.cli.dashboard import dashboard as dashboard_command
from manyhands.cli.following import tell_where
from manyhands.cli.lab_jobs import change_limits, check_jobs, job_flags, ordered_jobs
from manyhands.cli.lab_options import (
    Cache,
    Campaign,
    CampaignUsd,
    Experiments,
    Filler,
    Fillers,
    Flavor,
    Image,
    JobOptions,
    Jobs,
    JobUsd,
    Packages,
    Papers,
    Runs,
    Seed,
    Silence,
    Slots,
    StudyFolder,
    Tracked,
    UsdPerMinute,
)
from manyhands.cli.models import fetch
from manyhands.cli.papers import papers as papers_command
from manyhands.cli.printing import ago, err, out, plain, print_json, status, table
from manyhands.cli.race import race as race_command
from manyhands.cli.runs import (
    AsJson,
    Journal,
    NewId,
    Tokens,
    Usd,
    go,
    result_of,
    runtime_of,
)
from manyhands.cli.tapes import Record, ReplayFrom, check_apart, journal_of, run_id_of, taped
from manyhands.cli.tracking import beside, check_tracker, track_study
from manyhands.config import Config, load_config, located_role, located_text
from manyhands.errors import ConfigError
from manyhands.runtime import Budget, RunHandle, Runtime, Status
from manyhands.wiring import (
    LAB,
    LAB_ROLES,
    Endpoints,
    Tape,
    lab_fillers,
    lab_workflow,
    models_of,
)

app = typer.Typer(
    help="Autonomous research on a training script: experiments, a ledger, honest promotions.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("papers")(papers_command)
app.command("track")(track_study)
app.command("race")(race_command)
app.command("dashboard")(dashboard_command)

Study = Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder, or a run's id.")]


@app.command()
def run(
    study: StudyFolder,
    runs: Runs = None,
    experiments: Experiments = None,
    slots: Slots = None,
    seed: Seed = 1,
    campaign: Campaign = "",
    model: Filler = "",
    role: Fillers = None,
    papers: Papers = "",
    jobs: Jobs = None,
    job: JobOptions = None,
    flavor: Flavor = None,
    image: Image = None,
    packages: Packages = None,
    job_usd: JobUsd = None,
    campaign_usd: CampaignUsd = None,
    usd_per_minute: UsdPerMinute = None,
    silence: Silence = None,
    cache: Cache = "",
    track: Tracked = "",
    tokens: Tokens = None,
    usd: Usd = None,
    run_id: NewId = None,
    record: Record = None,
    replay: ReplayFrom = None,
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """Run a study: baseline, experiments, confirmed promotions, until the budget or a plateau.

    Examples:

    `manyhands lab run examples/tinylm`

    `manyhands lab run . --runs 200 --slots 4`

    `manyhands lab run . --model ollama:qwen3:8b --role planner=algorithm`

    `manyhands lab run . --role planner=algorithm:cmaes`

    `manyhands lab run . --model ollama:qwen3:8b --role planner=single:ollama:qwen3:8b`

    `manyhands lab run . --model hf:Qwen/Qwen3-32B --papers hf`

    `manyhands lab run . --jobs hf --flavor a10g-small --with torch --campaign-usd 20`

    `manyhands lab run . --jobs ssh:me@gpu1 --job python=~/venv/bin/python --slots 2`

    `manyhands lab run . --jobs slurm --job partition=gpu --job gres=gpu:1 --slots 16`
    """
    flags = job_flags(flavor, image, packages, job_usd, campaign_usd, usd_per_minute, silence)
    given = {"runs": runs, "experiments": experiments, "slots": slots, "seed": seed}
    given |= {"campaign": campaign, "models": _models(model, role or [])}
    given |= ordered_jobs(load_config(Path.cwd()), jobs, job or [], flags, cache)
    loaded, order = _ordered(study, papers, given)
    if track:
        check_tracker(track)
    budget = Budget(tokens=tokens, usd=usd)
    go(_begun(loaded, order, budget, run_id, (record, replay, journal), as_json, track))


def _ordered(study: Path, papers: str, given: dict[str, Any]) -> tuple[Any, Any]:
    """The study, and an order that it can carry out."""
    from manyhands.teams.lab.opening import check_order  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.state import Order  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.study import load_study  # noqa: PLC0415 - optional extra
    from manyhands.wiring.papers import located_papers  # noqa: PLC0415 - starts slower

    loaded = load_study(study)
    source = located_papers(papers, Path.cwd()) if papers else ""
    order = Order(study=str(loaded.dir), papers=source, **given)
    check_order(loaded, order)
    return loaded, order


async def _begun(
    loaded: Any,
    order: Any,
    budget: Budget,
    run_id: str | None,
    kept: tuple[Path | None, Path | None, str | None],
    as_json: bool,
    track: str,
) -> None:
    """Run it. ``kept``: what to record to, what to replay, and the journal."""
    from manyhands.teams.lab.opening import check_clean  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.state import FOLDER  # noqa: PLC0415 - optional extra

    record, replay, journal = kept
    await check_clean(loaded)
    config = load_config(Path.cwd())
    _check_papers(order, config)
    await check_jobs(order)
    with taped(config, record, replay) as tape:
        async with Endpoints(config, tape) as endpoints:
            await models_of(order, config, endpoints)
            await fetch(endpoints)
        _mention_fillers(order, config)
        id = run_id_of(tape, run_id, LAB)
        check_apart(tape, loaded.dir / FOLDER, id)
        with journal_of(tape, journal) as url:
            async with runtime_of(url, tape) as runtime:
                _mention_unfinished(runtime, loaded.dir)
                workflow = lab_workflow(config, tape=tape)
                handle = await runtime.start(workflow, order, run_id=id, budget=budget)
                total = order.runs or loaded.config.budget.runs
                await _watch(runtime, handle, total, as_json, track)


def _models(model: str, roles: list[str]) -> dict[str, str]:
    """Role -> model; paths are made absolute, so that a resumed run finds them from anywhere."""
    here = Path.cwd()
    named: dict[str, str] = {}
    if model:
        named = dict.fromkeys(("researcher", "planner", "worker"), located_text(model, here))
    for item in roles:
        name, _, spec = item.partition("=")
        if name not in LAB_ROLES or not spec:
            raise ConfigError(
                f"--role {item!r}; roles: {', '.join(LAB_ROLES)}", next="write --role planner=MODEL"
            )
        named[name] = located_role(name, spec, here)
    return named


def _check_papers(order: Any, config: Config) -> None:
    if order.papers and "researcher" not in lab_fillers(order, config):
        raise ConfigError(
            "--papers: the researcher is an algorithm, which reads no papers",
            next="give it a model: --role researcher=MODEL",
        )


def _mention_fillers(order: Any, config: Config) -> None:
    """Also that a file which came with the study chose a model."""
    for role, filler in lab_fillers(order, config).items():
        err.print(f"{role}: {plain(filler.spec)} ({plain(filler.source)})", markup=False)


def _mention_unfinished(runtime: Runtime, study: Path) -> None:
    from manyhands.teams.lab.view import runs_of  # noqa: PLC0415 - optional extra

    for info in runs_of(runtime, study):
        if info.status in (Status.INTERRUPTED, Status.RUNNING, Status.BLOCKED):
            err.print(
                f"[yellow]note[/] run {info.run_id} of this study is {info.status} "
                f"(manyhands lab {'status' if info.status is Status.RUNNING else 'resume'} "
                f"{info.run_id}); this is a new run"
            )
            return


async def _watch(
    runtime: Runtime, handle: RunHandle, total: int, as_json: bool, track: str = ""
) -> None:
    from manyhands.cli.progress import StudyProgress  # noqa: PLC0415 - optional extra

    if not as_json:
        out.print(f"run [bold]{handle.run_id}[/] · Ctrl-C leaves it resumable")
        tell_where(handle.run_id)
    with StudyProgress(runtime, handle.run_id, total, quiet=as_json) as progress:
        follow = beside(progress.follow(), runtime, handle.run_id, track)
        outcome: dict[str, Any] = await result_of(handle, follow, "manyhands lab resume")
    if as_json:
        print_json(outcome)
    else:
        _print_outcome(runtime, handle.run_id, outcome)


def _print_outcome(runtime: Runtime, run_id: str, outcome: dict[str, Any]) -> None:
    from manyhands.teams.lab.view import read_lab  # noqa: PLC0415 - optional extra

    view = read_lab(runtime, run_id)
    out.print()
    _experiments_table(view)
    out.print()
    out.print(outcome["headline"], markup=False)
    shown = [("ledger", outcome["ledger"]), *(("plot", p) for p in outcome["plots"])]
    shown += [("report", outcome["report"]), ("branch", outcome["branch"])]
    for name, where in shown:
        if where:
            out.print(f"  {name:<7} {where}", markup=False, soft_wrap=True)
    out.print(f"→ {outcome['next']}", markup=False, soft_wrap=True)


def _experiments_table(view: Any) -> None:
    from rich.text import Text  # noqa: PLC0415

    from manyhands.cli.progress import mark_of  # noqa: PLC0415 - optional extra

    table(
        ["experiment", "verdict", ">screened", ">gain", ">pairs", ">p", ">holdout", "hypothesis"],
        [
            (
                e.id,
                Text.from_markup(mark_of(e)),
                _signed(e.screen_gain),
                _signed(e.decision.gain) if e.decision and e.decision.pairs else "",
                e.decision.pairs if e.decision else "",
                f"{e.decision.p_value:.2g}" if e.decision and e.decision.pairs else "",
                _signed(e.holdout_gain),
                plain(e.hypothesis.title)[:60],
            )
            for e in view.experiments
        ],
    )


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The repository, or a folder in one.")],
    edit: Annotated[
        list[str] | None, typer.Option("--edit", help="A file that may be edited. Repeatable.")
    ] = None,
    train: Annotated[str | None, typer.Option(help="The training command.")] = None,
    metric: Annotated[str | None, typer.Option(help="The metric's name.")] = None,
    direction: Annotated[str | None, typer.Option(help="lower or higher is better.")] = None,
    evaluate: Annotated[str | None, typer.Option(help="The evaluator command.")] = None,
    runs: Annotated[int | None, typer.Option(help="Training runs in all.", min=1)] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take what fits.")] = False,
    patch: Annotated[
        bool, typer.Option("--patch", help="Also apply the patch to the training script.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write a study for an existing repository. Asks, or takes flags; autoresearch is recognised.

    Examples:

    `manyhands lab init .`

    `manyhands lab init ~/autoresearch --yes --patch`
    """
    from manyhands.teams.lab.scaffold import (  # noqa: PLC0415 - optional extra
        answer,
        inspect_repository,
        write_study,
    )

    proposal = inspect_repository(
        folder,
        edit=tuple(edit) if edit else None,
        train=train,
        metric=metric,
        direction=direction,
        evaluate=evaluate,
        runs=runs,
    )
    out.print(f"{folder}: {proposal.kind} repository", markup=False)
    if not yes:
        proposal = answer(proposal, lambda question, default: typer.prompt(question, default))
    if proposal.patch and not patch:
        out.print("training does not leave its model behind yet; this patch makes it do so:")
        out.print(proposal.patch, markup=False)
        patch = not yes and typer.confirm("Apply it?", default=False)
    for path in write_study(folder, proposal, force=force, patch=patch):
        out.print(f"wrote {path}", markup=False, soft_wrap=True)
    for thing in proposal.still_open(patched=patch):
        out.print(f"still to do: {thing}", markup=False)
    out.print(f"→ commit, then: manyhands lab run {folder}", markup=False)


@app.command()
def resume(
    study: Study,
    job_usd: JobUsd = None,
    campaign_usd: CampaignUsd = None,
    silence: Silence = None,
    job: JobOptions = None,
    record: Record = None,
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a study's run that was interrupted, killed or halted, with new limits if need be.

    Examples:

    `manyhands lab resume examples/tinylm`

    `manyhands lab resume lab-1a2b3c4d --campaign-usd 40 --job queue_seconds=7200`
    """
    flags = job_flags(job_usd=job_usd, campaign_usd=campaign_usd, silence=silence)
    from manyhands.teams.lab.view import find_run, read_lab  # noqa: PLC0415 - optional extra

    async def work() -> None:
        with taped(load_config(Path.cwd()), record, None) as tape:
            await go_on(tape)

    async def go_on(tape: Tape | None) -> None:
        async with runtime_of(journal, tape) as runtime:
            info = find_run(runtime, study)
            run_id_of(tape, info.run_id, LAB)
            await _change_limits(runtime, info.run_id, job or [], flags)
            total = read_lab(runtime, info.run_id).manifest.get("runs", 0)
            handle = await runtime.resume(info.run_id)
            await _watch(runtime, handle, total, as_json)

    go(work())


async def _change_limits(
    runtime: Runtime, run_id: str, options: list[str], flags: dict[str, Any]
) -> None:
    from manyhands.teams.lab.state import Order  # noqa: PLC0415 - optional extra

    state = runtime.view(run_id)
    assert state.input is not None
    order = Order.model_validate(runtime.value(state.input))
    await change_limits(runtime, run_id, order, options, flags)


@app.command()
def stop(study: Study, journal: Journal = None) -> None:
    """Ask a running study to wrap up: what is in flight ends, the report is written, all is kept.

    Example: `manyhands lab stop examples/tinylm`
    """
    from manyhands.teams.lab.view import find_run  # noqa: PLC0415 - optional extra

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            info = find_run(runtime, study)
            await runtime.command(info.run_id, "stop", decided_on=runtime.view(info.run_id).seq)
            out.print(f"{info.run_id} will wrap up after its present round")
            if info.status is not Status.RUNNING:
                out.print(f"→ manyhands lab resume {info.run_id}", markup=False)

    go(work())


@app.command("status")
def show_status(study: Study, journal: Journal = None, as_json: AsJson = False) -> None:
    """Where a study's run stands: runs, experiments, master, what runs now, anomalies.

    Example: `manyhands lab status examples/tinylm --json`
    """
    from manyhands.teams.lab.closing import status_of  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.view import find_run, read_lab  # noqa: PLC0415 - optional extra

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            info = find_run(runtime, study)
            view = read_lab(runtime, info.run_id)
            found = {"run": info.run_id, "status": str(info.status)} | status_of(view, time.time())
            if as_json:
                print_json(found)
                return
            out.print(status(info.status), f"[bold]{info.run_id}[/] · began {ago(info.created_at)}")
            for name, value in found.items():
                if name not in ("run", "status") and value not in ([], {}, None):
                    out.print(f"  {name.replace('_', ' '):<22} {_short(value)}", markup=False)

    go(work())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_short(v)}" for k, v in value.items())  # type: ignore[misc]
    if isinstance(value, list):
        return "; ".join(_short(v) for v in value)  # type: ignore[misc]
    return plain(value)


@app.command()
def queue(study: Study, journal: Journal = None, as_json: AsJson = False) -> None:
    """The ranked queue: what waits (by expected gain per run), what was refused and why.

    Example: `manyhands lab queue examples/tinylm`
    """
    from manyhands.teams.lab.view import find_run, read_lab  # noqa: PLC0415 - optional extra

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            view = read_lab(runtime, find_run(runtime, study).run_id)
            refused = [r for r in view.reviews.values() if not r.accepted]
            if as_json:
                print_json(
                    {
                        "waiting": [
                            h.model_dump(mode="json")
                            | {"new": view.reviews[h.id].new if h.id in view.reviews else ""}
                            for h in view.queue
                        ],
                        "refused": [r.model_dump(mode="json") for r in refused],
                    }
                )
                return
            table(
                [">rank", "id", "hypothesis", ">expected", ">runs", "not a duplicate"],
                [
                    (
                        h.rank,
                        h.id,
                        h.title,
                        _signed(h.expected_gain),
                        f"{h.expected_cost:g}",
                        view.reviews[h.id].new if h.id in view.reviews else "",
                    )
                    for h in view.queue
                ],
            )
            if not view.queue:
                out.print("nothing waits")
            for review in refused:
                out.print(
                    f"refused {review.hypothesis}: {review.rule}: {plain(review.reason)}",
                    markup=False,
                )

    go(work())


@app.command()
def ledger(
    study: Study,
    last: Annotated[int, typer.Option(help="Only the newest N rows (0: all).", min=0)] = 0,
    tsv: Annotated[bool, typer.Option("--tsv", help="Print results.tsv.")] = False,
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """The ledger: one row per run. `--tsv` prints it as results.tsv.

    Example: `manyhands lab ledger examples/tinylm --tsv > results.tsv`
    """
    from manyhands.teams.lab.ledger import (  # noqa: PLC0415 - optional extra
        ledger_table,
        to_json,
        to_tsv,
    )
    from manyhands.teams.lab.view import find_run, read_lab  # noqa: PLC0415 - optional extra

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            view = read_lab(runtime, find_run(runtime, study).run_id)
            rows = view.rows[-last:] if last else view.rows
            metric = view.config.metric.name if view.config else "metric"
            if as_json:
                typer.echo(to_json(rows), nl=False)
            elif tsv:
                typer.echo(to_tsv(rows, metric=metric), nl=False)
            else:
                typer.echo(ledger_table(rows, width=out.width))

    go(work())


@app.command()
def report(
    study: Study,
    file: Annotated[Path | None, typer.Option("--out", "-o", help="Default: in the study.")] = None,
    journal: Journal = None,
) -> None:
    """Write the report of a run, finished or not: one self-contained HTML file, and the plots.

    Example: `manyhands lab report examples/tinylm -o report.html`
    """
    from manyhands.teams.lab.closing import (  # noqa: PLC0415 - optional extra
        facts,
        report_folder,
        write_report,
    )
    from manyhands.teams.lab.view import find_run, read_lab  # noqa: PLC0415 - optional extra

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            info = find_run(runtime, study)
            view = read_lab(runtime, info.run_id)
            if view.config is None:
                raise ConfigError(
                    f"run {info.run_id} has not begun its study yet", next="wait for its baseline"
                )
            now = time.time()
            told = view.outcome["text"] if view.outcome else facts(view, now)
            state = str(info.status)
            for path in write_report(view, report_folder(view), told, now, state, file):
                out.print(str(path), markup=False, soft_wrap=True)

    go(work())


@app.command()
def audit(
    file: Annotated[Path, typer.Argument(help="results.tsv, or a JSON list of experiments.")],
    noise: Annotated[
        float | None, typer.Option(help="Standard deviation of one run, where it is known.", min=0)
    ] = None,
    direction: Annotated[str, typer.Option(help="lower or higher is better.")] = "lower",
    as_json: AsJson = False,
) -> None:
    """Say of every promotion in somebody's ledger whether the numbers support it.

    Example: `manyhands lab audit results.tsv --noise 0.0004`
    """
    from manyhands.teams.lab.audit import audit as audit_file  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.audit import render  # noqa: PLC0415 - optional extra

    found = audit_file(file, noise, direction=direction)  # type: ignore[arg-type]
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        typer.echo(render(found))


@app.command()
def power(
    alpha: Annotated[float, typer.Option(help="Error rate of one decision.")] = 0.05,
    max_pairs: Annotated[int | None, typer.Option(help="Cap on repeats.")] = None,
    candidates: Annotated[int, typer.Option(help="Simulated decisions per row.", min=10)] = 1000,
    as_json: AsJson = False,
) -> None:
    """Simulate the promotion test: how often it promotes nothing, and finds what is there.

    Example: `manyhands lab power --alpha 0.01`
    """
    from manyhands.teams.lab.gate import GateSettings  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.noise import (  # noqa: PLC0415 - optional extra
        power_table,
        render_power,
    )

    settings = (
        GateSettings(alpha=alpha)
        if max_pairs is None
        else GateSettings(alpha=alpha, max_pairs=max_pairs)
    )
    rows = power_table(settings, candidates=candidates)
    if as_json:
        print_json(rows)
        return
    typer.echo(render_power(rows))
