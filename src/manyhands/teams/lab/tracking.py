"""A study shown by a tracker: its journal, told again.

Invariant: what is shown is a fold over events, and a step is an event's number. So a tracker that
has seen a run up to some event is told the rest and nothing twice, whoever tells it, and whether
the run is over or goes on. Alerts are told again from the start, as the tracker may have a step and
not the alert before it; it leaves out those that it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from manyhands.ports import AlertLevel, Tracker, Training
from manyhands.runtime import Event, Type
from manyhands.teams.lab.closing import facts, odd, summary_of
from manyhands.teams.lab.curves import read_curve
from manyhands.teams.lab.ledger import finite, plain
from manyhands.teams.lab.records import LedgerRow, Verdict
from manyhands.teams.lab.state import FOLDER
from manyhands.teams.lab.view import LabView

Alert = tuple[str, str, AlertLevel]

_NUMBERS = (
    *("active_jobs", "active_experiment_jobs", "active_non_experiment_jobs", "completed_jobs"),
    *(
        "failed_jobs",
        "pruned_jobs",
        "anomaly_count",
        "best_metric",
        "best_run",
        "best_delta_vs_master",
    ),
    *("confirmed_gain", "noise_sd", "experiments", "runs", "cost_usd", "cpu_seconds"),
)


async def track(
    run_id: str, events: AsyncIterator[tuple[Event, Any]], tracker: Tracker
) -> tuple[int, int]:
    """Tell ``tracker`` of all ``events``, each with its value. How many steps it had not seen, and
    how many alerts. Raises `TrackerError`."""
    view = LabView(run_id)
    last: int | None = None
    told = alerts = 0
    known: frozenset[tuple[str, str]] = frozenset()
    async for event, value in events:
        view.apply(event, value)
        if view.config is None:
            continue
        if last is None:
            last = await tracker.begin(view.config.study.name, run_id, _config(view))
        shown, report = _shown(view, event)
        found = frozenset((a.kind, a.text) for a in odd(view, event.ts)) if shown else known
        for title, text, level in (*_alerts(view, event), *_anomalies(found - known)):
            alerts += await tracker.alert(event.seq, title, text, level)
        if event.seq > last:
            if event.type == "lab:run":
                await tracker.training(await asyncio.to_thread(_training, view))
            if shown:
                await tracker.log(event.seq, shown, report)
                told += 1
        known = found
    await tracker.close()
    return told, alerts


def _config(view: LabView) -> dict[str, object]:
    manifest = view.manifest
    names = ("study", "base", "campaign", "slots", "runs", "environment")
    return {name: manifest[name] for name in names} | {
        f"role {role}": who for role, who in manifest["fillers"].items()
    }


def _shown(view: LabView, event: Event) -> tuple[dict[str, float], str]:
    """The numbers that an event changes; the report with each verdict. Which jobs are active is
    known at every beginning and end, the rest at verdicts."""
    if event.type == "lab:row":
        return _row(view.rows[-1]), ""
    if event.type in ("lab:experiment", "lab:outcome") and view.masters:
        summary = summary_of(view, event.ts)
        numbers = {f"study/{name}": finite(getattr(summary, name)) for name in _NUMBERS}
        return {name: n for name, n in numbers.items() if n is not None}, facts(view, event.ts)
    if event.type == "lab:run" or (event.type == Type.STEP_STARTED and event.key in view.running):
        active = float(len(view.running))
        return {"study/active_jobs": active, "study/active_experiment_jobs": active}, ""
    return {}, ""


def _row(row: LedgerRow) -> dict[str, float]:
    numbers = {
        f"{row.phase}/metric": finite(row.metric),
        f"{row.phase}/delta": finite(row.delta),
        f"{row.phase}/holdout": finite(row.holdout),
        "run/seconds": row.duration,
        "run/cpu_seconds": row.cpu_seconds,
        "run/peak_memory_mb": row.peak_memory_mb,
        "run/cost_usd": row.cost_usd,
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _training(view: LabView) -> Training:
    """The run that ended last, with its curve, if its log is on this machine and holds one."""
    found = view.measurements[-1]
    experiment = next((p for p in found.key.split("/") if p[:1] == "e" and p[1:].isdigit()), "")
    log = Path(view.manifest["dir"]) / FOLDER / view.run_id / "jobs" / found.key / "train.log"
    summary = {
        "metric": finite(found.metric),
        "holdout": finite(found.holdout),
        "seconds": found.duration,
        "cpu_seconds": found.cpu_seconds,
        "peak_memory_mb": found.peak_memory_mb,
        "cost_usd": found.cost_usd,
    }
    return Training(
        name=f"{experiment or 'baseline'}/{found.phase}/{found.candidate[:8]}/{found.seed}",
        about={"candidate": found.candidate, "seed": found.seed, "exit": found.exit},
        steps=read_curve(log),
        summary={name: value for name, value in summary.items() if value is not None},
    )


def _alerts(view: LabView, event: Event) -> tuple[Alert, ...]:
    """What a person may want to be woken for: a failed run, a verdict that is good or suspicious,
    the end."""
    match event.type:
        case "lab:run":
            found = view.measurements[-1]
            text = f"{found.key}, seed {found.seed}: {plain(found.detail, 400)}"
            return () if found.metric is not None else ((f"run {found.exit}", text, _WARN),)
        case "lab:experiment":
            return _verdict(view)
        case "lab:outcome" if view.outcome is not None:
            return (("study ended", plain(view.outcome["headline"], 400), AlertLevel.INFO),)
        case _:
            return ()


_WARN = AlertLevel.WARN


def _verdict(view: LabView) -> tuple[Alert, ...]:
    e = view.experiments[-1]
    title = plain(e.hypothesis.title, 200)
    if e.verdict is Verdict.PROMOTED and e.decision is not None:
        sealed = "" if e.holdout_gain is None else f", {e.holdout_gain:+.4g} on the sealed holdout"
        text = f"{title}: {e.decision.gain:+.4g} over {e.decision.pairs} pairs{sealed}"
        return ((f"promoted: {e.id}", text, AlertLevel.INFO),)
    if e.rule == "trained-on-validation":
        return ((f"rejected: {e.id}", f"{title}: {plain(e.comment, 300)}", _WARN),)
    return ()


def _anomalies(new: frozenset[tuple[str, str]]) -> tuple[Alert, ...]:
    return tuple(
        (f"anomaly: {kind}", plain(text, 400), AlertLevel.ERROR) for kind, text in sorted(new)
    )
