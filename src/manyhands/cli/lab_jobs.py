"""Where a study's training runs, as flags and ``[jobs]`` of manyhands.toml say it.

Invariant: a flag goes before ``--job NAME=VALUE``, that before the file, and that before the
default; an option that the chosen place does not have is refused, and never passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from manyhands.cli.printing import err
from manyhands.config import Config
from manyhands.errors import ConfigError
from manyhands.runtime import Runtime
from manyhands.wiring import JOBS

#: Flag of `manyhands lab run` -> the option that it stands for.
FLAGS = {
    "flavor": "--flavor",
    "image": "--image",
    "packages": "--with",
    "usd_per_job": "--job-usd",
    "usd_per_campaign": "--campaign-usd",
    "usd_per_minute": "--usd-per-minute",
    "silence_seconds": "--silence",
}


def ordered_jobs(
    config: Config, jobs: str | None, options: list[str], flags: Mapping[str, Any], cache: str
) -> dict[str, Any]:
    """The fields of an order that say where training runs. ``flags``: option -> value, None where
    it was not given. Raises `ConfigError`."""
    from manyhands.teams.lab.state import HubJobs, SlurmJobs, SshJobs  # noqa: PLC0415 - optional
    from manyhands.wiring.jobs import check_target  # noqa: PLC0415 - optional extra

    runner = jobs or config.jobs.runner
    kind, _, host = runner.partition(":")
    given = _named(options) | {name: v for name, v in flags.items() if v is not None}
    folder = str(Path.cwd() / Path(cache).expanduser()) if cache else config.jobs.cache
    found: dict[str, Any] = {"cache": folder}
    if runner == "local":
        if given:
            raise ConfigError(
                f"{_shown(min(given))} is not of jobs on this machine",
                next="add --jobs hf, --jobs slurm or --jobs ssh:HOST",
            )
        return found
    places = {"hf": (HubJobs, config.jobs.hf), "slurm": (SlurmJobs, config.jobs.slurm)}
    if runner in places:
        return found | {"hub" if kind == "hf" else kind: _order(*places[runner], given, kind)}
    if kind == "ssh" and host:
        check_target(host)
        return found | {"ssh": _order(SshJobs, config.jobs.ssh, given | {"host": host}, kind)}
    raise ConfigError(
        f"--jobs {runner!r}", next="write --jobs local, hf, slurm, or ssh:[USER@]HOST[:PORT]"
    )


def job_flags(
    flavor: str | None = None,
    image: str | None = None,
    packages: list[str] | None = None,
    job_usd: float | None = None,
    campaign_usd: float | None = None,
    usd_per_minute: float | None = None,
    silence: float | None = None,
) -> dict[str, Any]:
    """Option -> value, None for the flags that were not given."""
    return {
        "flavor": flavor,
        "image": image,
        "packages": tuple(packages) if packages else None,
        "usd_per_job": job_usd,
        "usd_per_campaign": campaign_usd,
        "usd_per_minute": usd_per_minute,
        "silence_seconds": silence,
    }


async def check_jobs(order: Any) -> None:
    """Say where training will run. Raises `JobError` for what would fail there."""
    from manyhands.wiring.jobs import look_at  # noqa: PLC0415 - optional extra

    told = await look_at(order)
    if told:
        err.print(told, markup=False)


async def change_limits(
    runtime: Runtime, run_id: str, order: Any, options: list[str], flags: Mapping[str, Any]
) -> None:
    """New limits for the jobs of a run that has begun, from its next life on. ``order``: its own.
    Raises `ConfigError` for what must stay."""
    if limits := new_limits(options, flags, order):
        seen = runtime.view(run_id).seq
        await runtime.command(run_id, "set", target=JOBS, message=limits, decided_on=seen)


def new_limits(options: list[str], flags: Mapping[str, Any], order: Any) -> dict[str, Any]:
    """Limits for the jobs of a study that has begun. Raises `ConfigError` for what must stay."""
    from manyhands.teams.lab.state import LIMITS  # noqa: PLC0415 - optional extra

    given = _named(options) | {name: v for name, v in flags.items() if v is not None}
    for name in sorted(given.keys() - LIMITS):
        raise ConfigError(
            f"{_shown(name)} cannot change while a study goes on: its runs would not be comparable",
            next=f"limits can: {', '.join(sorted(LIMITS))}",
        )
    try:
        order.with_limits(given)
    except ValidationError as error:
        raise _explained(error, "the study's jobs", ()) from None
    except ValueError as error:
        raise ConfigError(f"{_shown(min(given))}: {error}", next="leave it out") from error
    return given


def _named(options: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in options:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise ConfigError(f"--job {item!r}", next="write --job NAME=VALUE")
        found[name.replace("-", "_")] = _value(value)
    return found


def _value(text: str) -> Any:
    """A list or a table as JSON; all else is taken as it stands."""
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _order(kind: Any, table: Mapping[str, Any], given: Mapping[str, Any], name: str) -> Any:
    try:
        return kind.model_validate(dict(table) | dict(given))
    except ValidationError as error:
        raise _explained(error, f"--jobs {name}", tuple(kind.model_fields), given) from None


def _explained(
    error: ValidationError, where: str, known: tuple[str, ...], given: Mapping[str, Any] = {}
) -> ConfigError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        source = _shown(name) if name in given else f"manyhands.toml: jobs: {name}"
        return ConfigError(
            f"{source} is no option of {where}", next=f"options: {', '.join(sorted(known))}"
        )
    return ConfigError(f"{where}: {name}: {first['msg']}", next="correct the value")


def _shown(name: str) -> str:
    return FLAGS.get(name, f"--job {name}")
