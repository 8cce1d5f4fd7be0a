"""Leave-one-out at the end of a campaign: what the final master does not need is taken out.

Each promoted change is taken out by itself, and the master is compared with what remains on fresh
seeds, all on the same ones, so that the master runs once per seed. The question is one-sided: is
the master still better with the change? Each is asked by the gate (`gate`), and Holm's correction
lets a change that does nothing pass with at most 0.4 alpha, however many there are. What is not
shown to help is taken out together, and a second gate on further seeds asks whether the master is
better than that; if it is, the change that looked most needed is put back and the rest asked again.
So a true change is lost only if two tests miss it, and a useless one stays only if one errs.

Invariant: the master moves only from a program to one that a test on fresh seeds has not shown to
be worse, by compare-and-swap; and no more runs are used than are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from manyhands.runtime import Run
from manyhands.teams.lab.experiment import ledger_rows
from manyhands.teams.lab.gate import decide, gate_at, holm, interval, next_pairs
from manyhands.teams.lab.lineage import editable, without
from manyhands.teams.lab.measure import measure
from manyhands.teams.lab.promotion import MASTER_RETRIES, Contest, compare, crown
from manyhands.teams.lab.records import (
    Ablated,
    Ablation,
    Experiment,
    GateDecision,
    Measurement,
    Phase,
    Verdict,
)
from manyhands.teams.lab.state import (
    LEAST_TO_CONFIRM,
    TEST_SHARE,
    Candidate,
    Lab,
    Pair,
    ablation_gate,
)

#: Why a study is over that a person has stopped.
STOPPED = "stopped by a person"
#: The experiment that a master without what was dropped is said to come from.
ABLATION = "ablation"


@dataclass(slots=True)
class _Trial:
    """One change, taken out. In a pair ``master`` is the run without it, ``candidate`` the
    master's own. ``fate`` is '' while it is being measured."""

    change: Experiment
    commit: str
    fate: str = ""
    why: str = ""
    decision: GateDecision | None = None
    pairs: list[Pair] = field(default_factory=list[Pair])

    def gains(self, sign: float) -> list[float]:
        return [g for p in self.pairs if (g := p.gain(sign)) is not None]

    def looks_needed(self, sign: float) -> float:
        """The higher, the more it looks needed: by the runs so far, or else by its promotion's."""
        gains = self.gains(sign)
        if gains:
            return sum(gains) / len(gains)
        decision = self.change.decision
        return decision.gain if decision is not None else 0.0

    def end(self, fate: str, why: str) -> None:
        self.fate, self.why = fate, why

    def line(self, lab: Lab) -> Ablated:
        gains = self.gains(lab.sign)
        rules = lab.study.config.ablation
        low, high = interval(gate_at(rules.alpha, rules.max_pairs), gains) if gains else (None,) * 2
        return Ablated.model_validate(
            {
                "experiment": self.change.id,
                "title": self.change.hypothesis.title,
                "fate": self.fate,
                "why": self.why,
                "gains": tuple(gains),
                "low": low,
                "high": high,
                "p_value": self.decision.p_value if self.decision else None,
            }
        )


async def ending(run: Run, lab: Lab, reason: str) -> bool:
    """The rounds are over: whether the campaign's end is measured, with what was held back."""
    rules, why = lab.study.config.ablation, ""
    lab.ending = True
    if not rules.enabled:
        why = "it is switched off in study.toml"
    elif reason == STOPPED and not rules.when_stopped:
        why = "a person stopped the campaign"
    await run.record(
        "ending", "lab:phase", {"phase": "ending" if why else "ablation", "reason": reason}
    )
    if why:
        lab.ablation = Ablation(master=lab.master.commit, skipped=why, left=lab.runs_left)
        await _record(run, lab.ablation)
    return not why


async def ablate(run: Run, lab: Lab) -> None:
    """Take out what is not needed; what was found is in ``lab.ablation`` and in the journal."""
    async with run.scope("ablation") as scope:
        if lab.surviving:
            await _ablate(scope, lab)
        else:
            why = "nothing was promoted"
            lab.ablation = Ablation(master=lab.master.commit, skipped=why, left=lab.runs_left)
            await _record(scope, lab.ablation)


async def _ablate(run: Run, lab: Lab) -> None:
    before, left, master = lab.runs, lab.runs_left, lab.master.commit
    trials = [await _begin(run, lab, change) for change in lab.surviving]
    await _measure(run, lab, trials)
    reduced, decision, measured = await _confirm(run, lab, trials)
    await _rows(run, lab, trials)
    if reduced and not await _move(run, lab, reduced, measured):
        _give_up([t for t in trials if t.fate == "dropped"], "another program is the master now")
        reduced = ""
    lab.ablation = Ablation(
        master=master,
        reduced=reduced,
        lines=tuple(trial.line(lab) for trial in trials),
        confirmation=decision,
        alpha=lab.study.config.ablation.alpha,
        runs=lab.runs - before,
        left=left,
    )
    await _record(run, lab.ablation)


async def _record(run: Run, found: Ablation) -> None:
    await run.record(
        "ablation",
        "lab:ablation",
        {"dropped": sum(line.fate == "dropped" for line in found.lines), "runs": found.runs},
        value=found.model_dump(mode="json"),
    )


async def _begin(run: Run, lab: Lab, change: Experiment) -> _Trial:
    async with run.scope(f"out-{change.id}") as scope:
        made = await without(scope, lab, lab.master.commit, (change,))
    trial = _Trial(change, made.commit)
    if not made.commit:
        trial.end("inseparable", made.why)
    else:
        lab.made[made.commit] = (change.id, change.hypothesis.id, lab.master.commit)
    return trial


# ---------------------------------------------------------------- leave one out


async def _measure(run: Run, lab: Lab, trials: Sequence[_Trial]) -> None:
    """Seeds for all trials side by side until each is decided, or the runs are used up."""
    open_ = [t for t in trials if not t.fate]
    first = ablation_gate(lab.study, max(1, len(open_))).first
    _shed(lab, open_, first, LEAST_TO_CONFIRM, least=1)
    asked = [t for t in open_ if not t.fate]
    if not asked:
        return
    settings = ablation_gate(lab.study, len(asked))
    look = 0
    while open_ := [t for t in asked if not t.fate]:
        if await run.stopping(f"stop-{look}") and not lab.study.config.ablation.when_stopped:
            for trial in open_:
                trial.end("undecided", "stopped by a person before it was decided")
            break
        more = max(next_pairs(settings, t.gains(lab.sign)) for t in open_)
        # What is decided and not shown to help is worth more runs than to show another's worth:
        # what is undecided stays, as what is shown to help does.
        drops = any(t.decision and t.decision.verdict == "not_better" for t in asked)
        _shed(lab, open_, more, lab.least_ablation if drops else LEAST_TO_CONFIRM)
        open_ = [t for t in open_ if not t.fate]
        await _look(run, lab, f"look-{look}", open_, lab.more_seeds(more) if open_ else [])
        look += 1
        for trial in open_:
            _judge(lab, trial, partial(decide, settings))
    _verdicts(lab, asked)


def _shed(lab: Lab, open_: list[_Trial], seeds: int, held: int, *, least: int = 0) -> None:
    """Give up those that look most needed until the runs left do for ``seeds`` more of the rest,
    or ``least`` of them are left. ``held``: runs that are kept for confirming a drop."""
    left = lab.runs_left - held
    waiting = sorted(open_, key=lambda t: (t.looks_needed(lab.sign), t.change.id))
    while len(waiting) > least and (1 + len(waiting)) * seeds > left:
        trial = waiting.pop()
        need = (1 + len(waiting) + 1) * seeds + held
        trial.end("undecided", f"{need} more runs were needed, {max(lab.runs_left, 0)} were left")


async def _look(
    run: Run, lab: Lab, key: str, open_: Sequence[_Trial], seeds: Sequence[int]
) -> None:
    programs = {"master": lab.master.commit} | {t.change.id: t.commit for t in open_}
    arms = [(name, seed) for seed in seeds for name in programs]

    async def arm(scope: Run, item: tuple[str, int]) -> Measurement:
        return await measure(
            scope, lab, programs[item[0]], item[1], Phase.ABLATE, slot=lab.pin(item[1])
        )

    measured = await run.map(key, arm, arms, key_of=lambda item: f"{item[0]}-{item[1]}")
    lab.count(measured)
    found = dict(zip(arms, measured, strict=True))
    for trial in open_:
        pairs = [Pair(seed, found[trial.change.id, seed], found["master", seed]) for seed in seeds]
        trial.pairs += [pair for pair in pairs if not pair.mixed]


def _judge(lab: Lab, trial: _Trial, gate: partial[GateDecision | None]) -> None:
    """End what is decided. A run without the change that fails is no pair, but tells something."""
    failed = [p for p in trial.pairs if p.gain(lab.sign) is None]
    alone = [p for p in failed if p.master.metric is None and p.candidate.metric is not None]
    if alone and (len(alone) == len(trial.pairs) or len(alone) > MASTER_RETRIES):
        why = f"without it {len(alone)} of {len(trial.pairs)} runs gave no metric"
        trial.end("kept", f"{why}: {alone[-1].master.exit}")
    elif len(failed) > MASTER_RETRIES:
        trial.end("undecided", f"{len(failed)} of {len(trial.pairs)} pairs have a failed run")
    else:
        trial.decision = gate(trial.gains(lab.sign))
        if trial.decision is not None:
            trial.fate = "decided"


def _verdicts(lab: Lab, asked: Sequence[_Trial]) -> None:
    """What Holm's correction over all that were asked says of those that were decided."""
    alpha = TEST_SHARE * lab.study.config.ablation.alpha
    shown = holm([t.decision for t in asked], alpha)
    for trial, needed in zip(asked, shown, strict=True):
        if trial.fate == "decided":
            gain = trial.looks_needed(lab.sign)
            told = f"gain {gain:+.4g} with it over {len(trial.gains(lab.sign))} seeds"
            trial.end(
                "kept" if needed else "dropped",
                f"shown to help: {told}" if needed else f"not shown to help: {told}",
            )


# ---------------------------------------------------------------- all of it at once


async def _confirm(
    run: Run, lab: Lab, trials: Sequence[_Trial]
) -> tuple[str, GateDecision | None, list[Measurement]]:
    """The program without all that seems unneeded, if the master is not shown to be better."""
    out = [t for t in trials if t.fate == "dropped"]
    back: list[_Trial] = []
    while out:
        result = await _against(run, lab, f"confirm-{len(back)}", out)
        if not isinstance(result, str):
            return await _once_more(run, lab, out, back, result)
        if result != WORSE:
            _give_up(out, result)
            return "", None, []
        last = max(out, key=lambda t: (t.looks_needed(lab.sign), t.change.id))
        last.end("kept", "put back: without it and what else was out the program was worse")
        out.remove(last)
        back.append(last)
    return await _once_more(run, lab, out, back, ("", None, []))


#: What `_against` says where the master was shown to be better.
WORSE = "worse"
_Result = tuple[str, GateDecision | None, list[Measurement]]


async def _once_more(
    run: Run, lab: Lab, out: list[_Trial], back: Sequence[_Trial], result: _Result
) -> _Result:
    """What was put back before the last may have been put back in its place: ask each again."""
    for trial in back[:-1]:
        found = await _against(run, lab, f"again-{trial.change.id}", [*out, trial])
        if not isinstance(found, str):
            trial.end("dropped", "not shown to help, alone or beside the others that are out")
            out.append(trial)
            result = found
    return result


def _give_up(out: Sequence[_Trial], why: str) -> None:
    for trial in out:
        trial.end("undecided", f"{trial.why}; not taken out, for {why}")


async def _against(run: Run, lab: Lab, key: str, out: Sequence[_Trial]) -> _Result | str:
    """The program without all of ``out`` and the test that it passed; or why it did not."""
    async with run.scope(key) as scope:
        changes = [e for e in lab.surviving if any(t.change.id == e.id for t in out)]
        made = await without(scope, lab, lab.master.commit, changes)
        if not made.commit:
            return f"together {made.why}"
        lab.made[made.commit] = (changes[0].id, changes[0].hypothesis.id, lab.master.commit)
        settings = ablation_gate(lab.study, 1)
        contest = Contest(settings, lab.master.commit, made.commit, Phase.ABLATE)
        seeds = lab.more_seeds(2 * settings.max_pairs)
        decision, pairs = await compare(
            scope, lab, contest, lambda used, count: seeds[used : used + count], lab.runs_left
        )
        lab.count(m for pair in pairs for m in pair.both)
        verdict = Verdict.KEPT if decision.verdict == "promoted" else Verdict.MEASURED
        await _told(scope, lab, changes, made.commit, verdict, pairs, set())
    if decision.verdict == "promoted":
        return WORSE
    if not decision.looks or any(p.candidate.metric is None for p in pairs):
        return f"this could not be confirmed: {decision.reason}"
    return made.commit, decision, [p.master for p in pairs]


async def _move(run: Run, lab: Lab, reduced: str, measured: Sequence[Measurement]) -> bool:
    files = await run.step("reduced-files", partial(editable, lab), reduced)
    return await crown(run, lab, ABLATION, reduced, files, measured)


# ---------------------------------------------------------------- the ledger

_VERDICTS = {"kept": Verdict.KEPT, "dropped": Verdict.DROPPED}


async def _rows(run: Run, lab: Lab, trials: Sequence[_Trial]) -> None:
    """One row per run of the leave-one-out. The master's run on a seed stands once."""
    told: set[str] = set()
    for trial in trials:
        verdict = _VERDICTS.get(trial.fate, Verdict.INCONCLUSIVE)
        await _told(run, lab, [trial.change], trial.commit, verdict, trial.pairs, told)


async def _told(
    run: Run,
    lab: Lab,
    changes: Sequence[Experiment],
    commit: str,
    verdict: Verdict,
    pairs: Sequence[Pair],
    told: set[str],
) -> None:
    """The rows of programs without some changes and of the master beside them, as runs of the
    first of these changes. ``told``: the keys of runs that have their row."""
    names = ", ".join(e.id for e in changes)
    title = changes[0].hypothesis.title if len(changes) == 1 else names
    hypothesis = changes[0].hypothesis.model_copy(update={"title": f"without {title}"})
    program = Candidate(changes[0].id, hypothesis, lab.master.commit, commit)
    program.end(verdict, "ablation", "")
    for pair in pairs:
        gain = pair.gain(lab.sign)
        program.measured.append((pair.master, None if gain is None else -lab.sign * gain))
        if pair.candidate.key not in told:
            told.add(pair.candidate.key)
            program.measured.append((pair.candidate, 0.0))
    if pairs:
        async with run.scope(f"rows-{names}") as scope:
            await ledger_rows(scope, lab, program.record(), program)
