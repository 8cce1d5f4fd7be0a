"""`manyhands lab dashboard`: Trackio's own page, with a study's run in it."""

from __future__ import annotations

import asyncio
import contextlib
import webbrowser
from typing import Annotated

import typer

from manyhands.cli.printing import complain, out, print_json
from manyhands.cli.runs import AsJson, Journal, go, runtime_of
from manyhands.cli.tracking import tell
from manyhands.errors import ConfigError, TrackerError
from manyhands.runtime import Runtime


def dashboard(
    study: Annotated[
        str,
        typer.Argument(
            metavar="[STUDY|RUN]", help="A study's folder, or a run's id; none: what Trackio has."
        ),
    ] = "",
    port: Annotated[int, typer.Option(help="0: any that is free.", min=0, max=65535)] = 0,
    edit: Annotated[
        bool, typer.Option("--edit", help="An address with which runs can be renamed and deleted.")
    ] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it.")] = True,
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """Open Trackio's dashboard on this machine, with a study's newest run in it, live.

    What Trackio has not seen of the run it is told first, and goes on being told. Ctrl-C ends the
    dashboard, and no run.

    Examples:

    `manyhands lab dashboard examples/tinylm`

    `manyhands lab dashboard lab-1a2b3c4d --no-browser --json`

    `manyhands lab dashboard`
    """
    from manyhands.wiring.trackers import TrackioDashboard, check_installed  # noqa: PLC0415

    check_installed()

    async def work() -> None:
        async with contextlib.AsyncExitStack() as stack:
            told: dict[str, object] = {}
            if study:
                runtime = await stack.enter_async_context(runtime_of(journal))
                run_id, project = _found(runtime, study)
                told = {"run": run_id, "project": project}
                told |= await _told(runtime, run_id)
                following = asyncio.create_task(_followed(runtime, run_id))
                stack.callback(following.cancel)
            page = TrackioDashboard(str(told.get("project", "")), port=port)
            address = await stack.enter_async_context(page)
            url = address.edit_url if edit else address.url
            if as_json:
                print_json({"url": url} | told)
            else:
                _say(url, told, edit)
            if browser:
                webbrowser.open(url)
            await page.wait()

    go(work())


def _say(url: str, told: dict[str, object], edit: bool) -> None:
    if "steps" in told:
        out.print(
            f"{told['run']}: {told['steps']} new steps, {told['alerts']} alerts", markup=False
        )
    out.print(f"Trackio: {url}", soft_wrap=True, markup=False)
    if edit:
        out.print("Whoever has this address can rename and delete runs.", markup=False)
    out.print("Ctrl-C ends it")


def _found(runtime: Runtime, study: str) -> tuple[str, str]:
    """The run's id, and the project that it is shown in."""
    from manyhands.teams.lab.view import find_run, read_lab  # noqa: PLC0415 - optional extra

    run_id = find_run(runtime, study).run_id
    view = read_lab(runtime, run_id)
    if view.config is None:
        raise ConfigError(f"run {run_id} has not begun its study yet", next="wait for its baseline")
    return run_id, view.config.study.name


async def _told(runtime: Runtime, run_id: str) -> dict[str, int]:
    """What was new. Nothing, and it is said, where another process tells of the run already."""
    try:
        steps, alerts = await tell(runtime, run_id, "trackio", follow=False)
    except TrackerError as error:
        complain(error)
        return {}
    return {"steps": steps, "alerts": alerts}


async def _followed(runtime: Runtime, run_id: str) -> None:
    """Go on telling. What goes wrong is said, and the dashboard stays."""
    try:
        await tell(runtime, run_id, "trackio", follow=True)
    except (TrackerError, ConfigError) as error:
        complain(error)
