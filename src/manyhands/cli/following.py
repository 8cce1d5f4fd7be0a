"""Live progress of a run, from its journal: a line for what has happened, a spinner for what is on.
What agents wrote is printed inert."""

from __future__ import annotations

import time
from typing import Self

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from manyhands.cli.printing import err
from manyhands.runtime import Event, RunState, Runtime

#: Seconds between two looks at what was spent: it is summed over all steps.
_BETWEEN = 0.2


def tell_where(run_id: str) -> None:
    """How to look at a run while it goes on: on stderr, where progress is told."""
    err.print(
        f"→ manyhands ui --run {run_id}, or manyhands watch {run_id}",
        style="dim",
        markup=False,
        soft_wrap=True,
    )


class Following:
    """Prints events as they come. Use as a context manager around the run; a team says what of an
    event is shown (`show`), and what goes on now (`now`)."""

    def __init__(self, runtime: Runtime, run_id: str, *, quiet: bool = False) -> None:
        self.state = RunState(run_id)
        self._runtime = runtime
        self._quiet = quiet
        self._due = 0.0
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=quiet or not err.is_terminal,
        )
        self._task = self._bar.add_task("preparing")
        self.say(f"[dim]run[/] {run_id} [dim]· Ctrl-C leaves it resumable[/]")
        if not quiet:
            tell_where(run_id)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    async def follow(self) -> None:
        """Until the run ends."""
        async for event in self._runtime.events(self.state.run_id, follow=True):
            self.state.apply(event)
            self.show(event)
            if not self._bar.disable and time.monotonic() >= self._due:
                self._due = time.monotonic() + _BETWEEN
                self._bar.update(self._task, description=self.now())

    def say(self, text: str) -> None:
        if not self._quiet:
            self._bar.console.print(text, highlight=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        raise NotImplementedError

    def now(self) -> str:
        raise NotImplementedError
