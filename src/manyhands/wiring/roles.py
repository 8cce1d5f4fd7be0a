"""Who fills which role of the teams whose roles are all filled by models.

Invariant: a role that no team has is refused, wherever it is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from manyhands.agents.crew import JUDGE
from manyhands.agents.role import Role
from manyhands.config import ALGORITHM, Config
from manyhands.errors import ConfigError
from manyhands.ports import Model
from manyhands.wiring.machine import need_model
from manyhands.wiring.models import Endpoints

LAB_ROLES = ("researcher", "planner", "reviewer", "worker", "memory", "reporter")
ANSWER_ROLES = ("router", "supervisor", "worker", "solo", "synthesiser", "critic")
CODE_ROLES = ("orchestrator", "explorer", "coder")


def check_roles(config: Config) -> None:
    """Raises `ConfigError` for a role in ``[roles]`` that no team has."""
    known = sorted({*LAB_ROLES, *ANSWER_ROLES, *CODE_ROLES, JUDGE})
    for name in config.roles:
        if name not in known:
            raise ConfigError(
                f"there is no role {name!r}; roles: {', '.join(known)}",
                next="correct [roles] of manyhands.toml",
            )


async def models_for(
    named: Mapping[str, str],
    roles: Mapping[str, Role],
    config: Config,
    endpoints: Endpoints,
    *,
    program: str,
) -> dict[str, tuple[Model, ...]]:
    """Role -> models to be tried in order. What ``named`` has for a role goes first, then what it
    has for all (''), ``[roles]``, the role's own file, and ``model`` of ``manyhands.toml``.

    ``program``: a command with ``{}`` for a model. Raises `ConfigError` that says how to get a
    model where there is none.
    """
    check_roles(config)
    for name in named:
        if name and name not in roles and name != JUDGE:
            raise ConfigError(
                f"there is no role {name!r}; roles: {', '.join(sorted(roles))}",
                next=f"write --role {min(roles)}=MODEL",
            )
    found: dict[str, tuple[Model, ...]] = {}
    for name, role in roles.items():
        given = named.get(name) or named.get("") or config.roles.get(name)
        spec = given if given and given != ALGORITHM else None
        own = spec is not None or role.model is None
        spec = spec or role.model or await need_model(config, program=program)
        found[name] = endpoints.models(spec, own_key=own)
    judge = named.get(JUDGE) or config.roles.get(JUDGE)
    if judge is not None:
        found[JUDGE] = endpoints.models(judge, own_key=True)
    return found


def given_models(
    given: Mapping[str, Model | Sequence[Model]], roles: Mapping[str, Role]
) -> dict[str, Sequence[Model]]:
    """Models as objects for every role; '' is for those that are not named."""
    found: dict[str, Sequence[Model]] = {}
    for role in (*roles, *([JUDGE] if JUDGE in given else [])):
        each = given[role] if role in given else given[""]
        found[role] = each if isinstance(each, Sequence) else (each,)
    return found
