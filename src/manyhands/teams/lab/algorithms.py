"""Every role filled without a model: an honest baseline for whatever a model adds.

Each filler journals what it decided as one pure step, so a replay takes the same turn even where
the library behind it has changed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from manyhands.runtime import Effect, Run
from manyhands.teams.lab import memory, researcher, reviewer
from manyhands.teams.lab.cast import Brief, Cast, Filled, Plan
from manyhands.teams.lab.experiment import setting_patch
from manyhands.teams.lab.planner import TpePlanner
from manyhands.teams.lab.records import Experiment, Hypothesis, Idea, LedgerRow, Note, Patch, Review


async def research(run: Run, brief: Brief, limit: int) -> tuple[Idea, ...]:
    """Ideas from the study's documents, the notes and the settings themselves."""
    work = partial(researcher.ideas, brief.documents, brief.notes, brief.settings, limit)
    return await run.step("ideas", work, effect=Effect.PURE, returns=tuple[Idea, ...])


def planner(seed: int) -> Filled[Plan]:
    """Optuna's TPE over the settings of the editable files, one change per hypothesis."""

    async def plan(
        run: Run, brief: Brief, ideas: tuple[Idea, ...], count: int, next_id: int
    ) -> tuple[Hypothesis, ...]:
        work = partial(
            TpePlanner(seed).propose,
            brief.settings,
            brief.master,
            brief.history,
            ideas,
            count,
            next_id,
            notes=brief.notes,
            pending=brief.pending,
        )
        return await run.step("propose", work, effect=Effect.PURE, returns=tuple[Hypothesis, ...])

    return Filled("optuna-tpe", plan)


async def judge(run: Run, brief: Brief, hypotheses: tuple[Hypothesis, ...]) -> tuple[Review, ...]:
    """The hard rules. They hold for a model's reviews too."""
    work = partial(
        reviewer.review,
        hypotheses,
        master=brief.master,
        seen_fingerprints=brief.attempts,
        settings=brief.settings,
        notes=brief.notes,
        active=brief.pending,
        protected=brief.study.config.files.protect,
    )
    return await run.step("review", work, effect=Effect.PURE, returns=tuple[Review, ...])


async def work(run: Run, brief: Brief, hypothesis: Hypothesis, place: Path) -> Patch:
    """Set the one setting that the hypothesis names."""
    change = partial(setting_patch, brief.files, hypothesis)
    return await run.step("patch", change, effect=Effect.PURE, returns=Patch)


async def remember(
    run: Run, brief: Brief, experiment: Experiment, rows: tuple[LedgerRow, ...]
) -> tuple[Note, ...]:
    """Notes by rule: what not to repeat, near misses, what held."""
    parent = next((m for m in brief.masters if m.commit == experiment.parent), None)
    keep = partial(
        memory.keep,
        experiment,
        rows,
        brief.notes,
        noise_sd=brief.master.noise_sd,
        parent=parent,
    )
    return await run.step("notes", keep, effect=Effect.PURE, returns=tuple[Note, ...])


async def narrate(run: Run, brief: Brief, facts: str) -> str:
    """The facts as they are."""
    return facts


def cast_of_algorithms(seed: int) -> Cast:
    """The default: no model anywhere."""
    return Cast(
        researcher=Filled("notes", research),
        planner=planner(seed),
        reviewer=Filled("rules", judge),
        worker=Filled("setting-editor", work),
        memory=Filled("rules", remember),
        reporter=Filled("templates", narrate),
    )
