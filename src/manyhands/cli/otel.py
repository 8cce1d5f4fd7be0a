"""`manyhands otel`: runs to an OpenTelemetry collector, as they go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyhands.cli.printing import complain, err, plain
from manyhands.cli.runs import AsJson, Content, ContentLimit, Journal
from manyhands.cli.telemetry import away, check_installed, show
from manyhands.config import home, load_config
from manyhands.runtime.journal import Journal as File
from manyhands.wiring import journal_url

if TYPE_CHECKING:
    from manyhands.telemetry.otlp import Sent

Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN…]", help="Default: all runs.", show_default=False),
]


def otel(
    runs: Runs = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    otlp: Annotated[
        str | None,
        typer.Option(
            "--otlp",
            metavar="URL",
            help="Of the collector. Default: OTEL_EXPORTER_OTLP_ENDPOINT, or port 4318 here.",
        ),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="The first time: leave out runs that have ended.")
    ] = False,
    content: Content = False,
    content_limit: ContentLimit = None,
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """Send what the journal holds of runs to an OpenTelemetry collector, and no span twice.

    It is a process of its own that only reads: it can stop, crash and start again while runs go on,
    and goes on where it was. While the collector is away it waits. A run that is damaged is told of
    and left out; the command then ends with 1. `OTEL_EXPORTER_OTLP_HEADERS` and the other variables
    of OTLP count. With RUN… and `--follow` it ends when those have ended.

    Examples:

    `manyhands otel --follow`

    `manyhands otel --follow --new --otlp http://localhost:6006`

    `manyhands otel lab-1a2b3c4d --follow --content --content-limit 100000`
    """
    check_installed()
    from manyhands.telemetry import cursor, following  # noqa: PLC0415 - of an extra
    from manyhands.telemetry import otlp as sending  # noqa: PLC0415 - of an extra
    from manyhands.telemetry.content import limit_of  # noqa: PLC0415 - of an extra

    limit = limit_of(content, content_limit)
    file = File(journal_url(load_config(Path.cwd()), journal))
    try:
        with sending.Collector(otlp) as collector:
            endpoint = sending.shown_endpoint(collector.endpoint)
            kind = endpoint if limit is None else f"{endpoint} with content"
            with cursor.Cursor(home() / "otel", file.path, kind) as kept:
                job = following.Following(
                    file, collector, kept, runs or (), limit, following.Patience(told=away), told
                )
                job.on_damage = complain
                if new:
                    job.skip_ended()
                try:
                    job.follow() if follow else job.look()
                except KeyboardInterrupt:
                    err.print("stopped; it goes on from here when it is started again")
            about = {"endpoint": endpoint, "journal": str(file.path), "damaged": [*job.damaged]}
            show(job.total, about, as_json)
            if job.damaged:
                raise typer.Exit(1)
    finally:
        file.close()


def told(run_id: str, sent: Sent) -> None:
    err.print(f"{plain(run_id)}: {sent.spans} spans", markup=False, soft_wrap=True)
