"""`manyhands lab track`, and `lab run --track`: a study shown elsewhere, from its journal."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Annotated, Any

import typer

from manyhands.cli.printing import complain, out
from manyhands.cli.runs import Journal, go, runtime_of
from manyhands.errors import ConfigError, TrackerError
from manyhands.runtime import Runtime


def check_tracker(spec: str) -> None:
    """Raises `ConfigError` for what is none."""
    from manyhands.wiring.trackers import tracker_of  # noqa: PLC0415 - starts slower

    tracker_of(spec)


def track_study(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder, or a run's id.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="TRACKER", help="trackio, trackio:OWNER/SPACE, or python:MODULE:NAME."
        ),
    ] = "trackio",
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the run ends, whoever runs it.")
    ] = False,
    journal: Journal = None,
) -> None:
    """Show a study's run in a tracker: all that it was not told yet, and nothing twice.

    Examples:

    `manyhands lab track examples/tinylm`

    `manyhands lab track . --to trackio:me/experiments --follow`
    """
    from manyhands.teams.lab.view import find_run  # noqa: PLC0415 - optional extra

    check_tracker(to)

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            run_id = find_run(runtime, study).run_id
            told, alerts = await tell(runtime, run_id, to, follow=follow)
            out.print(f"{run_id}: {told} new steps, {alerts} alerts", markup=False)

    go(work())


async def beside(
    follow: Coroutine[Any, Any, None], runtime: Runtime, run_id: str, spec: str
) -> None:
    """``follow``, and the tracker beside it. What goes wrong with that is said, once; the run goes
    on without."""
    if not spec:
        await follow
        return
    tracking = asyncio.create_task(_tracked(runtime, run_id, spec))
    try:
        await follow
        await tracking
    finally:
        tracking.cancel()


async def _tracked(runtime: Runtime, run_id: str, spec: str) -> None:
    try:
        await tell(runtime, run_id, spec, follow=True)
    except (TrackerError, ConfigError) as error:
        complain(error)


async def tell(runtime: Runtime, run_id: str, spec: str, *, follow: bool) -> tuple[int, int]:
    """Tell the tracker what it has not seen: how many steps, and how many alerts."""
    from manyhands.teams.lab.tracking import track  # noqa: PLC0415 - optional extra
    from manyhands.wiring.trackers import events_of, tracker_of  # noqa: PLC0415 - starts slower

    tracker = tracker_of(spec, patience=math.inf if follow else 3.0)
    try:
        return await track(run_id, events_of(runtime, run_id, follow=follow), tracker)
    finally:
        await tracker.close()
