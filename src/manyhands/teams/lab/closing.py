"""What a study leaves behind: results.tsv, notes, plots, the report, a branch, and its outcome."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from manyhands.errors import Halted
from manyhands.runtime import Run
from manyhands.teams.lab.anomalies import ActiveJob, anomalies
from manyhands.teams.lab.ledger import to_json, to_tsv
from manyhands.teams.lab.lineage import rebuilt
from manyhands.teams.lab.memory import fingerprint, render
from manyhands.teams.lab.outlook import Campaign, advice, interaction_text
from manyhands.teams.lab.records import Anomaly, Record
from manyhands.teams.lab.reporter import Summary, render_summary, summarize
from manyhands.teams.lab.state import FOLDER, Lab, dropped_of
from manyhands.teams.lab.view import LabView


class Outcome(Record):
    """How a study ended. ``gain`` adds up what the confirmation runs of each promotion gave that
    was not dropped at the end, in the metric's unit, positive when better; ``holdout_gain`` the
    same on the sealed split. ``dropped``: the experiments that were promoted and taken out again.
    ``steps``: what the facts suggest to try next."""

    reason: str
    headline: str
    metric: str
    promotions: int
    experiments: int
    runs: int
    gain: float
    holdout_gain: float | None
    baseline: str
    master: str
    ledger: str
    plots: list[str]
    report: str
    branch: str
    next: str
    dropped: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


async def progress(run: Run, lab: Lab) -> None:
    """After each round: the exports that people may be watching."""
    await run.step("exports", partial(_export, lab))


def _export(lab: Lab) -> str:
    folder = lab.places.run
    ledger = folder / "results.tsv"
    ledger.write_text(to_tsv(lab.rows, metric=lab.study.config.metric.name), encoding="utf-8")
    (folder / "ledger.json").write_text(to_json(lab.rows), encoding="utf-8")
    (folder / "notes.md").write_text(render(lab.notes, lab.master), encoding="utf-8")
    return str(ledger)


async def conclude(run: Run, lab: Lab, reason: str) -> Outcome:
    """Write everything down. The branch holds the promoted program; your own is left alone."""
    ledger = await run.step("exports", partial(_export, lab))
    now = await run.now("ended")
    view = view_of(lab, now, reason)
    async with run.scope("reporter") as scope:
        text = await lab.cast.reporter.fill(scope, lab.brief(), facts(view, now))
    branch = await _branch(run, lab)
    state = f"ended: {reason}"
    work = partial(asyncio.to_thread, write_report, view, lab.places.run, text, now, state)
    report, *plots = await run.step("report", work)
    outcome = _outcome(lab, reason, branch) | {"ledger": ledger, "report": report, "plots": plots}
    outcome["steps"] = advice(campaign_of(view))
    await run.record("outcome", "lab:outcome", {"text": text} | outcome)
    return Outcome.model_validate(outcome)


async def leave_word(lab: Lab, halted: Halted) -> None:
    """The exports and the report as they stand, for who finds the study halted, as far as there is
    room for them. Not journaled: the study goes on from where it was."""
    if not lab.rows:
        return
    view = view_of(lab, now := time.time())
    state = f"halted: {halted.what}"
    with suppress(OSError):
        await asyncio.to_thread(_export, lab)
        await asyncio.to_thread(write_report, view, lab.places.run, facts(view, now), now, state)


def _outcome(lab: Lab, reason: str, branch: str) -> dict[str, Any]:
    promoted, dropped = lab.surviving, sorted(dropped_of(lab.ablation))
    gain = sum(e.decision.gain for e in promoted if e.decision is not None)
    sealed = [e.holdout_gain for e in promoted if e.holdout_gain is not None]
    return {
        "reason": reason,
        "headline": _headline(lab, gain, sum(sealed) if sealed else None, reason),
        "metric": lab.study.config.metric.name,
        "promotions": len(promoted) + len(dropped),
        "dropped": dropped,
        "experiments": len(lab.history),
        "runs": lab.runs,
        "gain": gain,
        "holdout_gain": sum(sealed) if sealed else None,
        "baseline": lab.base,
        "master": lab.master.commit,
        "branch": branch,
        "next": _next_command(lab, branch),
    }


def _headline(lab: Lab, gain: float, sealed: float | None, reason: str) -> str:
    promoted, dropped = lab.surviving, dropped_of(lab.ablation)
    metric = lab.study.config.metric
    tally = f"{len(lab.history)} experiments, {lab.runs} runs; ended: {reason}."
    told = f" {len(dropped)} more {'was' if len(dropped) == 1 else 'were'} not needed and dropped."
    tally = f"{told.strip()} {tally}" if dropped else tally
    if not promoted:
        return f"No change survived its confirmation. {tally}"
    better = "lower" if metric.direction == "lower" else "higher"
    holdout = f" ({sealed:.4g} on the sealed holdout)" if sealed is not None else ""
    changes = ", ".join(e.hypothesis.title for e in promoted)
    return (
        f"{metric.name} is {gain:.4g} {better}{holdout} by {len(promoted)} confirmed "
        f"change{'s' * (len(promoted) > 1)}: {changes}. {tally}"
    )


def _next_command(lab: Lab, branch: str) -> str:
    if not branch:
        return f"manyhands lab run {_short(lab.study.dir)} --seed {lab.order.seed + 1}"
    return f"git -C {_short(lab.study.dir)} diff HEAD {branch} -- ."


def _short(path: Path) -> str:
    """Relative where that is shorter to type."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


async def _branch(run: Run, lab: Lab) -> str:
    """A branch with one commit per surviving change, '' where nothing is left of any."""
    if not lab.surviving:
        return ""
    async with run.scope("branch") as scope:
        tip = await rebuilt(scope, lab)
    name = f"manyhands/{lab.study.name}/{lab.run_id}"
    ref = f"refs/heads/{name}"
    await run.step(f"branch/{run.id}", lab.repository.advance, ref, tip, None)
    return name


def view_of(lab: Lab, now: float, reason: str = "") -> LabView:
    """The same view that a reader of the journal gets."""
    return LabView(
        run_id=lab.run_id,
        config=lab.study.config,
        manifest=lab.manifest(),
        rows=lab.rows,
        experiments=lab.history,
        notes=lab.notes,
        masters=lab.masters,
        ablation=lab.ablation,
        factorials=lab.factorials,
        reason=reason,
        began_at=min((r.started_at for r in lab.rows if r.started_at), default=now),
    )


# -------------------------------------------------------------------- reading a view


def active_jobs(view: LabView) -> list[ActiveJob]:
    hypotheses = {e.id: fingerprint(e.hypothesis) for e in view.experiments}
    return [
        ActiveJob(
            id=key,
            kind="experiment",
            experiment=r.experiment,
            hypothesis=hypotheses.get(r.experiment, ""),
            candidate=key.split("/")[-2],
            seed=r.seed,
            started_at=r.since,
        )
        for key, r in view.running.items()
    ]


def odd(view: LabView, now: float = 0.0) -> tuple[Anomaly, ...]:
    assert view.config is not None
    return anomalies(
        view.rows,
        experiments=view.experiments,
        masters=view.masters,
        direction=view.config.metric.direction,
        active=active_jobs(view),
        now=now,
        quiet_after=view.config.limits.seconds + 60,
        slots=int(view.manifest.get("slots", 1)),
    )


def summary_of(view: LabView, now: float = 0.0) -> Summary:
    assert view.config is not None
    return summarize(
        study=view.config.study.name,
        metric=view.config.metric.name,
        direction=view.config.metric.direction,
        rows=view.rows,
        experiments=view.experiments,
        masters=view.masters,
        active=active_jobs(view),
        found=odd(view, now),
        started_at=view.began_at,
        now=now,
        ablation=view.ablation,
    )


def campaign_of(view: LabView) -> Campaign:
    """What the sections about the end of a campaign are made of."""
    return Campaign(
        experiments=view.experiments,
        master=view.masters[-1] if view.masters else None,
        ablation=view.ablation,
        factorials=view.factorials,
        ranges=view.config.settings if view.config is not None else {},
        reason=view.reason,
    )


def facts(view: LabView, now: float = 0.0) -> str:
    """The report that templates write."""
    found = odd(view, now)
    return render_summary(summary_of(view, now), view.experiments, found, campaign_of(view))


def status_of(view: LabView, now: float = 0.0) -> dict[str, Any]:
    """What `manyhands lab status` prints."""
    if view.config is None:
        return {"phase": view.phase}
    found = summary_of(view, now).model_dump(mode="json")
    waiting = [f"{h.id} {h.title}" for h in view.queue]
    running = [f"{r.experiment} {r.phase} seed {r.seed}" for r in view.running.values()]
    told = [f"{a.kind}: {a.text}" for a in odd(view, now)]
    return (
        {"phase": view.phase}
        | found
        | {"running": running, "queue": waiting, "anomalies": told}
        | _end_of(view)
    )


def _end_of(view: LabView) -> dict[str, Any]:
    """What is known of the end of the campaign; nothing while the rounds go on."""
    if view.ablation is None:
        return {}
    lines = [f"{e.experiment} {e.fate}: {e.why}" for e in view.ablation.lines]
    return {
        "ablation": lines or [view.ablation.skipped],
        "interactions": [interaction_text(found) for found in view.factorials],
    }


def report_folder(view: LabView) -> Path:
    return Path(view.manifest["dir"]) / FOLDER / view.run_id


def write_report(
    view: LabView, folder: Path, told: str, now: float, state: str, page_file: Path | None = None
) -> list[str]:
    """Write the page, ``report.md`` and the plots (PNG and SVG); returns the paths of the page and
    of the plots, the page's first."""
    from manyhands.teams.lab.page import Dossier, render  # noqa: PLC0415 - heavy: matplotlib
    from manyhands.teams.lab.plots import Story, write_plots  # noqa: PLC0415 - heavy: matplotlib

    assert view.config is not None
    folder.mkdir(parents=True, exist_ok=True)
    story = Story(
        study=view.config.study.name,
        metric=view.config.metric.name,
        direction=view.config.metric.direction,
        rows=view.rows,
        experiments=view.experiments,
        masters=view.masters,
        ablation=view.ablation,
        factorials=view.factorials,
    )
    dossier = Dossier(
        summary=summary_of(view, now),
        objective=view.config.study.objective,
        state=state,
        rows=view.rows,
        experiments=view.experiments,
        masters=view.masters,
        notes=view.notes,
        anomalies=odd(view, now),
        environment=_environment_of(view),
        told=told,
        campaign=campaign_of(view),
        alpha=view.config.promotion.alpha,
        max_pairs=view.config.promotion.max_pairs,
        whole=str(folder / "results.tsv"),
        run_id=view.run_id,
        made_at=now,
    )
    page = page_file or folder / "report.html"
    page.write_text(render(dossier), encoding="utf-8")
    text = told if told.endswith(facts(view, now)) else facts(view, now)
    (folder / "report.md").write_text(text, encoding="utf-8")
    return [str(page), *(str(path) for path in write_plots(folder, story))]


def _environment_of(view: LabView) -> dict[str, str]:
    manifest = view.manifest
    isolation = manifest["isolation"]
    return {
        "environment": manifest["environment"],
        "jobs run in": isolation["level"],
        "not enforced": "; ".join(isolation["notes"]) or "nothing is left out",
        "began at": manifest["base"],
        "slots": str(manifest["slots"]),
    }
