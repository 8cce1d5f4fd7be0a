"""Canaries: the master again, so that a change of the machines is seen and misleads nobody.

Invariant: no delta and no gain is taken between runs on different kinds of machines.
"""

from __future__ import annotations

from collections.abc import Iterator

from manyhands.runtime import Run
from manyhands.teams.lab.experiment import rows_of_master
from manyhands.teams.lab.measure import measure
from manyhands.teams.lab.records import Measurement, Phase
from manyhands.teams.lab.state import Candidate, Lab


async def canaries(run: Run, lab: Lab, candidate: Candidate) -> None:
    """The master again: where a candidate was screened on a kind of machine that has no run of its
    parent with that seed, and where the master has not run for long."""
    screened = [m for m, _ in candidate.measured]
    lab.hosts.see(screened, lab.master.commit)
    missing = [
        (m.host, m.seed)
        for m in screened
        if m.metric is not None and lab.hosts.metric(candidate.parent, m) is None
    ]
    # Of one whose parent is the master no more nothing is missed: it is measured anew if it shows
    # anything.
    wanted = [*dict.fromkeys(missing)][: max(0, lab.runs_left)]
    if candidate.parent != lab.master.commit:
        wanted = []
    if not wanted and lab.runs_left > lab.least_runs:
        wanted = list(_due(lab))
    found = await run.map(
        "canary",
        lambda scope, of: _again(scope, lab, *of),
        wanted,
        key_of=lambda of: f"{wanted.index(of)}-{of[1]}",
    )
    lab.count(found)
    lab.hosts.see(found, lab.master.commit)
    lab.canaries += len(found)
    if found:
        async with run.scope("canaries") as scope:
            await rows_of_master(scope, lab, "the master again", found)


async def _again(run: Run, lab: Lab, host: str, seed: int) -> Measurement:
    slot = lab.hosts.slots[host] if lab.hosts.several else None
    return await measure(run, lab, lab.master.commit, seed, Phase.CANARY, slot=slot)


def _due(lab: Lab) -> Iterator[tuple[str, int]]:
    every, seeds = lab.study.config.drift.every, list(lab.master.reference)
    for host, since in lab.hosts.since.items():
        if every and since >= every:
            yield host, seeds[lab.canaries % len(seeds)]
