"""A race: several ways to fill the roles run the same study, each for itself, under equal budgets.

Invariant: what is compared was measured at the end, on seeds that no arm has seen, with the common
baseline beside it on the same seeds; what an arm believes of its own gain decides nothing. Each arm
and seed is a lab run of its own, with its own masters, journal and budget; its course is the one
that it would have had alone, for only the slots are shared. A race of which an arm has failed has
its report, and fails itself: the arm can then be tried again, and all else is kept.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from manyhands.errors import ChildrenFailed, ConfigError, StepFailed
from manyhands.ports import JobRunner
from manyhands.runtime import Budget, Run, RunState, Status
from manyhands.teams.lab.cast import Cast
from manyhands.teams.lab.contest import compare
from manyhands.teams.lab.measure import measure
from manyhands.teams.lab.opening import open_lab
from manyhands.teams.lab.preflight import program
from manyhands.teams.lab.race_records import Lane, RaceOrder, RaceOutcome, Step
from manyhands.teams.lab.records import Measurement, Phase
from manyhands.teams.lab.state import Lab, Order, Pool
from manyhands.teams.lab.study import load_study
from manyhands.teams.lab.view import LabView

#: The arms that have no model, and what they say of the planner.
PLAIN = ("random", "tpe", "cmaes")
#: The arms that have one, and the roles that it fills. A team's planner is a hybrid.
TEAMS = {
    "single": ("planner", "worker"),
    "advised": ("planner", "worker"),
    "hybrid": ("planner", "worker"),
    "team": ("researcher", "planner", "reviewer", "worker", "memory"),
}
ROLES = ("researcher", "planner", "reviewer", "worker", "memory", "reporter")
#: The first of the seeds on which the masters are judged: no study counts this far.
JUDGED_FROM = 1_900_000_000


# ---------------------------------------------------------------- arms


def roles_of_arm(arm: str) -> dict[str, str]:
    """Role -> who fills it, for every role. Raises `ConfigError` for what is no arm."""
    how, _, model = arm.partition(":")
    plain = dict.fromkeys(ROLES, "algorithm")
    if how in PLAIN and not model:
        return plain | {"planner": f"algorithm:{how}"}
    if how in TEAMS and model:
        planner = f"{'hybrid' if how == 'team' else how}:{model}"
        return plain | dict.fromkeys(TEAMS[how], model) | {"planner": planner}
    forms = ", ".join([*PLAIN, *(f"{name}:MODEL" for name in TEAMS)])
    raise ConfigError(f"arm {arm!r}", next=f"write --arms with two or more of {forms}")


def check_race(order: RaceOrder) -> None:
    """Raises `ConfigError` for what could not be compared."""
    for arm in order.arms:
        roles_of_arm(arm)
    if len(set(order.arms)) < max(2, len(order.arms)):
        twice = next((a for a in order.arms if order.arms.count(a) > 1), "")
        what = f"arm {twice!r} stands there twice" if twice else f"arms: {', '.join(order.arms)}"
        raise ConfigError(what, next="name two or more, each once, with commas between them")


def order_of(order: RaceOrder, race: str, arm: str, seed: int) -> Order:
    """What an arm's run is ordered to do. It ends by its budget, by no plateau."""
    return Order(
        study=order.study,
        seed=seed,
        runs=order.runs,
        slots=order.slots,
        plateau=1_000_000,
        campaign=f"race {race}: {arm}",
        models=roles_of_arm(arm),
        race=race,
        **_where(order),
    )


def own_order(order: RaceOrder, race: str) -> Order:
    """What the race itself has done, for the baseline's data and the judgement."""
    return Order(
        study=order.study,
        runs=order.runs,
        slots=order.slots,
        campaign=f"race {race}",
        race=race,
        **_where(order),
    )


def _where(order: RaceOrder) -> dict[str, Any]:
    return {name: getattr(order, name) for name in ("hub", "ssh", "slurm", "cache")}


def lane_id(race: str, arm: str, seed: int, arms: Sequence[str]) -> str:
    """The run id of an arm at a seed, readable and unique within the race."""
    word = re.sub(r"[^A-Za-z0-9]+", "-", arm).strip("-")[:40]
    same = [a for a in arms if re.sub(r"[^A-Za-z0-9]+", "-", a).strip("-")[:40] == word]
    return f"{race}-{word}{f'-{same.index(arm)}' if same.index(arm) else ''}-{seed}"


def lane_ids(race: str, order: RaceOrder) -> list[str]:
    """The run ids of all arms at all seeds."""
    return [lane_id(race, arm, seed, order.arms) for seed in _seeds(order) for arm in order.arms]


# ---------------------------------------------------------------- the race


async def race(run: Run, order: RaceOrder, *, jobs: JobRunner, cast: Cast, pool: Pool) -> Any:
    """All arms at all seeds at once, then the judgement. ``cast``: for the baseline's data alone;
    ``pool``: the slots that all of them share. Raises `ChildrenFailed`, after its report, where an
    arm has failed."""
    from manyhands.teams.lab.race_page import (  # noqa: PLC0415 - heavy: matplotlib
        failed_next,
        failed_told,
        write_race,
    )

    study = load_study(Path(order.study))
    state = await open_lab(run, own_order(order, run.id), study, jobs, cast, pool)
    lanes = await run.map(
        "lanes",
        lambda scope, each: _lane(scope, order, run.id, state.base, *each),
        [(arm, seed) for seed in _seeds(order) for arm in order.arms],
        key_of=lambda each: _key(order, *each),
    )
    child = {lane.run: f"lanes/{_key(order, lane.arm, lane.seed)}/run" for lane in lanes}
    again = _again(sum(map(run.retries, child.values())))
    # A stop has ended the arms; what they found is still judged, and none is tried again.
    if await run.stopping(f"stop{again}"):
        lanes = [lane.model_copy(update={"resumable": False}) for lane in lanes]
    lanes = await judge(run, state, order, lanes)
    outcome = _outcome(order, state, lanes)
    now = await run.now(f"ended{again}")
    folder = state.places.run
    work = partial(asyncio.to_thread, write_race, outcome, folder, run.id, now)
    page, *plots = await run.step(f"report{again}", work)
    outcome = outcome.model_copy(update={"report": page, "plots": tuple(plots)})
    await run.record(f"race{again}", "lab:race", outcome.model_dump(mode="json"))
    if outcome.failed:
        keys = [child[lane.run] for lane in outcome.failed if lane.resumable]
        raise ChildrenFailed(keys, failed_told(outcome), next=failed_next(outcome, run.id))
    return outcome


def _key(order: RaceOrder, arm: str, seed: int) -> str:
    return f"{order.arms.index(arm)}-{seed}"


def _again(tries: int) -> str:
    """The end of the keys of what is made anew after arms were tried again so often."""
    return f"-{tries}" if tries else ""


def _seeds(order: RaceOrder) -> range:
    return range(order.seed, order.seed + order.seeds)


async def _lane(run: Run, order: RaceOrder, race: str, base: str, arm: str, seed: int) -> Lane:
    """Run one arm at one seed; what its journal tells, however it ended."""
    id = lane_id(race, arm, seed, order.arms)
    asked = order_of(order, race, arm, seed)
    budget = Budget(tokens=order.tokens, usd=order.usd)
    state = ""
    try:
        await run.child("run", "lab", asked, run_id=id, budget=budget)
    except StepFailed as error:
        state = f"{error.kind}: {error.message}"[:400]
    again = _again(run.retries("run"))
    work = partial(_told, run, arm, seed, id, state, base)
    lane: Lane = await run.step(f"told{again}", work, returns=Lane)
    about = {"arm": arm, "seed": seed, "run": id, "runs": lane.runs, "state": lane.state}
    await run.record(f"lane{again}", "lab:lane", about | {"promotions": len(lane.steps) - 1})
    return lane


def _told(run: Run, arm: str, seed: int, id: str, state: str, base: str) -> Lane:
    """Fold the journal of an arm's run. One without a baseline has the common one alone."""
    view, spend = LabView(id), RunState(id)
    steps: list[Step] = []
    for event, value in run.history(id):
        spend.apply(event)
        view.apply(event, value if event.type.startswith("lab:") else None)
        if event.type == "lab:master":
            master = view.masters[-1]
            at = len(view.measurements) if steps else 0
            steps.append(Step(runs=at, commit=master.commit, program=""))
    # A run that was stopped before it had anything is over for good.
    resumable = bool(state) and spend.status is not Status.STOPPED
    if steps and steps[0].commit != base:
        resumable = False
        state = state or f"it began at {steps[0].commit[:10]}, not at {base[:10]} as the race"
    spent = spend.spent()
    return Lane(
        arm=arm,
        seed=seed,
        run=id,
        state=state,
        runs=len(view.measurements),
        experiments=len(view.experiments),
        seconds=sum(m.duration for m in view.measurements),
        tokens=spent["tokens"],
        usd=spent["micro_usd"] / 1e6 + sum(m.cost_usd for m in view.measurements),
        steps=tuple(steps) or (Step(runs=0, commit=base, program=""),),
        resumable=resumable,
    )


# ---------------------------------------------------------------- the judgement


async def judge(run: Run, lab: Lab, order: RaceOrder, lanes: Sequence[Lane]) -> list[Lane]:
    """Measure every master of every arm, and the baseline, on the same fresh seeds. Equal programs
    are measured once."""
    commits = list(dict.fromkeys([lab.base, *(s.commit for each in lanes for s in each.steps)]))
    names = {c: await run.step(f"program/{c[:12]}", partial(_program, lab, c)) for c in commits}
    first = {name: commit for commit, name in reversed(names.items())}
    seeds = range(JUDGED_FROM, JUDGED_FROM + order.judges)
    found = await run.map(
        "judge",
        lambda scope, each: measure(scope, lab, each[0], each[1], Phase.CONFIRM, holdout=True),
        [(commit, seed) for commit in first.values() for seed in seeds],
        key_of=lambda each: f"{each[0][:12]}-{each[1]}",
    )
    lab.count(found)
    by_program: dict[str, list[Measurement]] = {name: [] for name in first}
    for measured in found:
        by_program[names[measured.candidate]].append(measured)
    base = by_program[names[lab.base]]
    told = {name: _gains(lab.sign, base, mine) for name, mine in by_program.items()}
    return [
        lane.model_copy(
            update={
                "steps": tuple(
                    s.model_copy(
                        update={
                            "program": names[s.commit],
                            "gain": told[names[s.commit]][0],
                            "holdout": told[names[s.commit]][1],
                        }
                    )
                    for s in lane.steps
                )
            }
        )
        for lane in lanes
    ]


async def _program(lab: Lab, commit: str) -> str:
    return program(lab.study, await lab.repository.texts(commit))


def _gains(
    sign: float, base: Sequence[Measurement], mine: Sequence[Measurement]
) -> tuple[float | None, float | None]:
    """Mean gains over the seeds where both gave a number: of the metric, of the sealed split."""
    before = {m.seed: m for m in base}
    metric = [
        sign * (m.metric - b)
        for m in mine
        if m.metric is not None and (b := before[m.seed].metric) is not None
    ]
    sealed = [
        sign * (m.holdout - b)
        for m in mine
        if m.holdout is not None and (b := before[m.seed].holdout) is not None
    ]
    return fmean(metric) if metric else None, fmean(sealed) if sealed else None


def _outcome(order: RaceOrder, lab: Lab, lanes: Sequence[Lane]) -> RaceOutcome:
    limits = {
        "runs": float(order.runs or lab.study.config.budget.runs),
        "tokens": order.tokens,
        "usd": order.usd,
    }
    gains = {a: {str(x.seed): x.gain for x in lanes if x.arm == a} for a in order.arms}
    return RaceOutcome(
        study=lab.study.name,
        metric=lab.study.config.metric.name,
        direction=lab.study.config.metric.direction,
        arms=order.arms,
        seeds=order.seeds,
        budget={name: value for name, value in limits.items() if value is not None},
        lanes=tuple(lanes),
        comparisons=compare(gains),
        judges=order.judges,
        judged=lab.runs,
    )
