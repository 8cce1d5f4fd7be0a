"""What a job of the Hub costs, and whether it may.

Invariant: before a job is launched, its worst case fits into the limit of one job, and together
with all that its campaign has spent, or may yet spend, into the campaign's; the arms of a race, and
its judgement, are one campaign. Both are read off the
Hub's own list of jobs, so no crash resets them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from manyhands.errors import JobError, JobsHalted

#: The label that holds a job's worst case, in millionths of a dollar.
WORST = "mh-microusd"
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
_MINUTES = {"second": 1 / 60, "minute": 1.0, "hour": 60.0, "day": 1440.0}


@dataclass(frozen=True, slots=True)
class Caps:
    """In US dollars. ``usd_per_minute``: of the flavor, where the Hub does not say."""

    job: float = 1.0
    campaign: float = 10.0
    usd_per_minute: float | None = None


def per_minute(hardware: Iterable[Any], flavor: str, caps: Caps) -> float:
    """The flavor's price, by the Hub's own table. Raises `JobError` for one that is not known."""
    table = {each.name: each for each in hardware}
    found = table.get(flavor)
    if found is not None and found.unit_label in _MINUTES:
        return float(found.unit_cost_usd) / _MINUTES[found.unit_label]
    if caps.usd_per_minute is not None:
        return caps.usd_per_minute
    known = ", ".join(sorted(table)) or "none that the Hub names"
    raise JobError(
        f"the Hub has no price for the flavor {flavor!r}; flavors: {known}",
        next="take one of those, or say what a minute costs (--usd-per-minute)",
    )


def check(worst: float, price: float, about: Mapping[str, str], spent: float, caps: Caps) -> None:
    """Raises `JobsHalted` where the next job could cost too much. ``about``: its labels."""
    if worst > caps.job:
        raise JobsHalted(
            f"a job could cost {worst:.4g} dollars ({price:.4g} a minute until its time limit); "
            f"the limit of one is {caps.job:g}",
            next=_go_on(about, "--job-usd", worst),
        )
    if spent + worst > caps.campaign:
        label, name = payer(about)
        raise JobsHalted(
            f"the cost cap of {caps.campaign:g} dollars is reached: {label.removeprefix('mh-')} "
            f"{name!r} has spent {spent:.4g}, what still runs at its worst, and "
            f"the next job could cost {worst:.4g}",
            next=_go_on(about, "--campaign-usd", max(2 * caps.campaign, spent + worst)),
        )


def payer(about: Mapping[str, str]) -> tuple[str, str]:
    """The label, and its value, of all jobs that share the campaign's limit with this one."""
    label = "mh-race" if about.get("mh-race") else "mh-campaign"
    return label, about[label]


def _go_on(about: Mapping[str, str], option: str, usd: float) -> str:
    run = about.get("mh-run", "RUN")
    again, stop = f"manyhands lab resume {run}", f"manyhands lab stop {run}"
    if race := about.get("mh-race"):
        again, stop = f"manyhands lab race . --resume {race}", f"manyhands stop {race}"
    limit = math.ceil(usd * 100) / 100
    return f"go on: {again} {option} {limit:g}\nor wrap up: {stop} && {again}"


def spent(
    jobs: Mapping[str, Any], unseen: Mapping[str, float], prices: Mapping[str, float]
) -> float:
    """Of a campaign: what its jobs cost, those that run at their worst. ``unseen``: the worst case
    of jobs that were launched and may not be in the list yet."""
    seen = sum(_of(job, prices) for job in jobs.values())
    return seen + sum(worst for id, worst in unseen.items() if id not in jobs)


def _of(job: Any, prices: Mapping[str, float]) -> float:
    worst = float(labels(job).get(WORST, "0")) / 1e6
    price = prices.get(str(job.flavor))
    if str(job.status.stage) not in ENDED or price is None:
        return worst
    return cost(job, price)


def labels(job: Any) -> dict[str, str]:
    return job.labels or {}


def cost(job: Any, price: float) -> float:
    """Of one that has ended, or so far."""
    seconds = job.durations.running_secs if job.durations else None
    if seconds is None and job.started_at and job.finished_at:
        seconds = (job.finished_at - job.started_at).total_seconds()
    return (seconds or 0) / 60 * price
