"""The code team's workflow: an order to a desk with models, sandboxes and a copy, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from manyhands.agents.role import Role, load_roles
from manyhands.agents.workspace.ground import Ground, Read
from manyhands.agents.workspace.tree import Tree
from manyhands.config import Config
from manyhands.errors import ConfigError
from manyhands.ports import Capabilities, Model, Sandboxes, SandboxLimits
from manyhands.runtime import Effect, Run, Workflow
from manyhands.teams.code.applying import Applied, apply_to
from manyhands.teams.code.base import Copied, copy_of, matches
from manyhands.teams.code.case import Desk
from manyhands.teams.code.ignoring import ignored_by
from manyhands.teams.code.records import (
    CoderAnswer,
    ExplorerAnswer,
    FinishAnswer,
    Order,
    Outcome,
)
from manyhands.teams.code.team import solve
from manyhands.wiring.models import Endpoints
from manyhands.wiring.roles import given_models, models_for
from manyhands.wiring.sandboxes import make_sandboxes
from manyhands.wiring.tapes import Tape

CODE = "code"
#: Where a project keeps role files of its own.
OVERRIDES = "roles/code"
#: Backends whose commands find the workspace where it is wanted, and reach nothing else.
ISOLATED = ("overlay", "copy", "docker")
PROGRAM = 'manyhands code "…" --model {}'

_ROLES = Path(__file__).parents[1] / "teams/code/roles"
_OUTPUTS = (FinishAnswer, ExplorerAnswer, CoderAnswer)
_CHECKS = ("finished", "checked")
_TOOLS = (
    *("delegate", "delegate_many", "add_context", "plan", "read_more"),
    *("read", "write", "edit", "multi_edit", "glob", "grep", "bash", "stop_background", "todo"),
)


def code_workflow(
    config: Config,
    *,
    models: Mapping[str, Model | Sequence[Model]] | None = None,
    sandboxes: Sandboxes | None = None,
    tape: Tape | None = None,
) -> Workflow:
    """The code team; its input is an `Order`.

    ``models``: role -> model ('' for all others), instead of what the order names; ``sandboxes``:
    instead of this machine's (tests, notebooks, other environments).
    """
    endpoints = Endpoints(config, tape)

    async def run_code(run: Run, input: object) -> Outcome:
        order = Order.model_validate(input)
        async with endpoints:
            roles = code_roles(order)
            chains: Mapping[str, Sequence[Model]]
            if models is None:
                chains = await models_for(order.models, roles, config, endpoints, program=PROGRAM)
            else:
                chains = given_models(models, roles)
            desk = await desk_of(run, order, roles, chains, sandboxes)
            return await solve(run, order, desk=desk)

    return Workflow(CODE, run_code, returns=Outcome)


def code_roles(order: Order) -> dict[str, Role]:
    """The team's roles; a file in the project's ``roles/code`` replaces the packaged one."""
    overrides = Path(order.project or order.repo) / OVERRIDES
    return load_roles(
        _ROLES,
        overrides if overrides.is_dir() else None,
        tools=_TOOLS,
        outputs={output.__name__ for output in _OUTPUTS},
        checks=_CHECKS,
    )


def home_of(order: Order, run_id: str) -> Path:
    """Where a run keeps its copy and its patch; a fork works from the copy of its origin."""
    return Path(order.project or order.repo) / ".manyhands" / CODE / run_id


async def desk_of(
    run: Run,
    order: Order,
    roles: Mapping[str, Role],
    models: Mapping[str, Sequence[Model]],
    sandboxes: Sandboxes | None,
) -> Desk:
    """What the order names, as objects; the copy is made if it is not there."""
    made = sandboxes or make_sandboxes(order.sandbox, image=order.image)
    home = home_of(order, run.origin)
    base = Path(order.repo)
    notes = tracked = tuple[str, ...]()
    if not order.as_is:
        copied: Copied = await run.step(
            "copy",
            lambda: asyncio.to_thread(_copy, Path(order.repo), home, order.exclude),
            effect=Effect.IDEMPOTENT,
            returns=Copied,
        )
        base = home / "base"
        notes = tuple(f"Not copied: {each}" for each in copied.left_out)
        tracked = copied.tracked
    isolated = made.capabilities.backend in ISOLATED
    place = order.place or (str(Path(order.repo)) if isolated else None)
    _there(base, run.id)
    ground = Ground(
        made,
        base,
        limits=SandboxLimits(
            seconds=order.seconds, memory_mb=order.memory_mb, disk_mb=order.disk_mb
        ),
        env=order.env if order.as_is else {"PYTHONDONTWRITEBYTECODE": "1", **order.env},
        place=place,
        contained=contained(made.capabilities),
    )
    return Desk(
        models=models,
        roles=roles,
        ground=ground,
        ignored=ignored_by(base, keep_git=order.keep_git, tracked=tracked),
        protected=partial(matches, globs=order.protect),
        enforced=_enforced(made.capabilities),
        notes=notes,
    )


def apply_outcome(order: Order, outcome: Outcome, read: Read) -> Applied:
    """Write the change to the order's own folder. Raises `ConfigError`, with nothing written, where
    a file that it touches is not as it was when the work began."""
    base = Path(outcome.base)
    _there(base, order.repo)
    tree = Tree.model_validate_json(read(outcome.tree))
    ground = Ground(make_sandboxes("unsafe-local"), base)  # none is opened: its files are read
    paths = {change.path for change in outcome.files}
    return apply_to(Path(order.repo), ground, read, Tree(), tree, lambda path: path not in paths)


def _copy(repo: Path, home: Path, exclude: Sequence[str]) -> Copied:
    home.mkdir(parents=True, exist_ok=True)
    ignore = home.parent.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return copy_of(repo, home / "base", exclude)


def _there(base: Path, run_id: str) -> None:
    if not base.is_dir():
        raise ConfigError(
            f"the copy {base}, which run {run_id!r} works from, is gone",
            next="start it anew: the copy held the state that all its changes are told from",
        )


def contained(capabilities: Capabilities) -> bool:
    """Whether nothing that a command does reaches beyond its sandbox."""
    holds = {each.name: each.holds for each in capabilities.enforced}
    return capabilities.backend in ISOLATED and holds.get("network", False)


def _enforced(capabilities: Capabilities) -> dict[str, object]:
    return {
        "backend": capabilities.backend,
        "enforced": {each.name: each.how for each in capabilities.enforced if each.holds},
        "not_enforced": {each.name: each.how for each in capabilities.enforced if not each.holds},
        "notes": list(capabilities.notes),
    }
