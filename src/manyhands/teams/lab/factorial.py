"""Pairs of changes with and without each other, and near misses that may win together.

A factorial of two changes measures four programs on the same seeds: both, each alone, neither. The
interaction of a seed is both - first - second + neither (as in Fisher, "The Design of Experiments",
1935); without one it is as likely to carry the other sign, so the gate's interval bounds it, at
every look, and all factorials of a campaign share one error rate (Bonferroni). A pair with a near
miss in it is at the same time a candidate: both against the master, under the promotion gate as it
stands, on seeds that no selection has seen. If it passes, it is promoted as one change.

Invariant: which pairs are measured, and how many may be, is settled before any of them is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

from manyhands.runtime import Run
from manyhands.teams.lab.experiment import ledger_rows, settle
from manyhands.teams.lab.gate import CRASHED, GateSettings, decide, gate_at, interval, next_pairs
from manyhands.teams.lab.lineage import combined, editable, together, without
from manyhands.teams.lab.measure import measure
from manyhands.teams.lab.preflight import program
from manyhands.teams.lab.promotion import (
    MASTER_RETRIES,
    only_on_validation,
    promote,
    undecided,
    usable,
)
from manyhands.teams.lab.records import (
    Experiment,
    Factorial,
    Hypothesis,
    Measurement,
    Phase,
    Verdict,
)
from manyhands.teams.lab.state import Candidate, Lab, Pair

#: So many near misses are looked at, the closest first.
NEAREST = 4
#: A change came close if its confirmation, or else its screening, showed so many noise standard
#: deviations of gain.
CLOSE = (0.25, 1.0)
_ARMS = ("both", "first", "second", "neither")


@dataclass(slots=True)
class _Plan:
    """``commits``: by arm. ``candidate``: to be put to the promotion gate, against the arm
    ``master`` (None: both changes are the master's already)."""

    first: Experiment
    second: Experiment
    kind: str
    master: str = ""
    commits: dict[str, str] = field(default_factory=dict[str, str])
    candidate: Candidate | None = None
    runs: dict[str, dict[int, Measurement]] = field(
        default_factory=lambda: {arm: dict[int, Measurement]() for arm in _ARMS}
    )
    why: str = ""

    @property
    def name(self) -> str:
        return f"{self.first.id}-{self.second.id}"

    @property
    def fresh(self) -> tuple[Experiment, ...]:
        """Those of the two that the master does not have."""
        both = (self.first, self.second)
        return {"promoted": (), "near misses": both}.get(self.kind, (self.first,))


async def combine(run: Run, lab: Lab) -> None:
    """Measure pairs within the runs that are left; what was found is in ``lab.factorials``."""
    rules = lab.study.config.ablation
    least = len(_ARMS) * gate_at(rules.alpha / 2, rules.interaction_seeds).first
    count = min(rules.interactions, lab.runs_left // least)
    if count < 1:
        return
    async with run.scope("interactions") as scope:
        await scope.record("begun", "lab:phase", {"phase": "interactions"})
        settings = gate_at(rules.alpha / 2 / count, rules.interaction_seeds)
        won: set[str] = set()
        for number, (first, second, kind) in enumerate(_pairs(lab)[:count]):
            if await scope.stopping(f"stop-{number}") and not rules.when_stopped:
                break
            plan = _Plan(first, second, kind)
            # A near miss that won in an earlier pair is in the master now.
            if lab.runs_left >= least and not won & {e.id for e in plan.fresh}:
                async with scope.scope(f"pair-{plan.name}") as desk:
                    await _pair(desk, lab, plan, settings)
            if plan.candidate is not None and plan.candidate.verdict is Verdict.PROMOTED:
                won |= {e.id for e in plan.fresh}


# ---------------------------------------------------------------- which pairs


def near_misses(lab: Lab) -> list[Experiment]:
    """Changes that came close and were not promoted, the closest first."""
    found = [(closeness(e, lab.master.noise_sd), e) for e in lab.history]
    ranked = sorted(((c, e) for c, e in found if c > 0), key=lambda ce: (-ce[0], ce[1].id))
    return [e for _, e in ranked][:NEAREST]


def closeness(experiment: Experiment, noise_sd: float) -> float:
    """How near it came, in noise standard deviations; 0 for what did not come near."""
    if not experiment.candidate or noise_sd <= 0:
        return 0.0
    decision = experiment.decision
    if experiment.verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_BETTER) and decision is not None:
        # Few pairs say little: what they show is shrunk towards nothing.
        shown = decision.gain / noise_sd * decision.pairs / (decision.pairs + 2)
        return shown if decision.pairs and shown >= CLOSE[0] else 0.0
    if experiment.verdict in (Verdict.INCONCLUSIVE, Verdict.STALE):
        shown = (experiment.screen_gain or 0.0) / noise_sd / 3
        return shown if 3 * shown >= CLOSE[1] else 0.0
    return 0.0


def _pairs(lab: Lab) -> list[tuple[Experiment, Experiment, str]]:
    """Near misses with one another, then with what was promoted after them, then promoted ones."""
    near, promoted = near_misses(lab), lab.surviving
    order = {e.id: at for at, e in enumerate(lab.history)}
    gains = {e.id: e.decision.gain if e.decision else 0.0 for e in promoted}
    found = [(a, b, "near misses") for a, b in combinations(near, 2)]
    for miss in near:
        later = [e for e in promoted if order[e.id] > order[miss.id]]
        if later:
            best = max(later, key=lambda e: gains[e.id])
            found.append((miss, best, "near miss and promoted"))
    strongest = sorted(promoted, key=lambda e: (-gains[e.id], e.id))
    found += [(a, b, "promoted") for a, b in combinations(strongest, 2)]
    return [(a, b, kind) for a, b, kind in found if combined(a.hypothesis, b.hypothesis)]


async def _commits(run: Run, lab: Lab, plan: _Plan) -> str:
    """Make the four programs; why that cannot be done, or ''."""
    now, first, second = lab.master.commit, plan.first, plan.second
    wanted = {
        "promoted": {
            "both": (now, (), ()),
            "first": (now, (second,), ()),
            "second": (now, (first,), ()),
            "neither": (now, tuple(e for e in lab.surviving if e in (first, second)), ()),
        },
        "near misses": {
            "both": (now, (), (first, second)),
            "first": (now, (), (first,)),
            "second": (now, (), (second,)),
            "neither": (now, (), ()),
        },
        "near miss and promoted": {
            "both": (now, (), (first,)),
            "first": (now, (second,), (first,)),
            "second": (now, (), ()),
            "neither": (now, (second,), ()),
        },
    }[plan.kind]
    plan.master = next(arm for arm, (_, out, add) in wanted.items() if not out and not add)
    for arm, (commit, out, add) in wanted.items():
        async with run.scope(arm) as scope:
            made = commit
            for change, makes in ((out, without), (add, together)):
                if change:
                    result = await makes(scope, lab, made, change)
                    if not result.commit:
                        return result.why
                    made = result.commit
            plan.commits[arm] = made
            lab.made.setdefault(made, (first.id, first.hypothesis.id, now))
    return ""


# ---------------------------------------------------------------- one pair


async def _pair(run: Run, lab: Lab, plan: _Plan, settings: GateSettings) -> None:
    plan.why = await _commits(run, lab, plan)
    if not plan.why and plan.kind != "promoted":
        plan.why = await _candidate(run, lab, plan)
    if not plan.why:
        if plan.candidate is not None:
            await _contest(run, lab, plan, plan.candidate, settings)
        else:
            await _alone(run, lab, plan, settings)
    found = _found(lab, plan, settings)
    lab.factorials.append(found)
    await run.record(
        "factorial",
        "lab:factorial",
        {"first": found.first, "second": found.second, "seeds": found.seeds},
        value=found.model_dump(mode="json"),
    )


async def _candidate(run: Run, lab: Lab, plan: _Plan) -> str:
    """The combination as an experiment of its own; why it can be none, or ''."""
    commit, fresh = plan.commits["both"], plan.fresh
    files = await run.step("files", partial(editable, lab), commit)
    mark = program(lab.study, files)
    if plan.kind == "near misses" and mark in lab.seen:
        return f"together they are the program of {lab.seen[mark]}"
    lab.experiments += 1
    lab.hypotheses += 1
    names = " and ".join(e.id for e in fresh)
    hypothesis = Hypothesis(
        id=f"h{lab.hypotheses:04d}",
        title=" + ".join(e.hypothesis.title for e in fresh)
        + (" together" if len(fresh) > 1 else f" beside {plan.second.id}"),
        rationale=f"{names} came close and {'were' if len(fresh) > 1 else 'was'} not promoted",
        kind="structural",
        parent=lab.master.commit,
        instructions=f"make the changes of {names}",
        source=f"{names}, combined at the end of the campaign",
        citation=fresh[0].hypothesis.citation if len(fresh) == 1 else None,
    )
    candidate = Candidate(f"e{lab.experiments:04d}", hypothesis, lab.master.commit, commit, files)
    candidate.fingerprint = mark
    candidate.new = f"not a duplicate: {names} on the present master"
    lab.seen.setdefault(mark, candidate.id)
    lab.made[commit] = (candidate.id, hypothesis.id, candidate.parent)
    candidate.diff = await run.step("diff", lab.repository.diff, lab.master.commit, commit)
    plan.candidate = candidate
    return ""


async def _contest(
    run: Run, lab: Lab, plan: _Plan, candidate: Candidate, settings: GateSettings
) -> None:
    """Both against the master until the promotion gate decides; the other two arms beside them."""
    gate, count = lab.gate, 0
    seeds = lab.more_seeds(2 * gate.max_pairs + settings.max_pairs)
    while True:
        pairs = _paired(plan)
        good = [p for p in pairs if usable(p)]
        gains = [CRASHED if (g := p.gain(lab.sign)) is None else g for p in good]
        if (decision := decide(gate, gains)) is not None:
            break
        more = seeds[count : count + next_pairs(gate, gains)]
        arms = _ARMS if count < settings.max_pairs else ("both", plan.master)
        if len(arms) * len(more) > lab.runs_left or len(pairs) - len(good) > MASTER_RETRIES:
            why = f"{len(arms) * len(more)} more runs were needed, {lab.runs_left} were left"
            decision = undecided(gate, gains, why)
            break
        await _look(run, lab, plan, f"look-{count}", arms, more, counted=True)
        count += len(more)
    candidate.decide(decision, pairs, lab.sign)
    if candidate.verdict is Verdict.PROMOTED:
        if told := only_on_validation(pairs, lab.sign):
            candidate.reject("trained-on-validation", told)
        elif not await promote(run, lab, candidate, pairs):
            candidate.end(Verdict.STALE, "stale-parent", "another program is the master now")
        else:
            await _further(run, lab, plan, settings, seeds, count)
    others = [m for arm in _ARMS for m in plan.runs[arm].values() if m.phase is Phase.FACTORIAL]
    candidate.measured += [(m, None) for m in others]
    await settle(run, lab, candidate)


def _paired(plan: _Plan) -> list[Pair]:
    both, master = plan.runs["both"], plan.runs[plan.master]
    return [Pair(seed, master[seed], both[seed]) for seed in both if seed in master]


async def _alone(run: Run, lab: Lab, plan: _Plan, settings: GateSettings) -> None:
    """Two of the master's own changes."""
    await _further(run, lab, plan, settings, lab.more_seeds(settings.max_pairs), 0)
    hypothesis = plan.first.hypothesis.model_copy(
        update={"title": f"with and without {plan.first.id} and {plan.second.id}"}
    )
    told = Candidate(plan.first.id, hypothesis, lab.master.commit)
    told.end(Verdict.MEASURED, "", "")
    told.measured = [(m, None) for arm in _ARMS for m in plan.runs[arm].values()]
    if told.measured:
        await ledger_rows(run, lab, told.record(), told)


async def _further(
    run: Run, lab: Lab, plan: _Plan, settings: GateSettings, seeds: Sequence[int], count: int
) -> None:
    """All four arms on further ``seeds``, of which ``count`` are used, until there is evidence of
    an interaction, or ``settings`` or the runs are at their end."""
    for look in settings.looks:
        if look < settings.first or look <= count:
            continue
        more = seeds[count:look]
        if len(_ARMS) * len(more) > lab.runs_left:
            plan.why = f"{len(_ARMS) * len(more)} more runs were needed, {lab.runs_left} were left"
            return
        if _found(lab, plan, settings).evidence:
            return
        await _look(run, lab, plan, f"look-{count}", _ARMS, more, counted=False)
        count = look


async def _look(
    run: Run,
    lab: Lab,
    plan: _Plan,
    key: str,
    arms: Sequence[str],
    seeds: Sequence[int],
    *,
    counted: bool,
) -> None:
    """``counted``: the runs of both and of the master decide on a promotion."""
    deciding = ("both", plan.master) if counted else ()
    items = [(arm, seed) for seed in seeds for arm in arms]

    async def one(scope: Run, item: tuple[str, int]) -> Measurement:
        arm, seed = item
        phase = Phase.CONFIRM if arm in deciding else Phase.FACTORIAL
        sealed = arm in deciding
        return await measure(
            scope, lab, plan.commits[arm], seed, phase, holdout=sealed, slot=lab.pin(seed)
        )

    found = await run.map(key, one, items, key_of=lambda item: f"{item[0]}-{item[1]}")
    lab.count(found)
    for (arm, seed), measured in zip(items, found, strict=True):
        plan.runs[arm][seed] = measured


def _interactions(lab: Lab, plan: _Plan) -> Iterator[float]:
    for seed in plan.runs["both"]:
        found = [plan.runs[arm][seed] for arm in _ARMS if seed in plan.runs[arm]]
        known = [m.metric for m in found if m.metric is not None]
        if len(known) == len(_ARMS) and len({m.host for m in found}) == 1:
            both, first, second, neither = known
            yield lab.sign * (both - first - second + neither)


def _found(lab: Lab, plan: _Plan, settings: GateSettings) -> Factorial:
    values = list(_interactions(lab, plan))[: settings.max_pairs]
    low, high = interval(settings, values) if values else (None, None)
    return Factorial.model_validate(
        {
            "first": plan.first.id,
            "second": plan.second.id,
            "titles": (plan.first.hypothesis.title, plan.second.hypothesis.title),
            "kind": plan.kind,
            "seeds": len(values),
            "interaction": sum(values) / len(values) if values else None,
            "low": low,
            "high": high,
            "level": 1 - 2 * settings.alpha,
            "experiment": plan.candidate.id if plan.candidate else "",
            "why": plan.why or (plan.candidate.comment if plan.candidate else ""),
        }
    )
