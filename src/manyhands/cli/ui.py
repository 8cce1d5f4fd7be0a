"""`manyhands ui`: the timeline of all runs as a local page."""

from __future__ import annotations

import webbrowser
from typing import Annotated
from urllib.parse import quote

import typer

from manyhands.cli.pages import check_installed
from manyhands.cli.printing import out
from manyhands.cli.runs import Journal, go, runtime_of


def ui(
    port: Annotated[int, typer.Option(help="0: any that is free.", min=0, max=65535)] = 0,
    host: Annotated[
        str, typer.Option(help="Anything but a loopback address lets other machines ask.")
    ] = "127.0.0.1",
    run: Annotated[str, typer.Option(metavar="RUN", help="Open it at this run.")] = "",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it.")] = True,
    journal: Journal = None,
) -> None:
    """Open a local page with all runs of the journal, live. Ctrl-C ends it, and no run.

    Examples: `manyhands ui --run lab-1a2b3c4d`, `manyhands ui --port 8123 --no-browser`
    """
    check_installed()
    # Starlette and uvicorn are an extra, and no other command needs them.
    from manyhands.web import Server  # noqa: PLC0415 - of an extra
    from manyhands.web.guard import is_loopback  # noqa: PLC0415 - of an extra

    async def work() -> None:
        async with (
            runtime_of(journal) as runtime,
            Server(runtime, host=host, port=port) as server,
        ):
            if run:
                runtime.holder(run)  # raises where there is none
            url = f"{server.url}&run={quote(run, safe='')}" if run else server.url
            out.print(f"{runtime.journal.path}: {url}", soft_wrap=True, markup=False)
            if not is_loopback(host):
                out.print(
                    f"Whoever has this address can read every run, unencrypted ({host})",
                    markup=False,
                )
            if browser:
                webbrowser.open(url)
            await server.wait()

    go(work())
