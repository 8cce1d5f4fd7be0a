"""`manyhands lab race`: ways to fill the roles against each other, under equal budgets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from manyhands.cli.following import tell_where
from manyhands.cli.lab_jobs import change_limits, check_jobs, job_flags, ordered_jobs
from manyhands.cli.lab_options import (
    Cache,
    CampaignUsd,
    Flavor,
    Image,
    JobOptions,
    Jobs,
    JobUsd,
    Packages,
    Silence,
    Slots,
    StudyFolder,
    UsdPerMinute,
)
from manyhands.cli.models import fetch
from manyhands.cli.printing import out, plain, print_json, table
from manyhands.cli.runs import (
    MODEL_FORMS,
    AsJson,
    Journal,
    NewId,
    Resumed,
    go,
    result_of,
    runtime_of,
)
from manyhands.cli.tapes import Record, ReplayFrom, check_apart, journal_of, run_id_of, taped
from manyhands.config import Config, load_config, located_text
from manyhands.errors import ChildrenFailed, ConfigError
from manyhands.runtime import RunHandle, Runtime, Status
from manyhands.wiring import RACE, Endpoints, Tape, models_of

Arms = Annotated[
    str,
    typer.Option(
        help="Two or more, with commas: random, tpe, cmaes, single:MODEL, advised:MODEL, "
        f"hybrid:MODEL, team:MODEL. MODEL: {MODEL_FORMS.partition(' Several')[0]}"
    ),
]
Seeds = Annotated[int, typer.Option(help="How often each arm runs, each time with a seed.", min=1)]
Budgeted = Annotated[
    str,
    typer.Option(
        metavar="LIMITS",
        help="Of each arm at each seed: runs=N, tokens=N, usd=X, with commas. Runs not named: the "
        "study's own.",
    ),
]
Judges = Annotated[
    int, typer.Option(help="Fresh seeds on which all masters are measured at the end.", min=2)
]


def race(
    study: StudyFolder,
    arms: Arms = "random,tpe,cmaes",
    seeds: Seeds = 5,
    budget: Budgeted = "",
    judges: Judges = 8,
    slots: Slots = None,
    seed: Annotated[int, typer.Option(help="The first seed.", min=0)] = 1,
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
    run_id: NewId = None,
    resume: Resumed = "",
    record: Record = None,
    replay: ReplayFrom = None,
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """Let several planners, models and teams run one study, each for itself, and compare them.

    Every arm has its own masters under the same budget; at the end all masters are measured on
    fresh common seeds beside the baseline, and the arms are tested against each other by seed.

    Examples:

    `manyhands lab race examples/tinylm --seeds 10 --budget runs=60`

    `manyhands lab race . --arms tpe,single:ollama:qwen3:8b,hybrid:ollama:qwen3:8b --seeds 8`

    `manyhands lab race . --arms random,team:hf:Qwen/Qwen3-32B --budget runs=80,usd=2 --slots 4`

    `manyhands lab race . --jobs hf --flavor a10g-small --with torch --slots 16 --campaign-usd 50`

    `manyhands lab race . --arms tpe,single:ollama:qwen3:8b --record ../race.jsonl`

    `manyhands lab race . --resume race-1a2b3c4d`

    `manyhands lab race . --resume race-1a2b3c4d --campaign-usd 80`

    An arm that fails ends no other: the report is written, the exit code is 5, and --resume tries
    that arm again.
    """
    flags = job_flags(flavor, image, packages, job_usd, campaign_usd, usd_per_minute, silence)
    if resume:
        _check_new(("--jobs", jobs), ("--cache", cache), ("--replay", replay))
        go(_resumed(resume, job or [], flags, record, journal, as_json))
        return
    given: dict[str, Any] = {"seeds": seeds, "seed": seed, "slots": slots, "judges": judges}
    given |= ordered_jobs(load_config(Path.cwd()), jobs, job or [], flags, cache)
    loaded, order = _ordered(study, arms, given | limits(budget))
    go(_begun(loaded, order, run_id, (record, replay, journal), as_json))


def _check_new(*options: tuple[str, object]) -> None:
    """Raises `ConfigError` for what only a new race can have."""
    for option, given in options:
        if given:
            raise ConfigError(
                f"{option} cannot change while a race goes on: its runs would not be comparable",
                next="leave it out, or begin a new race",
            )


def limits(text: str) -> dict[str, float]:
    """``runs=60,usd=2`` as numbers. Raises `ConfigError`."""
    found: dict[str, float] = {}
    kinds = {"runs": int, "tokens": int, "usd": float}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, _, value = part.partition("=")
        try:
            found[name] = kinds[name](value.replace("_", ""))
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"--budget {part!r}", next="write --budget runs=60, or runs=60,tokens=200000,usd=2"
            ) from error
    return found


def _ordered(study: Path, arms: str, given: dict[str, Any]) -> tuple[Any, Any]:
    """The study, and an order of which every arm can be carried out."""
    from pydantic import ValidationError  # noqa: PLC0415

    from manyhands.teams.lab.opening import check_order  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.race import check_race, order_of  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.race_records import RaceOrder  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.study import load_study  # noqa: PLC0415 - optional extra

    loaded = load_study(study)
    named = tuple(_located(arm.strip()) for arm in arms.split(",") if arm.strip())
    try:
        order = RaceOrder(study=str(loaded.dir), arms=named, **given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{where}: {first['msg']}", next="see lab race --help") from error
    check_race(order)
    check_order(loaded, order_of(order, "race", named[0], order.seed))
    return loaded, order


def _located(arm: str) -> str:
    """With a local file's path made absolute, for a resume from anywhere."""
    how, colon, model = arm.partition(":")
    return f"{how}:{located_text(model, Path.cwd())}" if colon and model else arm


async def _begun(
    loaded: Any,
    order: Any,
    run_id: str | None,
    kept: tuple[Path | None, Path | None, str | None],
    as_json: bool,
) -> None:
    """Run it. ``kept``: what to record to, what to replay, and the journal."""
    from manyhands.teams.lab.opening import check_clean  # noqa: PLC0415 - optional extra

    record, replay, journal = kept
    await check_clean(loaded)
    await _check_jobs(order)
    config = load_config(Path.cwd())
    with taped(config, record, replay) as tape:
        await _check_models(order, config, tape)
        id = run_id_of(tape, run_id, RACE)
        _check_apart(tape, loaded, order, id)
        with journal_of(tape, journal) as url:
            async with runtime_of(url, tape) as runtime:
                handle = await runtime.start(runtime.workflow(RACE), order, run_id=id)
                await _watch(runtime, handle, order, as_json)


def _check_apart(tape: Tape | None, loaded: Any, order: Any, id: str | None) -> None:
    from manyhands.teams.lab.race import lane_ids  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.state import FOLDER  # noqa: PLC0415 - optional extra

    if id is not None:
        for each in (id, *lane_ids(id, order)):
            check_apart(tape, loaded.dir / FOLDER, each)


async def _check_models(order: Any, config: Config, tape: Tape | None) -> None:
    """Every model is there, and fetched, before the first run."""
    from manyhands.teams.lab.race import order_of  # noqa: PLC0415 - optional extra

    async with Endpoints(config, tape) as endpoints:
        for arm in order.arms:
            await models_of(order_of(order, "race", arm, order.seed), config, endpoints)
        await fetch(endpoints)


async def _check_jobs(order: Any) -> None:
    from manyhands.teams.lab.race import own_order  # noqa: PLC0415 - optional extra

    await check_jobs(own_order(order, "race"))


async def _resumed(
    run_id: str,
    options: list[str],
    flags: dict[str, Any],
    record: Path | None,
    journal: str | None,
    as_json: bool,
) -> None:
    from manyhands.teams.lab.race_records import RaceOrder  # noqa: PLC0415 - optional extra

    with taped(load_config(Path.cwd()), record, None) as tape:
        async with runtime_of(journal, tape) as runtime:
            first = next(runtime.journal.events(run_id, before=2), None)
            if first is None or first.data.get("workflow") != RACE:
                raise ConfigError(f"run {run_id!r} is no race", next="see `manyhands runs`")
            run_id_of(tape, run_id, RACE)
            order = RaceOrder.model_validate(runtime.value(first))
            await change_limits(runtime, run_id, order, options, flags)
            handle = await go_on(runtime, run_id)
            await _watch(runtime, handle, order, as_json)


async def go_on(runtime: Runtime, run_id: str) -> RunHandle:
    """Of a race that has failed, the arms that ended it are tried again."""
    failed = runtime.view(run_id).status is Status.FAILED
    return await runtime.resume(run_id, retry_ending=failed)


async def _watch(runtime: Runtime, handle: RunHandle, order: Any, as_json: bool) -> None:
    from manyhands.cli.race_progress import RaceProgress  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.race_records import RaceOutcome  # noqa: PLC0415 - optional extra

    if not as_json:
        out.print(f"race [bold]{handle.run_id}[/] · Ctrl-C leaves it resumable")
        tell_where(handle.run_id)
    failed: ChildrenFailed | None = None
    with RaceProgress(runtime, handle.run_id, order, quiet=as_json) as progress:
        try:
            told = await result_of(handle, progress.follow(), "manyhands lab race . --resume")
        except ChildrenFailed as error:  # it has a report none the less
            failed, told = error, _newest(runtime, handle.run_id)
    outcome = RaceOutcome.model_validate(told)
    if as_json:
        print_json(_facts(outcome, handle.run_id))
    else:
        await asyncio.to_thread(_print, outcome)
    if failed is not None:
        raise failed


def _newest(runtime: Runtime, run_id: str) -> Any:
    """What a race has told last."""
    told = [e.data for e in runtime.journal.events(run_id) if e.type == "lab:race"]
    return told[-1]


def _facts(outcome: Any, race: str) -> dict[str, Any]:
    """For programs: the outcome, and what follows from it."""
    from manyhands.teams.lab.race_page import (  # noqa: PLC0415 - optional extra
        failed_next,
        standings,
        verdict,
    )

    ranked = [
        {name: getattr(s, name) for name in s.__dataclass_fields__} for s in standings(outcome)
    ]
    told: dict[str, Any] = outcome.model_dump(mode="json")
    failed = [
        {"arm": x.arm, "seed": x.seed, "run": x.run, "why": x.state, "resumable": x.resumable}
        for x in outcome.failed
    ]
    about = {"race": race, "verdict": verdict(outcome), "standings": ranked, "failed": failed}
    return about | ({"next": failed_next(outcome, race)} if failed else {}) | told


def _print(outcome: Any) -> None:
    from manyhands.teams.lab.race_page import (  # noqa: PLC0415 - optional extra
        budget_told,
        rows_of,
        verdict,
    )

    rows = rows_of(outcome)
    shown = {"gain": "gain", "interval": "95 %", "holdout": "holdout", "runs": "runs"}
    shown |= {"time": "training"}
    paid = {"tokens": "tokens", "usd": "usd"}
    shown |= {name: word for name, word in paid.items() if any(r[name] != "none" for r in rows)}
    out.print()
    table(
        ["arm", *(f">{word}" for word in shown.values())],
        [(_short(row["arm"]), *(row[name] for name in shown)) for row in rows],
    )
    for row in rows:
        if row["failed"]:
            out.print(f"{plain(row['arm'])}: {row['failed']}", markup=False)
    _print_tests(outcome)
    out.print()
    out.print(verdict(outcome), markup=False)
    seeds = f"{outcome.seeds} seed{'s' * (outcome.seeds > 1)}"
    out.print(
        f"{seeds}, each arm with {budget_told(outcome)}; gains judged on {outcome.judges} fresh "
        f"common seeds ({outcome.judged} runs more)",
        markup=False,
    )
    out.print(f"  report  {outcome.report}", markup=False, soft_wrap=True)
    for path in outcome.plots:
        out.print(f"  plot    {path}", markup=False, soft_wrap=True)


def _short(arm: str) -> str:
    """Both ends of a long name: how it plans, and the model's own name."""
    name = plain(arm)
    return name if len(name) <= 18 else f"{name[:7]}…{name[-10:]}"


def _print_tests(outcome: Any) -> None:
    if not outcome.comparisons:
        return
    out.print()
    table(
        ["better", "other", ">won", ">median", ">p", ">p, Holm"],
        [
            (
                _short(c.better),
                _short(c.other),
                f"{c.wins} of {c.pairs}",
                f"{c.difference:+.4g}",
                f"{c.p_value:.2g}",
                f"{c.corrected:.2g}",
            )
            for c in outcome.comparisons
        ],
    )
