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
from manyhands.teams.lab.promotion import confirm, only_on_validation, promote
from manyhands.teams.lab.records import Verdict
from manyhands.teams.lab.state import Candidate, Lab, Order, Pool, Screening
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

    Where rounds overlap, the screenings of one are under way while the one before is tested and the
    next is planned: neither who thinks nor who is slow leaves a slot idle. They are landed a round
    later, in the order in which they were begun, and change nothing before: a study that is resumed
    takes the same course.
    """
    turn = 0
    async with aside() as beside:
        while not (reason := await over(run, state, turn)) or state.screening:
            turn += 1
            async with run.scope(f"round-{turn}") as round:
                state.steers += await round.steers("steers")
                candidates = [] if reason else await plan(round, state)
                explore(round, state, beside, candidates)
                ahead = len(candidates) if state.overlaps else 0
                landed = await land(round, state, ahead=ahead)
                fresh, tested = bool(candidates or landed), 0
                if reason != STOPPED:
                    tested = await promotions(round, state, only_clear=fresh)
                await progress(round, state)
            if not fresh and not tested:
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


async def plan(run: Run, lab: Lab) -> list[Candidate]:
    """Researcher, planner, reviewer: as many new hypotheses as this round can screen."""
    room = lab.room()
    if room < 1:
        return []
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


async def promotions(run: Run, lab: Lab, *, only_clear: bool) -> int:
    """Test the most promising candidates against the master; returns how many were tested.

    Winners are promoted best first. Each later one finds that its parent is no longer the master:
    it waits for the next round, is rebased there and measured again.
    """
    ready = [c for c in lab.take_promising(only_clear=only_clear) if await rebase(run, lab, c)]
    quota = lab.runs_left // max(1, len(ready))
    tested = await run.map(
        "gate",
        lambda scope, c: confirm(scope, lab, c, quota),
        ready,
        key_of=lambda c: c.id,
    )
    runs = [m for _, pairs in tested for p in pairs for m in p.both]
    lab.count(runs)
    lab.hosts.see(runs, lab.master.commit)
    ranked = sorted(zip(ready, tested, strict=True), key=lambda ct: -ct[1][0].gain)
    for candidate, (decision, pairs) in ranked:
        candidate.decide(decision, pairs, lab.sign)
        won = candidate.verdict is Verdict.PROMOTED
        if won and (why := only_on_validation(pairs, lab.sign)):
            candidate.reject("trained-on-validation", why)
        elif won and not await promote(run, lab, candidate, pairs):
            keep(lab, candidate)
            continue
        await settle(run, lab, candidate)
    return len(ready)
