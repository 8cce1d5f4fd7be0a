"""Live progress of a study, from its journal: one line per fact, a bar of runs where there is a
terminal. What it prints of a hypothesis is printed inert."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from manyhands.cli.printing import err, out, plain
from manyhands.runtime import Event, Runtime
from manyhands.teams.lab.records import Experiment, Master, Verdict
from manyhands.teams.lab.view import LabView

MARKS = {
    Verdict.PROMOTED: "[bold green]✓ promoted[/]",
    Verdict.NOT_BETTER: "[dim]· not better[/]",
    Verdict.INCONCLUSIVE: "[yellow]? inconclusive[/]",
    Verdict.CRASHED: "[red]✗ crashed[/]",
    Verdict.TIMED_OUT: "[red]✗ timed out[/]",
    Verdict.REJECTED: "[magenta]✗ rejected[/]",
    Verdict.STALE: "[dim]· stale[/]",
    Verdict.BASELINE: "baseline",
    Verdict.KEPT: "[green]● kept[/]",
    Verdict.DROPPED: "[yellow]✂ dropped[/]",
    Verdict.MEASURED: "measured",
}


def mark_of(e: Experiment) -> str:
    """The verdict in a word; one that was never tested says so."""
    return "[yellow]– not tested[/]" if e.rule == "not-confirmed" else MARKS[e.verdict]


class StudyProgress:
    """Prints events as they come. Use as a context manager around the run."""

    def __init__(self, runtime: Runtime, run_id: str, total: int, *, quiet: bool = False) -> None:
        self.view = LabView(run_id)
        self._runtime = runtime
        self._quiet = quiet
        self._known = 0
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=quiet or not err.is_terminal,
        )
        self._task: TaskID = self._bar.add_task("preparing", total=total)

    def __enter__(self) -> StudyProgress:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    async def follow(self) -> None:
        """Until the run ends."""
        async for event in self._runtime.events(self.view.run_id, follow=True):
            carries = event.type.startswith("lab:")
            self.view.apply(event, self._runtime.value(event) if carries else None)
            self._show(event)

    def _show(self, event: Event) -> None:
        match event.type:
            case "lab:study":
                self._study(event.data)
            case "lab:run":
                self._bar.advance(self._task)
                self._failed_run(event.data)
            case "lab:master":
                self._master(self.view.masters[-1])
            case "lab:queue":
                self._queued()
            case "lab:experiment":
                self._experiment(self.view.experiments[-1])
            case _:
                pass
        self._bar.update(self._task, description=self._now())

    def _now(self) -> str:
        running = sorted({f"{r.experiment} {r.phase}" for r in self.view.running.values()})
        return escape(", ".join(running)) or "thinking"

    def _say(self, text: str) -> None:
        if not self._quiet:
            console = self._bar.console if err.is_terminal else out
            console.print(text, highlight=False, soft_wrap=True)

    def _study(self, manifest: dict[str, Any]) -> None:
        fillers = ", ".join(f"{role} {who}" for role, who in manifest["fillers"].items())
        self._say(
            f"[bold]{escape(plain(manifest['study']))}[/] at {manifest['base'][:10]} · "
            f"{manifest['slots']} slots · jobs in {manifest['isolation']['level']} · "
            f"{escape(plain(manifest['environment']))}"
        )
        self._say(f"[dim]roles: {escape(plain(fillers))}[/]")

    def _failed_run(self, data: dict[str, Any]) -> None:
        if data["metric"] is None:
            self._say(
                f"  [red]{data['exit']}[/] seed {data['seed']}: "
                f"{escape(plain(data['detail'])[:160])}"
            )

    def _master(self, master: Master) -> None:
        config = self.view.config
        if master.version == 0 and config is not None:
            values = list(master.reference.values())
            mean = sum(values) / len(values)
            self._say(
                f"baseline: {config.metric.name} {mean:.5g} over {len(values)} seeds, "
                f"noise sd {master.noise_sd:.2g} ({config.metric.direction} is better)"
            )

    def _queued(self) -> None:
        known, self._known = self._known, len(self.view.proposed)
        fresh = {h.id for h in self.view.proposed[known:]}
        waiting = [h for h in self.view.queue if h.id in fresh]
        if waiting:
            self._say(f"[dim]queued: {escape(plain('; '.join(h.title for h in waiting)))}[/]")

    def _experiment(self, e: Experiment) -> None:
        text = f"{e.id}  {mark_of(e)}  {escape(plain(e.hypothesis.title))}"
        if e.decision is not None and e.decision.pairs:
            d = e.decision
            text += f"  [dim]gain {d.gain:+.4g} over {d.pairs} pairs, p {d.p_value:.3g}[/]"
            if e.verdict is Verdict.PROMOTED and e.holdout_gain is not None:
                text += f"[dim], sealed holdout {e.holdout_gain:+.4g}[/]"
        elif e.screen_gain is not None:
            text += f"  [dim]screened {e.screen_gain:+.4g}[/]"
        elif e.rule:
            text += f"  [dim]{escape(plain(e.rule))}[/]"
        self._say(text)
