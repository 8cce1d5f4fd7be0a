"""What is configured, for a person to read: the models of ``manyhands.toml``, and who uses which.

Invariant: nothing is contacted, and what is wrong with an entry is told beside it, not raised: a
list is most wanted when something is wrong. A key is told by the name of its variable.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from manyhands.config import Config, Kind, ModelConfig, role_spec
from manyhands.errors import ManyhandsError
from manyhands.ports import Price
from manyhands.wiring.keys import hub_token_from
from manyhands.wiring.models import address_of, local_extra, price_of


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of ``manyhands.toml``. ``spec``: in its shortest form. ``address``: '' where no
    server is spoken to. ``key``: where it comes from ('': none). ``problem``: why it will not do.
    """

    name: str
    spec: str
    address: str
    settings: ModelConfig
    price: Price | None
    key: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Assigned:
    """A role and the models that fill it (``algorithm``: none), and the file that says so."""

    role: str
    spec: str
    source: str
    problem: str = ""


def configured(config: Config) -> tuple[Listed, ...]:
    return tuple(_listed(name, each) for name, each in config.models.items())


def assigned(config: Config, config_file: Path | None, folder: Path) -> tuple[Assigned, ...]:
    """From ``[roles]``, and from the lab's role files in ``roles`` of ``folder`` (a study's)."""
    from manyhands.teams.lab.agents import roles_of  # noqa: PLC0415 - optional extra

    told = [
        Assigned(role, spec, str(config_file or ""), _unknown(config, role, spec))
        for role, spec in config.roles.items()
    ]
    try:
        roles = roles_of(folder)
    except ManyhandsError as error:
        return (*told, Assigned("", "", str(folder / "roles"), error.what))
    told += [
        Assigned(role.name, role.model, str(role.source), _unknown(config, role.name, role.model))
        for role in roles.values()
        if role.model and role.name not in config.roles
    ]
    return tuple(told)


def _unknown(config: Config, role: str, spec: str) -> str:
    try:
        models = role_spec(role, spec).models
        if models:
            config.chain(models)
    except ManyhandsError as error:
        return error.what
    return ""


def _listed(name: str, settings: ModelConfig) -> Listed:
    place = settings.place
    try:
        at = address_of(place)
    except ManyhandsError as error:  # OLLAMA_HOST
        return Listed(name, str(place), "", settings, None, problem=error.what)
    key = settings.api_key_env
    problem = f"{key} is not set" if key and not os.environ.get(key) else ""
    if place.kind is Kind.HF and not key:
        key = hub_token_from()
        problem = "" if key else "no Hugging Face token"
    elif place.kind is Kind.GGUF and not local_extra():
        problem = "manyhands[local] is not installed"
    elif place.file and not place.name and not Path(place.file).expanduser().is_file():
        problem = "no such file"
    return Listed(
        name, str(place), at.url if at else "", settings, price_of(settings), key, problem
    )
