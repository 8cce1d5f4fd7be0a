"""Configuration to objects: the only package that names adapters.

The lab's parts belong to the extra ``manyhands[lab]``; they are imported where they are asked for,
so that ``manyhands runs`` works, and starts fast, without them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from manyhands.adapters.models.discovery import USUAL_PORTS, CachedFile, ServedModel, Server
from manyhands.adapters.models.embedded_download import Progress as Download
from manyhands.adapters.models.probe import Check, Found, Probe, probe
from manyhands.config import ALGORITHM, Config, home
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
    from manyhands.teams.lab.state import Order

__all__ = [
    "JOBS",
    "LAB",
    "LAB_ROLES",
    "PROBE",
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
    "probe",
    "secrets_known",
    "spec_for",
    "ways",
    "ways_told",
]

LAB = "lab"
#: What a ``set`` command is about that changes the limits of a study's jobs.
JOBS = "jobs"


def journal_url(config: Config, named: str | None = None) -> str:
    """The journal to use: the one named, the configured one, or the user's own."""
    return named or config.journal or str(home() / "journal.db")


def open_runtime(config: Config, journal: str | None = None, tape: Tape | None = None) -> Runtime:
    """The runtime with every workflow that can be resumed here. A replay does not wait."""
    return Runtime.open(
        journal_url(config, journal),
        workflows=[
            lab_workflow(config, tape=tape),
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
) -> Workflow:
    """The lab. ``models``: role -> model (or several, to be tried in order), instead of what the
    order names (tests, notebooks). Its runs share their endpoints, and the ``tape`` that these are
    recorded to or replayed from."""
    endpoints = Endpoints(config, tape)

    async def run_lab(run: Run, order: object) -> object:
        from manyhands.teams.lab.state import Order  # noqa: PLC0415 - optional extra
        from manyhands.teams.lab.team import lab  # noqa: PLC0415 - optional extra

        asked = Order.model_validate(order).with_limits(run.settings(JOBS))
        async with endpoints, papers_for(asked, config) as papers:
            if models is None:
                made = await models_of(asked, config, endpoints)
            else:
                made = _tuples(models)
            cast = cast_of(asked, made, papers)
            return await lab(run, asked, jobs=jobs or await job_runner(asked), cast=cast)

    return Workflow(LAB, run_lab)


@dataclass(frozen=True, slots=True)
class Filler:
    """What fills a role, and who says so. ``own`` False: a file that came with the study."""

    spec: str
    source: str
    own: bool = True


def lab_fillers(order: Order, config: Config) -> dict[str, Filler]:
    """Role -> its model, for the roles that have one.

    What the order names (``--role``, ``--model``) goes before ``[roles]``, and that before a role
    file's own ``model``; ``algorithm`` says none. Raises `ConfigError` for a role that is not one.
    """
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
    found |= {name: Filler(spec, "the command") for name, spec in order.models.items()}
    return {name: filler for name, filler in found.items() if filler.spec != ALGORITHM}


async def models_of(
    order: Order, config: Config, endpoints: Endpoints
) -> dict[str, tuple[Model, ...]]:
    """Role -> models to be tried in order, for the roles of `lab_fillers`.

    Where a role's own file names a model that there is not, the error says how to get one.
    """
    made: dict[str, tuple[Model, ...]] = {}
    for role, filler in lab_fillers(order, config).items():
        try:
            made[role] = endpoints.models(filler.spec, own_key=filler.own)
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
    order: Order, models: Mapping[str, Sequence[Model]], papers: PaperIndex | None = None
) -> Cast:
    """Algorithms in every role but those that have a model."""
    from manyhands.teams.lab.agents import with_models  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.algorithms import cast_of_algorithms  # noqa: PLC0415 - optional extra

    return with_models(cast_of_algorithms(order.seed), models, Path(order.study), papers)


def _tuples(models: Mapping[str, Model | Sequence[Model]]) -> dict[str, tuple[Model, ...]]:
    return {
        role: tuple(each) if isinstance(each, Sequence) else (each,)
        for role, each in models.items()
    }
