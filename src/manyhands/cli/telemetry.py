"""A run's spans to a collector or a file, where the extra `otel` is installed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyhands.cli.printing import err, out, plain, print_json
from manyhands.errors import ConfigError
from manyhands.runtime.journal import Journal

if TYPE_CHECKING:
    from manyhands.telemetry.otlp import Sent

#: Seconds that `manyhands export` waits for a collector that is away.
PATIENCE = 30.0
#: What looks like a collector, and would be written to as a file.
_HOST = re.compile(r"[\w.-]+:\d+(/v1/traces)?/?")
_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def check_installed() -> None:
    try:
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    except ModuleNotFoundError as error:
        missing = [error.name or _NEEDED[0]]
    if missing:
        raise ConfigError(f"{missing[0]} is not installed", next="pip install 'manyhands[otel]'")


def export_spans(
    journal: Journal, run_id: str, where: str, *, limit: int | None, as_json: bool
) -> None:
    """``where``: a collector's URL, or a file. ``limit``: bytes of a text that was said (None: what
    was said is left out)."""
    check_installed()
    from manyhands.telemetry import following, otlp, reading  # noqa: PLC0415 - of an extra

    spans = reading.spans_of(journal, run_id, limit)
    if _HOST.fullmatch(where):
        raise ConfigError(f"{where!r} is a file's name", next=f"write http://{where}, or ./{where}")
    if "://" not in where:
        told: dict[str, Any] = {"run_id": run_id, "file": where}
        show(otlp.write_json(spans, Path(where)), told, as_json)
        return
    sent = otlp.Sent()
    with otlp.Collector(where) as collector:
        patience = following.Patience(PATIENCE, told=away)
        for batch in otlp.batches(spans):
            sent.add(following.deliver(collector, batch, patience))
        endpoint = otlp.shown_endpoint(collector.endpoint)
    show(sent, {"run_id": run_id, "endpoint": endpoint}, as_json)


def away(why: str, wait: float) -> None:
    err.print(f"the collector: {plain(why)}; again in {wait:.0f} s", markup=False, soft_wrap=True)


def show(sent: Sent, about: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(about | {"spans": sent.spans, "refused": sent.refused, "why": sent.why})
        return
    where = about.get("file") or about.get("endpoint", "")
    out.print(f"{sent.spans} spans in {plain(where)}", markup=False, soft_wrap=True)
    if sent.refused:
        err.print(
            f"{sent.refused} spans were refused: {plain(sent.why)}", markup=False, soft_wrap=True
        )
