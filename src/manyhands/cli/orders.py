"""A team's order is begun, or a run of it resumed, and watched to its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhands.cli.models import fetch
from manyhands.cli.runs import runtime_of
from manyhands.cli.tapes import journal_of, run_id_of, taped
from manyhands.config import Config, load_config
from manyhands.errors import ConfigError
from manyhands.runtime import Budget, RunHandle, Runtime, Workflow
from manyhands.wiring import Endpoints, Tape

#: Shows a run until it ends.
Watch = Callable[[Runtime, RunHandle], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Team:
    """``name``: of its workflow. ``models``: finds the models of an order, or raises `ConfigError`
    that says how to get one. ``apart``: refuses what a replay would write over."""

    name: str
    workflow: Callable[[Config, Tape | None], Workflow]
    models: Callable[[Any, Config, Endpoints], Awaitable[Any]]
    apart: Callable[[Any, Tape | None, str | None], None] = lambda order, tape, run_id: None


async def begin(
    team: Team,
    order: Any,
    watch: Watch,
    *,
    budget: Budget,
    run_id: str | None,
    record: Path | None,
    replay: Path | None,
    journal: str | None,
) -> None:
    """Models are found, and fetched, before there is a run."""
    config = load_config(Path.cwd())
    with taped(config, record, replay) as tape:
        async with Endpoints(config, tape) as endpoints:
            await team.models(order, config, endpoints)
            await fetch(endpoints)
        id = run_id_of(tape, run_id, team.name)
        team.apart(order, tape, id)
        with journal_of(tape, journal) as url:
            async with runtime_of(url, tape) as runtime:
                workflow = team.workflow(config, tape)
                await watch(runtime, await runtime.start(workflow, order, run_id=id, budget=budget))


async def resume(
    team: Team,
    run_id: str,
    watch: Watch,
    *,
    budget: Budget,
    record: Path | None,
    journal: str | None,
) -> None:
    """Raises `ConfigError` for a run of something else."""
    with taped(load_config(Path.cwd()), record, None) as tape:
        async with runtime_of(journal, tape) as runtime:
            found = runtime.view(run_id).workflow
            if found != team.name:
                raise ConfigError(
                    f"run {run_id!r} is of {found!r}, not of {team.name!r}",
                    next=f"manyhands resume {run_id}",
                )
            run_id_of(tape, run_id, team.name)
            more = budget if budget.model_dump(exclude_none=True, exclude={"units"}) else None
            await watch(runtime, await runtime.resume(run_id, budget=more))
