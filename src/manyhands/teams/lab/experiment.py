"""One experiment from hypothesis to verdict: the patch, its preflight, its screening, its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from manyhands.errors import AgentError, StepFailed, StudyError
from manyhands.runtime import Run
from manyhands.teams.lab.gate import screen as worth_confirming
from manyhands.teams.lab.hosts import offsets
from manyhands.teams.lab.measure import measure
from manyhands.teams.lab.memory import attempt
from manyhands.teams.lab.preflight import preflight, program
from manyhands.teams.lab.queue import BY_WORDS, novelty, ranked
from manyhands.teams.lab.records import (
    Experiment,
    FileEdit,
    Hypothesis,
    Idea,
    LedgerRow,
    Measurement,
    Patch,
    Phase,
    Review,
    Verdict,
)
from manyhands.teams.lab.settings import apply, find_settings
from manyhands.teams.lab.state import Candidate, Ground, Lab


async def enqueue(
    run: Run,
    lab: Lab,
    ideas: Sequence[Idea],
    proposed: Sequence[Hypothesis],
    reviews: Sequence[Review],
) -> list[Candidate]:
    """Persist the queue with its reviews; settle what was refused; return the rest, numbered."""
    lab.hypotheses += len(proposed)
    proposed = ranked(proposed, lab.study.config.promotion, lab.master.noise_sd)
    verdicts = {r.hypothesis: _compared(lab, h, r) for h, r in _reviewed(proposed, reviews)}
    queue = {
        "ideas": [i.model_dump(mode="json") for i in ideas],
        "hypotheses": [h.model_dump(mode="json") for h in proposed],
        "reviews": [r.model_dump(mode="json") for r in verdicts.values()],
    }
    await run.record("queue", "lab:queue", {"proposed": len(proposed)}, value=queue)
    accepted: list[Candidate] = []
    for hypothesis in proposed:
        lab.experiments += 1
        candidate = Candidate(f"e{lab.experiments:04d}", hypothesis, hypothesis.parent)
        review = verdicts.get(hypothesis.id)
        lab.attempts.add(attempt(hypothesis))
        if review is not None and review.accepted:
            accepted.append(candidate)
        else:
            candidate.reject(
                review.rule if review else "not-reviewed", review.reason if review else ""
            )
            await settle(run, lab, candidate)
    return sorted(accepted, key=lambda c: c.hypothesis.rank)


def _reviewed(
    proposed: Sequence[Hypothesis], reviews: Sequence[Review]
) -> Iterator[tuple[Hypothesis, Review]]:
    by_id = {r.hypothesis: r for r in reviews}
    yield from ((h, by_id[h.id]) for h in proposed if h.id in by_id)


def _compared(lab: Lab, hypothesis: Hypothesis, review: Review) -> Review:
    """An accepted review with the reason why it is no duplicate, or refused as one: by the program
    that a setting's change makes, before a worker is asked."""
    if not review.accepted:
        return review
    if hypothesis.kind != "setting":
        return review.model_copy(update={"new": BY_WORDS})
    try:
        patch = setting_patch(lab.master_files, hypothesis)
    except StudyError:
        return review  # The worker says what is wrong with it.
    files = lab.master_files | {e.path: e.text for e in patch.edits}
    found = novelty(program(lab.study, files), lab.seen)
    if not found.of:
        return review.model_copy(update={"new": found.why})
    told = {"accepted": False, "rule": "duplicate", "reason": found.why}
    return review.model_copy(update=told)


async def try_out(run: Run, lab: Lab, ground: Ground, candidate: Candidate) -> None:
    """From the hypothesis to its first measurements. It goes on beside the rounds, so it looks at
    its ``ground``, and changes nothing but the candidate."""
    place = lab.places.worktree(candidate.id)
    try:
        patch = await lab.cast.worker.fill(run, ground.brief, candidate.hypothesis, place)
    except (AgentError, StepFailed) as error:
        candidate.reject("worker-failed", str(error))
        return
    await adopt(run, lab, ground, candidate, patch)
    if candidate.verdict is None:
        await screen(run, lab, ground, candidate)


async def adopt(run: Run, lab: Lab, ground: Ground, candidate: Candidate, patch: Patch) -> None:
    """Preflight the patched program; on success it becomes a commit on top of the master."""
    master = ground.master.commit
    files = ground.files | {e.path: e.text for e in patch.edits}
    candidate.fingerprint = program(lab.study, files)
    candidate.new = novelty(candidate.fingerprint, ground.seen).why
    violations = preflight(
        lab.study,
        ground.files,
        files,
        candidate.hypothesis,
        master=master,
        seen=ground.seen,
    )
    candidate.files, candidate.parent, candidate.comment = files, master, patch.comment
    if violations:
        text = "; ".join(f"{v.rule}: {v.text}" for v in violations)
        candidate.reject(violations[0].rule, text)
        return
    message = f"{candidate.id}: {candidate.hypothesis.title}"
    commit = partial(lab.repository.commit_edits, master, patch.edits, message)
    candidate.commit = await run.step("commit", commit)
    keep = partial(lab.repository.keep, f"refs/manyhands/{lab.run_id}/{candidate.id}")
    await run.step("keep", keep, candidate.commit)
    lab.made[candidate.commit] = (candidate.id, candidate.hypothesis.id, master)
    candidate.diff = await run.step("diff", lab.repository.diff, master, candidate.commit)


async def screen(run: Run, lab: Lab, ground: Ground, candidate: Candidate) -> None:
    """A run or two on seeds that the master has run."""
    seeds = list(ground.master.reference)[: lab.study.config.promotion.screen_seeds]
    commit, known = candidate.commit, ground.known
    found = await run.map(
        "screen",
        lambda scope, seed: measure(scope, lab, commit, seed, Phase.SCREEN, known=known),
        seeds,
        key_of=str,
    )
    candidate.measured += [(m, None) for m in found]


def sift(lab: Lab, candidate: Candidate) -> None:
    """What its screening says, against its parent's runs on the same kinds of machines; only clear
    losers end here. One that nothing can be held against goes on."""
    gains: list[float] = []
    for at, (m, _) in enumerate(candidate.measured):
        if m.metric is None:
            candidate.fail(m)
            return
        known = lab.hosts.metric(candidate.parent, m)
        if known is not None:
            candidate.measured[at] = (m, m.metric - known)
            gains.append(lab.sign * (m.metric - known))
    if not gains:
        return
    candidate.screen_gain = sum(gains) / len(gains)
    if not worth_confirming(gains, lab.master.noise_sd):
        candidate.end(Verdict.NOT_BETTER, "screen", "clearly worse than the master in screening")


def keep(lab: Lab, candidate: Candidate) -> None:
    """Put a candidate where the next promotions look for it."""
    candidate.verdict = None
    lab.promising.append(candidate)


async def place(run: Run, lab: Lab, candidate: Candidate) -> None:
    """After its screening: settled, or kept for a confirmation. Called in order, so of two equal
    programs that were screened side by side the later is the duplicate."""
    if candidate.verdict is None:
        sift(lab, candidate)
    if candidate.verdict is None and candidate.fingerprint in lab.seen:
        candidate.reject("duplicate", f"the same program as {lab.seen[candidate.fingerprint]}")
    if candidate.fingerprint:
        lab.seen.setdefault(candidate.fingerprint, candidate.id)
    if candidate.verdict is None:
        keep(lab, candidate)
    else:
        await settle(run, lab, candidate)


async def rebase(run: Run, lab: Lab, candidate: Candidate) -> bool:
    """Whether the candidate stands on the master, after moving it there if it does not."""
    if candidate.parent == lab.master.commit:
        return True
    async with run.scope(f"rebase-{candidate.id}") as scope:
        patch = await _replayed(scope, lab, candidate)
        if patch is None:
            candidate.end(Verdict.STALE, "stale-parent", "its change no longer fits the master")
        else:
            candidate.rebased_from = candidate.rebased_from or candidate.commit
            candidate.first_parent = candidate.first_parent or candidate.parent
            await adopt(scope, lab, lab.ground(), candidate.on(lab.master.commit), patch)
    if candidate.verdict is not None:
        candidate.verdict = Verdict.STALE
        await settle(run, lab, candidate)
        return False
    return True


async def _replayed(run: Run, lab: Lab, candidate: Candidate) -> Patch | None:
    """The same change on the present master: a setting is set again, other edits are merged."""
    hypothesis = candidate.hypothesis
    if hypothesis.kind == "setting" and hypothesis.value is not None:
        try:
            return setting_patch(lab.master_files, hypothesis)
        except StudyError:
            return None
    merged = await run.step("merge", lab.repository.rebase, candidate.commit, lab.master.commit)
    if merged is None:
        return None
    texts: dict[str, str] = await run.step("read", lab.repository.texts, merged)
    edits = tuple(
        FileEdit(path=path, text=text)
        for path, text in texts.items()
        if lab.study.editable(path) and lab.master_files.get(path) != text
    )
    return Patch(edits=edits, comment=candidate.comment)


def setting_patch(files: dict[str, str], hypothesis: Hypothesis) -> Patch:
    """The patch that sets one setting. Raises `StudyError` where there is no such setting."""
    found = find_settings(files).get(hypothesis.setting)
    if found is None or hypothesis.value is None:
        raise StudyError(
            f"{hypothesis.setting or '(no name)'} is no setting of {', '.join(sorted(files))}",
            next="propose one of the settings that the study has",
        )
    text = apply(files[found.path], hypothesis.setting, hypothesis.value)
    return Patch(edits=(FileEdit(path=found.path, text=text),))


async def settle(run: Run, lab: Lab, candidate: Candidate) -> None:
    """Record the verdict: the experiment, one ledger row per run, and the memory-keeper's notes."""
    experiment = candidate.record()
    async with run.scope(f"settle-{experiment.id}") as scope:
        rows = await ledger_rows(scope, lab, experiment, candidate)
        lab.history.append(experiment)
        async with scope.scope("memory") as desk:
            notes = await lab.cast.memory.fill(desk, lab.brief(), experiment, tuple(rows))
        lab.notes += notes
        value = [n.model_dump(mode="json") for n in notes]
        await scope.record(
            "experiment",
            "lab:experiment",
            {"id": experiment.id, "verdict": experiment.verdict, "rule": experiment.rule},
            value={"experiment": experiment.model_dump(mode="json"), "notes": value},
        )


async def settle_unfinished(run: Run, lab: Lab, reason: str) -> None:
    """What waited for its confirmation when the study ended."""
    for candidate in lab.promising:
        candidate.end(Verdict.INCONCLUSIVE, "not-confirmed", f"{reason} before its confirmation")
        await settle(run, lab, candidate)
    lab.promising.clear()


async def ledger_rows(
    run: Run, lab: Lab, experiment: Experiment, candidate: Candidate
) -> list[LedgerRow]:
    now = await run.now("now")
    rows = [
        _row(lab, experiment, m, delta, now, candidate.first_parent)
        for m, delta in sorted(candidate.measured, key=lambda md: (md[0].phase, md[0].seed))
    ]
    if not rows:
        rows = [_row(lab, experiment, None, None, now, "")]
    for row in rows:
        await run.record(f"row-{row.row}", "lab:row", row.model_dump(mode="json"))
    lab.rows += rows
    lab.uneven = lab.uneven or any(offsets(lab.rows))
    return rows


def _row(
    lab: Lab,
    e: Experiment,
    m: Measurement | None,
    delta: float | None,
    now: float,
    first_parent: str,
) -> LedgerRow:
    number = lab.next_row()
    # What was screened before a rebase is another program than the one that has the verdict.
    earlier = (
        m is not None
        and e.rebased_from not in ("", e.candidate)
        and (m.candidate == e.rebased_from)
    )
    # A part of a combination is neither the combination nor the master.
    part = m is not None and m.phase is Phase.FACTORIAL
    of_master = m is not None and m.candidate != e.candidate and not earlier and not part
    verdict = Verdict.STALE if earlier else Verdict.BASELINE if of_master else e.verdict
    verdict = Verdict.MEASURED if part else verdict
    return LedgerRow(
        row=number,
        campaign=lab.campaign,
        experiment=e.id,
        hypothesis=e.hypothesis.id,
        title=e.hypothesis.title,
        phase=m.phase if m else Phase.SCREEN,
        parent=first_parent if earlier else e.parent,
        candidate=m.candidate if m else e.candidate,
        seed=m.seed if m else -1,
        worker=f"worker-{e.id}",
        fillers=lab.cast.names,
        metric=m.metric if m else None,
        delta=0.0 if of_master else delta,
        holdout=m.holdout if m else None,
        duration=m.duration if m else 0.0,
        cpu_seconds=m.cpu_seconds if m else 0.0,
        peak_memory_mb=m.peak_memory_mb if m else 0.0,
        exit=m.exit if m else "not_run",
        verdict=verdict,
        rule="" if of_master or part else "rebased" if earlier else e.rule,
        created_at=now,
        started_at=m.started_at if m else 0.0,
        cost_usd=m.cost_usd if m else 0.0,
        slot=m.slot if m else -1,
        comment=m.detail if m else e.comment,
        environment=lab.environment,
        host=m.host if m else "",
        paper=e.hypothesis.citation.passage if e.hypothesis.citation and not of_master else "",
    )


async def rows_of_master(
    run: Run, lab: Lab, title: str, measured: Sequence[Measurement]
) -> list[LedgerRow]:
    """Runs of the master that belong to no experiment."""
    why = "the study as it stands" if lab.master.version == 0 else f"from {lab.master.experiment}"
    commit = lab.master.commit
    about = Hypothesis(id="h0000", title=title, rationale=why, kind="structural", parent=commit)
    baseline = Candidate("e0000", about, commit, commit, verdict=Verdict.BASELINE)
    baseline.measured = [(m, 0.0) for m in measured]
    return await ledger_rows(run, lab, baseline.record(), baseline)
