"""A study's run as its journal tells it: what `status`, `queue`, `ledger` and `report` show.

Invariant: a fold over events alone. It works on a run of any process, live, dead or imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manyhands.errors import RunNotFound
from manyhands.runtime import Event, RunInfo, Runtime, Type
from manyhands.teams.lab.memory import worth
from manyhands.teams.lab.records import (
    Ablation,
    Experiment,
    Factorial,
    Hypothesis,
    LedgerRow,
    Master,
    Measurement,
    Note,
    Phase,
    Review,
)
from manyhands.teams.lab.schema import StudyConfig

#: An experiment's part of a step's key: its own, or with an arm's seed behind it.
_EXPERIMENT = re.compile(r"(?:out-|pair-)?(e\d+)(?:-|\Z)")


@dataclass(frozen=True, slots=True)
class Running:
    """A training run that has begun and not ended: which experiment, why, which seed."""

    experiment: str
    phase: str
    seed: int
    since: float


@dataclass(slots=True)
class LabView:
    run_id: str
    manifest: dict[str, Any] = field(default_factory=dict[str, Any])
    config: StudyConfig | None = None
    rows: list[LedgerRow] = field(default_factory=list[LedgerRow])
    experiments: list[Experiment] = field(default_factory=list[Experiment])
    notes: list[Note] = field(default_factory=list[Note])
    masters: list[Master] = field(default_factory=list[Master])
    proposed: list[Hypothesis] = field(default_factory=list[Hypothesis])
    reviews: dict[str, Review] = field(default_factory=dict[str, Review])
    measurements: list[Measurement] = field(default_factory=list[Measurement])
    running: dict[str, Running] = field(default_factory=dict[str, Running])
    ablation: Ablation | None = None
    factorials: list[Factorial] = field(default_factory=list[Factorial])
    stage: str = ""
    reason: str = ""
    outcome: dict[str, Any] | None = None
    began_at: float = 0.0
    seq: int = 0

    @property
    def queue(self) -> list[Hypothesis]:
        """What is accepted and has no verdict yet, best first: by what a run of it may gain."""
        done = {e.hypothesis.id for e in self.experiments}
        waiting = [h for h in self.proposed if h.id not in done]
        mine = [h for h in waiting if h.id not in self.reviews or self.reviews[h.id].accepted]
        return sorted(mine, key=worth)

    @property
    def phase(self) -> str:
        """Where the study stands: preparing, baseline, rounds, ablation, interactions, ended."""
        if self.outcome is not None:
            return "ended"
        if self.stage:
            return self.stage
        return "rounds" if self.proposed else "baseline" if self.config else "preparing"

    def apply(self, event: Event, value: Any) -> None:
        """Fold one event in; ``value`` is its decoded value (None where it has none)."""
        self.seq = event.seq
        match event.type:
            case Type.RUN_CREATED:
                self.began_at = event.ts
            case Type.STEP_STARTED:
                self._begin(event)
            case Type.STEP_DONE | Type.STEP_FAILED:
                self.running.pop(event.key, None)
            case Type.RUN_OPENED:
                self.running.clear()
            case "lab:study":
                self.manifest, self.config = event.data, StudyConfig.model_validate(value)
            case "lab:run":
                self.measurements.append(Measurement.model_validate(event.data))
            case "lab:row":
                self.rows.append(LedgerRow.model_validate(event.data))
            case "lab:queue":
                self._enqueue(value)
            case "lab:master":
                self.masters.append(Master.model_validate(event.data))
            case "lab:experiment":
                self.experiments.append(Experiment.model_validate(value["experiment"]))
                self.notes += [Note.model_validate(n) for n in value["notes"]]
            case _:
                self._end(event, value)

    def _end(self, event: Event, value: Any) -> None:
        """The end of a campaign."""
        match event.type:
            case "lab:phase":
                self.stage = event.data["phase"]
                self.reason = event.data.get("reason", self.reason)
            case "lab:ablation":
                self.ablation = Ablation.model_validate(value)
            case "lab:factorial":
                self.factorials.append(Factorial.model_validate(value))
            case "lab:outcome":
                self.outcome = event.data
            case _:
                pass

    def _begin(self, event: Event) -> None:
        parts = event.key.split("/")
        if len(parts) > 3 and parts[-3] in {p.value for p in Phase} and parts[-1].isdigit():
            found = (_EXPERIMENT.match(part) for part in parts)
            experiment = next((name[1] for name in found if name), "baseline")
            self.running[event.key] = Running(experiment, parts[-3], int(parts[-1]), event.ts)

    def _enqueue(self, value: dict[str, Any]) -> None:
        self.proposed += [Hypothesis.model_validate(h) for h in value["hypotheses"]]
        for review in value["reviews"]:
            found = Review.model_validate(review)
            self.reviews[found.hypothesis] = found


def read_lab(runtime: Runtime, run_id: str) -> LabView:
    """The view of a run as it is now."""
    view = LabView(run_id)
    for event in runtime.journal.events(run_id):
        view.apply(event, runtime.value(event) if event.type.startswith("lab:") else None)
    return view


def runs_of(runtime: Runtime, study: Path) -> Iterator[RunInfo]:
    """The runs of the study in this folder, newest first."""
    folder = str(study.expanduser().resolve())
    for info in runtime.runs():
        if info.workflow != "lab":
            continue
        first = next(runtime.journal.events(info.run_id, before=2), None)
        if first is not None and runtime.value(first).get("study") == folder:
            yield info


def find_run(runtime: Runtime, study_or_run: str) -> RunInfo:
    """The run with this id, or the newest run of the study in this folder."""
    for info in runtime.runs():
        if info.run_id == study_or_run:
            return info
    found = next(runs_of(runtime, Path(study_or_run)), None)
    if found is None:
        raise RunNotFound(
            f"{study_or_run!r} is neither a run nor a study that has run"
            f" (journal: {runtime.journal.path})",
            next=f"manyhands lab run {study_or_run}, or see `manyhands runs`",
        )
    return found
