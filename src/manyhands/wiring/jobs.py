"""Where training runs, as an order has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manyhands.adapters.jobs.away import Patience
from manyhands.adapters.jobs.hub import IMAGE, HubJobRunner, HubSettings
from manyhands.adapters.jobs.hub_costs import Caps
from manyhands.adapters.jobs.local import LocalJobRunner
from manyhands.adapters.jobs.slurm import SlurmJobRunner, SlurmSettings
from manyhands.adapters.jobs.ssh import SshJobRunner, SshSettings
from manyhands.adapters.jobs.ssh_line import Target
from manyhands.ports import JobRunner
from manyhands.teams.lab.state import FOLDER, AwayJobs, HubJobs, Order, SlurmJobs, SshJobs


async def runner_of(order: Order) -> JobRunner:
    """Raises `JobError` for a machine that is not to be had."""
    home = LocalJobRunner()
    if order.hub is not None:
        return HubJobRunner(home, _of_hub(order.hub))
    if order.ssh is not None:
        return await SshJobRunner.open(home, _of_ssh(order.ssh))
    if order.slurm is not None:
        return SlurmJobRunner(home, _of_slurm(order.slurm, Path(order.study)))
    return home


async def look_at(order: Order) -> str:
    """What a person should know of where training runs, before it begins; '' for this machine.

    Raises `JobError` for what would fail: a token, a flavor, a host, a cluster.
    """
    if (hub := order.hub) is not None:
        price = await HubJobRunner(LocalJobRunner(), _of_hub(hub)).price()
        return (
            f"training on the Hub: {hub.flavor}, {price:.4g} dollars a minute; at most "
            f"{hub.usd_per_job:g} a job and {hub.usd_per_campaign:g} in all"
        )
    if order.ssh is not None:
        runner = await SshJobRunner.open(LocalJobRunner(), _of_ssh(order.ssh))
        host = runner.host
        return (
            f"training on {order.ssh.host}: Python {host.python}, {host.cores} cores, isolation "
            f"{host.isolation.level}"
        )
    if (slurm := order.slurm) is not None:
        runner = SlurmJobRunner(LocalJobRunner(), _of_slurm(slurm, Path(order.study)))
        where = slurm.partition or "the default partition"
        return f"training on {await runner.check()}, {where}"
    return ""


def check_target(host: str) -> None:
    """Raises `ConfigError` for what names no host."""
    Target.parse(host)


def _patience(jobs: AwayJobs) -> Patience:
    return Patience(
        silence=jobs.silence_seconds,
        queue=jobs.queue_seconds,
        outage=jobs.outage_seconds,
        attempts=jobs.attempts,
    )


def _of_hub(jobs: HubJobs) -> HubSettings:
    return HubSettings(
        flavor=jobs.flavor,
        image=jobs.image or IMAGE,
        packages=jobs.packages,
        namespace=jobs.namespace,
        caps=Caps(jobs.usd_per_job, jobs.usd_per_campaign, jobs.usd_per_minute),
        silence_seconds=jobs.silence_seconds,
        queue_seconds=jobs.queue_seconds,
        outage_seconds=jobs.outage_seconds,
        attempts=jobs.attempts,
    )


def _of_slurm(jobs: SlurmJobs, study: Path) -> SlurmSettings:
    own: dict[str, Any] = jobs.model_dump(exclude={*AwayJobs.model_fields, "folder"})
    folder = Path(jobs.folder).expanduser() if jobs.folder else study / FOLDER / "slurm"
    return SlurmSettings(folder, **own, patience=_patience(jobs))


def _of_ssh(jobs: SshJobs) -> SshSettings:
    target = Target.parse(jobs.host, str(Path(jobs.config).expanduser()) if jobs.config else "")
    return SshSettings(target, jobs.python, jobs.folder, _patience(jobs))
