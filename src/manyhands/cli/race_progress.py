"""Live progress of a race, from the journals of its arms: a line for each promotion and each arm
that ends, one bar for the training runs of all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Self

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from manyhands.cli.printing import err, out, plain
from manyhands.errors import RunNotFound
from manyhands.runtime import Event, Runtime
from manyhands.teams.lab.race import lane_id
from manyhands.teams.lab.race_records import RaceOrder
from manyhands.teams.lab.records import Verdict
from manyhands.teams.lab.view import LabView

#: Seconds between two looks for an arm's run that has not begun.
_PATIENCE = 0.3


class RaceProgress:
    """Prints events as they come. Use as a context manager around the run."""

    def __init__(
        self, runtime: Runtime, race: str, order: RaceOrder, *, quiet: bool = False
    ) -> None:
        self._runtime = runtime
        self._race = race
        self._order = order
        self._quiet = quiet
        self._judging = 0
        lanes = len(order.arms) * order.seeds
        total = lanes * order.runs if order.runs else None
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
        self._task = self._bar.add_task(f"{lanes} studies", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    async def follow(self) -> None:
        """Until the race ends."""
        seeds = range(self._order.seed, self._order.seed + self._order.seeds)
        lanes = [
            asyncio.create_task(self._lane(arm, seed)) for seed in seeds for arm in self._order.arms
        ]
        try:
            async for event in self._runtime.events(self._race, follow=True):
                self._show(event)
        finally:
            for task in lanes:
                task.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    def _show(self, event: Event) -> None:
        if event.type == "lab:lane":
            said = event.data
            state = f"[red]{escape(plain(said['state'])[:120])}[/]" if said["state"] else "ended"
            self._say(
                f"{escape(plain(said['arm']))} seed {said['seed']}: {state} after {said['runs']} "
                f"runs, {said['promotions']} promotions"
            )
        elif event.type == "lab:run":
            self._judging += 1
            self._bar.update(self._task, description=f"judging, {self._judging} measured")

    async def _lane(self, arm: str, seed: int) -> None:
        view = LabView(lane_id(self._race, arm, seed, self._order.arms))
        name = f"{escape(plain(arm))} seed {seed}"
        async for event in self._events(view.run_id):
            value: Any = self._runtime.value(event) if event.type.startswith("lab:") else None
            view.apply(event, value)
            if event.type == "lab:run":
                self._bar.advance(self._task)
            elif event.type == "lab:experiment":
                last = view.experiments[-1]
                if last.verdict is Verdict.PROMOTED and last.decision is not None:
                    self._say(
                        f"{name}: [bold green]✓[/] {escape(plain(last.hypothesis.title))} "
                        f"[dim]{last.decision.gain:+.4g} after {len(view.measurements)} runs[/]"
                    )

    async def _events(self, run_id: str) -> AsyncIterator[Event]:
        while True:
            try:
                self._runtime.view(run_id)
                break
            except RunNotFound:
                await asyncio.sleep(_PATIENCE)
        async for event in self._runtime.events(run_id, follow=True):
            yield event

    def _say(self, text: str) -> None:
        if not self._quiet:
            console = self._bar.console if err.is_terminal else out
            console.print(text, highlight=False, soft_wrap=True)
