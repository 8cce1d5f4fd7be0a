"""Configuration to objects: the only package that names adapters.

The lab's parts belong to the extra ``manyhands[lab]``; they are imported where they are asked for,
so that ``manyhands runs`` works, and starts fast, without them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from manyhands.adapters.models.discovery import USUAL_PORTS, CachedFile, ServedModel, Server
from manyhands.adapters.models.embedded_download import Progress as Download
from manyhands.adapters.models.of_run import ModelOfRun
from manyhands.adapters.models.probe import Check, Found, Probe, probe
from manyhands.agents.role import HUMAN
from manyhands.config import MANNERS, PLANNERS, Config, RoleSpec, home, role_spec
from manyhands.errors import ConfigError, RoleError
from manyhands.ports import JobRunner, Model, PaperIndex
from manyhands.runtime import Run, Runtime, SkippingClock, Workflow
from manyhands.wiring.answer import answer_workflow
from manyhands.wiring.code import code_workflow
from manyhands.wiring.listing import Assigned, Listed, assigned, configured
from manyhands.wiring.machine import (
    PROBE,
    Machine,
    Way,
    look_around,
    need_model,
    spec_for,
    ways,
    ways_told,
)
from manyhands.wiring.models import Address, Endpoints, address_of, make_model
from manyhands.wiring.roles import LAB_ROLES, check_roles
from manyhands.wiring.tapes import Recording, Replay, Tape, open_tape, secrets_known

if TYPE_CHECKING:
    from manyhands.teams.lab.cast import Cast
    from manyhands.teams.lab.hybrid import Manner
    from manyhands.teams.lab.samplers import Kind
    from manyhands.teams.lab.state import Order, Pool

__all__ = [
    "JOBS",
    "LAB",
    "LAB_ROLES",
    "PROBE",
    "RACE",
    "USUAL_PORTS",
    "Address",
    "Assigned",
    "CachedFile",
    "Check",
    "Download",
    "Endpoints",
    "Filler",
    "Found",
    "Listed",
    "Machine",
    "Pools",
    "Probe",
    "Recording",
    "Replay",
    "ServedModel",
    "Server",
    "Tape",
    "Way",
    "address_of",
    "answer_workflow",
    "assigned",
    "cast_of",
    "code_workflow",
    "configured",
    "job_runner",
    "journal_url",
    "lab_fillers",
    "lab_workflow",
    "look_around",
    "make_model",
    "models_of",
    "need_model",
    "open_runtime",
    "open_tape",
    "planning_of",
    "probe",
    "race_workflow",
    "secrets_known",
    "spec_for",
    "ways",
    "ways_told",
]

LAB, RACE = "lab", "race"
#: What a ``set`` command is about that changes the limits of a study's jobs.
JOBS = "jobs"
_USUAL = RoleSpec("")


@dataclass(frozen=True, slots=True)
class Common:
    """What the arms of a race share: their slots, and one runner, so that a limit of money is that
    of all of them."""

    pool: Pool
    jobs: JobRunner


#: Race -> what its arms share.
Pools = dict[str, Common]


def journal_url(config: Config, named: str | None = None) -> str:
    """The journal to use: the one named, the configured one, or the user's own."""
    return named or config.journal or str(home() / "journal.db")


def open_runtime(config: Config, journal: str | None = None, tape: Tape | None = None) -> Runtime:
    """The runtime with every workflow that can be resumed here. A replay does not wait."""
    pools: Pools = {}
    return Runtime.open(
        journal_url(config, journal),
        workflows=[
            lab_workflow(config, tape=tape, pools=pools),
            race_workflow(pools=pools),
            answer_workflow(config, tape=tape),
            code_workflow(config, tape=tape),
        ],
        clock=SkippingClock() if isinstance(tape, Replay) else None,
        secrets=secrets_known(config),
    )


async def job_runner(order: Order) -> JobRunner:
    """Where the order's jobs run. Raises `JobError` for a machine that is not to be had."""
    from manyhands.wiring.jobs import runner_of  # noqa: PLC0415 - optional extra

    return await runner_of(order)


def lab_workflow(
    config: Config,
    *,
    models: Mapping[str, Model | Sequence[Model]] | None = None,
    jobs: JobRunner | None = None,
    tape: Tape | None = None,
    pools: Pools | None = None,
) -> Workflow:
    """The lab. ``models``: role -> model (or several, to be tried in order), instead of what the
    order names (tests, notebooks). Its runs share their endpoints, and the ``tape`` that these are
    recorded to or replayed from; those of a race its slots and its jobs' runner, by ``pools``."""
    endpoints = Endpoints(config, tape)
    shared = {} if pools is None else pools

    async def run_lab(run: Run, order: object) -> object:
        from manyhands.teams.lab.state import Order  # noqa: PLC0415 - optional extra
        from manyhands.teams.lab.team import lab  # noqa: PLC0415 - optional extra

        asked = Order.model_validate(order).with_limits(run.settings(JOBS))
        async with endpoints, papers_for(asked, config) as papers:
            if models is None:
                made = await models_of(asked, config, endpoints)
            else:
                made = _tuples(models)
            if asked.race:
                made = {r: tuple(ModelOfRun(m, run.id) for m in each) for r, each in made.items()}
            filled = cast_of(asked, made, papers, planning_of(asked, config))
            common = shared.get(asked.race)
            runner = common.jobs if common else jobs or await job_runner(asked)
            pool = common.pool if common else None
            return await lab(run, asked, jobs=runner, cast=filled, pool=pool)

    return Workflow(LAB, run_lab)


def race_workflow(*, jobs: JobRunner | None = None, pools: Pools) -> Workflow:
    """Several labs under one roof; ``pools`` are those of the `lab_workflow` that runs its arms."""

    async def run_race(run: Run, order: object) -> object:
        from manyhands.teams.lab.algorithms import cast_of_algorithms  # noqa: PLC0415 - extra
        from manyhands.teams.lab.race import own_order, race  # noqa: PLC0415 - optional extra
        from manyhands.teams.lab.race_records import RaceOrder  # noqa: PLC0415 - optional extra
        from manyhands.teams.lab.state import Pool  # noqa: PLC0415 - optional extra
        from manyhands.teams.lab.study import load_study  # noqa: PLC0415 - optional extra

        asked = RaceOrder.model_validate(order)
        pool = Pool(asked.slots or load_study(Path(asked.study)).slot_count)
        limited = asked.with_limits(run.settings(JOBS))
        runner = jobs or await job_runner(own_order(limited, run.id))
        pools[run.id] = Common(pool, runner)
        try:
            cast = cast_of_algorithms(asked.seed)
            return await race(run, asked, jobs=runner, cast=cast, pool=pool)
        finally:
            del pools[run.id]

    return Workflow(RACE, run_race)


@dataclass(frozen=True, slots=True)
class Filler:
    """What fills a role, and who says so. ``own`` False: a file that came with the study."""

    spec: str
    source: str
    own: bool = True


def lab_fillers(order: Order, config: Config) -> dict[str, Filler]:
    """Role -> its model, for the roles that have one. Raises `ConfigError` for a role that is not
    one."""
    return {
        name: f for name, f in _fillers(order, config).items() if role_spec(name, f.spec).models
    }


def planning_of(order: Order, config: Config) -> RoleSpec:
    """Which algorithm plans, or how a model does."""
    filler = _fillers(order, config).get("planner")
    return role_spec("planner", filler.spec) if filler else RoleSpec("")


def _fillers(order: Order, config: Config) -> dict[str, Filler]:
    """What the order names (``--role``, ``--model``) goes before ``[roles]``, and that before a
    role file's own ``model``; ``algorithm`` says none."""
    from manyhands.teams.lab.agents import roles_of  # noqa: PLC0415 - optional extra

    roles = roles_of(Path(order.study))
    check_roles(config)
    for role in order.models:
        if role not in roles:
            raise ConfigError(
                f"there is no role {role!r}; roles: {', '.join(sorted(roles))}",
                next="correct the order",
            )
    found = {
        name: Filler(role.model, str(role.source), own=False)
        for name, role in roles.items()
        if role.model
    }
    mine = {name: spec for name, spec in config.roles.items() if name in roles}
    found |= {name: Filler(spec, "manyhands.toml") for name, spec in mine.items()}
    return found | {name: Filler(spec, "the command") for name, spec in order.models.items()}


async def models_of(
    order: Order, config: Config, endpoints: Endpoints
) -> dict[str, tuple[Model, ...]]:
    """Role -> models to be tried in order, for the roles of `lab_fillers`.

    Where a role's own file names a model that there is not, the error says how to get one.
    """
    made: dict[str, tuple[Model, ...]] = {}
    for role, filler in lab_fillers(order, config).items():
        try:
            models = role_spec(role, filler.spec).models
            made[role] = endpoints.models(models, own_key=filler.own)
        except ConfigError as error:
            if filler.own:
                raise
            told = ways_told(await look_around(), f"manyhands lab run . --role {role}={{}}")
            raise RoleError(
                f"{filler.source}: model: {error.what}", next=f"{error.next}\n{told}"
            ) from error
    return made


@asynccontextmanager
async def papers_for(order: Order, config: Config) -> AsyncGenerator[PaperIndex | None]:
    """The source that the order names, else the study; None: there is none.

    A study's own folder lies inside of it: a file that came with a study opens no other.
    """
    from manyhands.teams.lab.study import load_study  # noqa: PLC0415 - optional extra
    from manyhands.wiring.papers import located_papers, papers_of  # noqa: PLC0415 - starts slower

    source = order.papers
    if not source:
        study = load_study(Path(order.study))
        named = study.config.papers.source
        source = located_papers(named, study.dir) if named else ""
        if Path(source).is_absolute() and not Path(source).is_relative_to(study.dir):
            raise ConfigError(
                f"{study.dir}: papers.source names {source}, which is outside of the study",
                next=f"give --papers {source}, or move the folder into the study",
            )
    if not source:
        yield None
        return
    async with papers_of(source, config) as index:
        yield index


def cast_of(
    order: Order,
    models: Mapping[str, Sequence[Model]],
    papers: PaperIndex | None = None,
    planning: RoleSpec = _USUAL,
) -> Cast:
    """Algorithms in every role but those that have a model. ``planning``: see `planning_of`; a
    person plans alone, unless it says otherwise."""
    from manyhands.teams.lab.agents import with_models  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.algorithms import cast_of_algorithms  # noqa: PLC0415 - optional extra

    planners = models.get("planner", ())
    usual = "single" if planners and planners[0].name == HUMAN else MANNERS[0]
    kind, manner = planning.how or PLANNERS[0], usual
    if planning.models:
        kind, manner = PLANNERS[0], planning.how or usual
    return with_models(
        cast_of_algorithms(order.seed, cast("Kind", kind)),
        models,
        Path(order.study),
        papers,
        manner=cast("Manner", manner),
        seed=order.seed,
    )


def _tuples(models: Mapping[str, Model | Sequence[Model]]) -> dict[str, tuple[Model, ...]]:
    return {
        role: tuple(each) if isinstance(each, Sequence) else (each,)
        for role, each in models.items()
    }
