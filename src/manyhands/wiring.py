"""Configuration to objects: the only module that names adapters.

The lab's parts belong to the extra ``manyhands[lab]``; they are imported where they are asked for,
so that ``manyhands runs`` works, and starts fast, without them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from manyhands.adapters.jobs.local import LocalJobRunner
from manyhands.adapters.models.openai_compatible import OpenAICompatibleModel
from manyhands.config import Config, home
from manyhands.errors import ConfigError
from manyhands.ports import JobRunner, Model, Price
from manyhands.runtime import Runtime, Workflow

if TYPE_CHECKING:
    from manyhands.teams.lab.cast import Cast
    from manyhands.teams.lab.state import Order

LAB = "lab"


def journal_url(config: Config, named: str | None = None) -> str:
    """The journal to use: the one named, the configured one, or the user's own."""
    return named or config.journal or str(home() / "journal.db")


def open_runtime(config: Config, journal: str | None = None) -> Runtime:
    """The runtime with every workflow that can be resumed here."""
    return Runtime.open(journal_url(config, journal), workflows=[lab_workflow(config)])


def job_runner() -> JobRunner:
    return LocalJobRunner()


def make_model(spec: str, config: Config) -> Model:
    """A model from ``http(s)://host/v1#name`` or the name of one in ``manyhands.toml``."""
    if spec in config.models:
        found = config.models[spec]
        price = None
        if found.input_per_million is not None and found.output_per_million is not None:
            price = Price(found.input_per_million, found.output_per_million)
        return OpenAICompatibleModel(
            found.model,
            found.base_url,
            api_key=_secret(found.api_key_env),
            price=price,
            context_length=found.context_length,
            concurrency=found.concurrency,
        )
    url, _, name = spec.partition("#")
    if url.startswith(("http://", "https://")) and name:
        return OpenAICompatibleModel(name, url, api_key=_secret("MANYHANDS_API_KEY"))
    raise ConfigError(
        f"model {spec!r} is neither an endpoint nor named in manyhands.toml"
        f" (named: {', '.join(sorted(config.models)) or 'none'})",
        next="give http://HOST/v1#NAME, or add [models.NAME] to manyhands.toml",
    )


def _secret(variable: str) -> SecretStr | None:
    value = os.environ.get(variable) if variable else None
    return SecretStr(value) if value else None


def lab_workflow(
    config: Config, *, models: dict[str, Model] | None = None, jobs: JobRunner | None = None
) -> Workflow:
    """The lab. ``models``: role -> model, instead of what the order names (tests, notebooks)."""

    async def run_lab(run: object, order: object) -> object:
        from manyhands.teams.lab.state import Order  # noqa: PLC0415 - optional extra
        from manyhands.teams.lab.team import lab  # noqa: PLC0415 - optional extra

        asked = Order.model_validate(order)
        owned = models is None
        made = models if models is not None else models_of(asked, config)
        try:
            cast = cast_of(asked, made)
            return await lab(run, asked, jobs=jobs or job_runner(), cast=cast)  # type: ignore[arg-type]
        finally:
            for model in made.values() if owned else ():
                await model.close()

    return Workflow(LAB, run_lab)


def models_of(order: Order, config: Config) -> dict[str, Model]:
    """Role -> model, for the roles that the order or ``manyhands.toml`` gives to a model."""
    named = {**config.roles, **order.models}
    made: dict[str, Model] = {}
    for role, spec in named.items():
        if spec != "algorithm":
            made[role] = make_model(spec, config)
    return made


def cast_of(order: Order, models: dict[str, Model]) -> Cast:
    """Algorithms in every role but those that have a model."""
    from manyhands.teams.lab.agents import with_models  # noqa: PLC0415 - optional extra
    from manyhands.teams.lab.algorithms import cast_of_algorithms  # noqa: PLC0415 - optional extra

    return with_models(cast_of_algorithms(order.seed), models, Path(order.study))
