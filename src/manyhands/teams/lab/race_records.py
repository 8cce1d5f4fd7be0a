"""What a race persists: its order, what became of each arm, and what came of it all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from manyhands.teams.lab.contest import Comparison
from manyhands.teams.lab.records import Record
from manyhands.teams.lab.state import HubJobs, Order, SlurmJobs, SshJobs

MOST_SEEDS = 1000


class RaceOrder(Record):
    """The workflow's input. ``runs``, ``tokens``, ``usd``: of each arm at each seed; None of
    ``runs`` is the study's own budget. ``judges``: seeds of the last measurement.
    ``hub``, ``ssh``, ``slurm``, ``cache``: as in an `Order`, of all arms and the judgement; their
    limits are of all together."""

    study: str
    arms: tuple[str, ...]
    seeds: int = Field(default=5, ge=1, le=MOST_SEEDS)
    seed: int = Field(default=1, ge=0, le=MOST_SEEDS)
    runs: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)
    slots: int | None = Field(default=None, ge=1)
    judges: int = Field(default=8, ge=2, le=100)
    hub: HubJobs | None = None
    ssh: SshJobs | None = None
    slurm: SlurmJobs | None = None
    cache: str = ""

    def with_limits(self, limits: Mapping[str, Any]) -> RaceOrder:
        """As `Order.with_limits`."""
        where = Order(study=self.study, hub=self.hub, ssh=self.ssh, slurm=self.slurm)
        new = where.with_limits(limits)
        return self.model_copy(update={"hub": new.hub, "ssh": new.ssh, "slurm": new.slurm})


class Step(Record):
    """A master of an arm, from the ``runs``-th run on. ``gain`` and ``holdout``: means over the
    judged seeds against the common baseline, positive when better; None: no seed gave both."""

    runs: int
    commit: str
    program: str
    gain: float | None = 0.0
    holdout: float | None = None


class Lane(Record):
    """One arm at one seed. ``state``: '' if its run came to its end, or what ended it.
    ``resumable``: what has ended it can be tried again."""

    arm: str
    seed: int
    run: str
    state: str
    runs: int
    experiments: int
    seconds: float
    tokens: int
    usd: float
    steps: tuple[Step, ...]
    resumable: bool = False

    @property
    def gain(self) -> float:
        return next((s.gain for s in reversed(self.steps) if s.gain is not None), 0.0)

    @property
    def holdout(self) -> float | None:
        return self.steps[-1].holdout

    def gain_at(self, runs: float) -> float:
        """The true gain of the master that it had after so many runs."""
        reached = [s.gain for s in self.steps if s.runs <= runs and s.gain is not None]
        return reached[-1] if reached else 0.0


class RaceOutcome(Record):
    """What came of it. ``judged``: runs of the last measurement, which no arm's budget paid."""

    study: str
    metric: str
    direction: str
    arms: tuple[str, ...]
    seeds: int
    budget: dict[str, float]
    lanes: tuple[Lane, ...]
    comparisons: tuple[Comparison, ...]
    judges: int
    judged: int
    report: str = ""
    plots: tuple[str, ...] = ()

    @property
    def failed(self) -> list[Lane]:
        """The runs that did not come to their end."""
        return [lane for lane in self.lanes if lane.state]
