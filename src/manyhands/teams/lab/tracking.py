"""A study shown by a tracker: its journal, told again.

Invariant: what is shown is a fold over events, and a step is an event's number. So a tracker that
has seen a run up to some event is told the rest and nothing twice, whoever tells it, and whether
the run is over or goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from manyhands.ports import AlertLevel, Tracker
from manyhands.runtime import Event
from manyhands.teams.lab.closing import facts, odd, summary_of
from manyhands.teams.lab.ledger import finite, plain
from manyhands.teams.lab.records import LedgerRow, Measurement
from manyhands.teams.lab.view import LabView

_NUMBERS = (
    *("active_jobs", "active_experiment_jobs", "active_non_experiment_jobs", "completed_jobs"),
    *("failed_jobs", "anomaly_count", "best_metric", "best_run", "best_delta_vs_master"),
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
        if event.seq > last:
            for title, text, level in (*_failure(event), *_anomalies(found - known)):
                await tracker.alert(event.seq, title, text, level)
                alerts += 1
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
    """The numbers that an event changes; the report with each verdict."""
    if event.type == "lab:row":
        return _row(view.rows[-1]), ""
    if event.type in ("lab:experiment", "lab:outcome") and view.masters:
        summary = summary_of(view, event.ts)
        numbers = {f"study/{name}": finite(getattr(summary, name)) for name in _NUMBERS}
        return {name: n for name, n in numbers.items() if n is not None}, facts(view, event.ts)
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


def _failure(event: Event) -> tuple[tuple[str, str, AlertLevel], ...]:
    if event.type != "lab:run":
        return ()
    found = Measurement.model_validate(event.data)
    if found.metric is not None:
        return ()
    text = f"{found.key}, seed {found.seed}: {plain(found.detail, 400)}"
    return ((f"run {found.exit}", text, AlertLevel.WARN),)


def _anomalies(new: frozenset[tuple[str, str]]) -> tuple[tuple[str, str, AlertLevel], ...]:
    return tuple(
        (f"anomaly: {kind}", plain(text, 400), AlertLevel.ERROR) for kind, text in sorted(new)
    )
