"""Casts that propose what a test wants to see tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from manyhands.adapters.jobs.local import LocalJobRunner
from manyhands.ports import JobRunner
from manyhands.runtime import Run, Runtime, Workflow
from manyhands.teams.lab.algorithms import cast_of_algorithms
from manyhands.teams.lab.cast import Brief, Cast, Filled
from manyhands.teams.lab.records import Hypothesis
from manyhands.teams.lab.state import Order
from manyhands.teams.lab.team import lab
from manyhands.teams.lab.view import LabView, read_lab


def proposing(changes: Sequence[tuple[str, float | str]]) -> Cast:
    """Algorithms, with a planner that proposes these settings in the first round and no more."""

    async def plan(
        run: Run, brief: Brief, ideas: object, count: int, next_id: int
    ) -> tuple[Hypothesis, ...]:
        if next_id > 1:
            return ()
        return tuple(
            Hypothesis(
                id=f"h{at:04d}",
                title=f"{name} to {value}",
                rationale="a test wants it",
                kind="setting",
                parent=brief.master.commit,
                setting=name,
                value=value,
            )
            for at, (name, value) in enumerate(changes, 1)
        )

    return replace(cast_of_algorithms(1), planner=Filled("fixed", plan))


def workflow_of(cast: Cast, jobs: JobRunner | None = None) -> Workflow:
    """``jobs``: None for real ones on this machine."""
    runner = jobs or LocalJobRunner()

    async def work(run: Run, order: object) -> object:
        return await lab(run, Order.model_validate(order), jobs=runner, cast=cast)

    return Workflow("lab", work)


async def run_study(
    folder: Path,
    study: Path,
    cast: Cast,
    *,
    runs: int,
    slots: int,
    jobs: JobRunner | None = None,
) -> LabView:
    """Run the study to its end with a journal in ``folder``; what its journal tells."""
    async with Runtime.open(folder / "journal.db") as runtime:
        order = Order(study=str(study), runs=runs, slots=slots)
        await runtime.run(workflow_of(cast, jobs), order, run_id="study")
        return read_lab(runtime, "study")
