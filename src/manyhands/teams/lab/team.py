"""The lab: a loop of experiments on one study. Its control flow is `lab`, on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from manyhands.errors import Halted
from manyhands.ports import JobRunner
from manyhands.runtime import Aside, Run, aside
from manyhands.teams.lab.ablation import STOPPED, ablate, ending
from manyhands.teams.lab.cast import Cast
from manyhands.teams.lab.closing import Outcome, conclude, leave_word, progress
from manyhands.teams.lab.drift import canaries
from manyhands.teams.lab.experiment import (
    enqueue,
    keep,
    place,
    rebase,
    settle,
    settle_unfinished,
    try_out,
)
from manyhands.teams.lab.factorial import combine
from manyhands.teams.lab.opening import measure_baseline, open_lab
from manyhands.teams.lab.papers import cited
from manyhands.teams.lab.promotion import confirm, most_runs, only_on_validation, promote
from manyhands.teams.lab.records import Verdict
from manyhands.teams.lab.state import Candidate, Lab, Order, Pool, Screening, Testing
from manyhands.teams.lab.study import load_study


async def lab(
    run: Run, order: Order, *, jobs: JobRunner, cast: Cast, pool: Pool | None = None
) -> Outcome:
    """Run the study until its budget, a plateau, an empty search space or a person ends it.

    ``pool``: the slots that it shares with other studies (None: its own)."""
    state = await open_lab(run, order, load_study(Path(order.study)), jobs, cast, pool)
    try:
        await measure_baseline(run, state)
        reason = await rounds(run, state)
        await settle_unfinished(run, state, reason)
        if await ending(run, state, reason):
            await ablate(run, state)
            await combine(run, state)
    except Halted as halted:
        await leave_word(state, halted)
        raise
    return await conclude(run, state, reason)


async def rounds(run: Run, state: Lab) -> str:
    """Experiments and promotions, round after round; why there is no further one.

    A round is planned and begun while the last screenings of the one before and the tests that it
    began go on: who plans, and who is slow, leaves no slot idle. What is under way is landed in the
    order in which it was begun, and changes nothing before that, so that a study which is resumed
    takes the same course.
    """
    turn = 0
    async with aside() as beside:
        while not (reason := await over(run, state, turn)) or state.under_way:
            turn += 1
            async with run.scope(f"round-{turn}") as round:
                state.steers += await round.steers("steers")
                busy, room = bool(state.under_way), 0 if reason else state.room()
                candidates = await plan(round, state, room) if room > 0 else []
                explore(round, state, beside, candidates)
                moved = await land(round, state, ahead=state.slots.count if candidates else 0)
                moved += await decide(round, state)
                if reason != STOPPED:
                    fresh = bool(candidates) or (busy and room < 1)
                    moved += await test(round, state, beside, fresh=fresh)
                await progress(round, state)
            if not candidates and not moved:
                return "nothing is left to try"
    return reason


async def over(run: Run, lab: Lab, turn: int) -> str:
    """Why the study is over; '' while it is not."""
    if await run.stopping(f"stop-{turn}"):
        return STOPPED
    if lab.runs_left < lab.least_runs:
        left = f"; the {lab.runs_left} left cannot confirm anything" * (lab.runs_left > 0)
        held = f"; {lab.held_back} are held back for the ablation" * (lab.held_back > 0)
        return f"{lab.runs} runs used{left}{held}"
    if lab.experiments_left <= 0 and not lab.promising:
        return f"the budget of {lab.experiments} experiments is used"
    if lab.since_promotion >= lab.plateau and not lab.promising:
        return f"a plateau: {lab.since_promotion} experiments without a promotion"
    return ""


async def plan(run: Run, lab: Lab, room: int) -> list[Candidate]:
    """Researcher, planner, reviewer: as many new hypotheses as this round can screen."""
    async with run.scope("researcher") as scope:
        ideas = await lab.cast.researcher.fill(scope, lab.brief(), 2 * room)
    exact, left = cited(ideas, lab.master.commit, lab.hypotheses + 1, room)
    async with run.scope("planner") as scope:
        spare, first = room - len(exact), lab.hypotheses + 1 + len(exact)
        planned = (
            await lab.cast.planner.fill(scope, lab.brief(), left, spare, first) if spare else ()
        )
        proposed = (*exact, *planned)
    async with run.scope("reviewer") as scope:
        reviews = await lab.cast.reviewer.fill(scope, lab.brief(), proposed)
    return await enqueue(run, lab, ideas, proposed, reviews)


def explore(run: Run, lab: Lab, beside: Aside, candidates: Sequence[Candidate]) -> None:
    """Have patches written and screened, side by side."""
    for candidate in candidates:
        work = partial(try_out, lab=lab, ground=lab.ground(), candidate=candidate)
        task = beside.begin(run, f"work/{candidate.id}", work)
        lab.screening.append(Screening(candidate, task, lab.study.config.promotion.screen_seeds))


async def land(run: Run, lab: Lab, *, ahead: int) -> int:
    """Settle what was screened, oldest first, until no more than ``ahead`` are under way; how many
    those were."""
    landed = 0
    while len(lab.screening) > ahead:
        screened = lab.screening[0]
        await screened.task
        lab.screening.popleft()
        lab.count(m for m, _ in screened.candidate.measured)
        async with run.scope(f"land-{screened.candidate.id}") as scope:
            await canaries(scope, lab, screened.candidate)
            await place(scope, lab, screened.candidate)
        landed += 1
    return landed


async def test(run: Run, lab: Lab, beside: Aside, *, fresh: bool) -> int:
    """Begin to test the most promising candidates against the master; how many.

    ``fresh``: new ideas come, or may when there is room for them. While they do, or are under way,
    only clear ones are tested.
    """
    found = lab.take_promising(only_clear=fresh or bool(lab.under_way))
    ready = [c for c in found if await rebase(run, lab, c)]
    quota = min(lab.runs_left // max(1, len(ready)), most_runs(lab.gate))
    for candidate in ready:
        work = partial(confirm, lab=lab, candidate=candidate, quota=quota)
        task = beside.begin(run, f"gate/{candidate.id}", work)
        lab.testing.append(Testing(candidate, task, quota))
    return len(found)


async def decide(run: Run, lab: Lab) -> int:
    """Take the tests' word; how many there were.

    Winners are promoted best first. Each later one finds that its parent is no longer the master:
    it is rebased there and measured again in a later round.
    """
    tests = lab.testing
    tested = [(each.candidate, *await each.task) for each in tests]
    lab.testing = []
    runs = [m for _, _, pairs in tested for p in pairs for m in p.both]
    lab.count(runs)
    lab.hosts.see(runs, lab.master.commit)
    for candidate, decision, pairs in sorted(tested, key=lambda each: -each[1].gain):
        candidate.decide(decision, pairs, lab.sign)
        won = candidate.verdict is Verdict.PROMOTED
        if won and (why := only_on_validation(pairs, lab.sign)):
            candidate.reject("trained-on-validation", why)
        elif won and not await promote(run, lab, candidate, pairs):
            keep(lab, candidate)
            continue
        await settle(run, lab, candidate)
    return len(tested)
