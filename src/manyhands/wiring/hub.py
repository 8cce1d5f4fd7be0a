"""Training on the Hub's machines, as an order has it."""

from __future__ import annotations

from manyhands.adapters.jobs.hub import IMAGE, HubJobRunner, HubSettings
from manyhands.adapters.jobs.hub_costs import Caps
from manyhands.ports import JobRunner
from manyhands.teams.lab.state import HubJobs


def hub_runner(order: HubJobs, home: JobRunner) -> HubJobRunner:
    settings = HubSettings(
        flavor=order.flavor,
        image=order.image or IMAGE,
        packages=order.packages,
        caps=Caps(order.usd_per_job, order.usd_per_campaign, order.usd_per_minute),
        silence_seconds=order.silence_seconds,
    )
    return HubJobRunner(home, settings)


async def check_hub(order: HubJobs, home: JobRunner) -> float:
    """Dollars of a minute. Raises `JobError` without a token that is good, and for a flavor that
    there is not."""
    return await hub_runner(order, home).price()
