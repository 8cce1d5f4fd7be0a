"""The ledger as others read it: ``results.tsv``, JSON, and a table for a terminal.

Invariant: one run is one line and one value is one cell, whatever text an agent wrote into it.

``results.tsv`` has one header for three kinds of readers. Its first five columns are those of
karpathy/autoresearch, in that project's order, for readers that go by position; then come the
columns of burtenshaw/multiautoresearch that are not among them; then what only this ledger knows.
Readers that go by name find theirs wherever it stands; one that insists on its own header and no
other gets it with ``columns=KARPATHY`` or ``columns=MULTIAUTORESEARCH``.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from manyhands.teams.lab.pruning import PRUNED
from manyhands.teams.lab.records import LedgerRow, Phase, Verdict

METRIC = "val_bpb"
KARPATHY = ("commit", METRIC, "memory_gb", "status", "description")
MULTIAUTORESEARCH = (
    *("run_id", "created_at", "status", "job_id", "campaign", "experiment_id", "worker_id"),
    *("hypothesis", "parent_hash", "candidate_hash", METRIC, "training_seconds", "total_seconds"),
    *("peak_vram_mb", "mfu_percent", "promoted", "comment"),
)
OWN = (
    *("phase", "seed", "delta", "holdout", "verdict", "rule", "exit", "hypothesis_id"),
    *("cpu_seconds", "peak_memory_mb", "cost_usd", "started_at", "slot", "fillers", "environment"),
    *("paper", "host"),
)
#: The exit of a row whose experiment was refused before it cost a run.
NOT_RUN = "not_run"
COLUMNS = (*KARPATHY, *(name for name in MULTIAUTORESEARCH if name not in KARPATHY), *OWN)

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.")


def plain(text: str, limit: int = 0) -> str:
    """``text`` as one inert line: no escape sequence, no control or invisible character.

    Newlines, tabs and every character that does not print become spaces, runs of spaces one.
    ``limit`` cuts to so many characters, the last an ellipsis (0: no limit).
    """
    line = text
    if not text.isprintable():
        cut = _ESCAPES.sub("", text)
        line = "".join(c if c.isprintable() else " " for c in cut)
    line = " ".join(line.split())
    return line if not limit or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def cell(text: str) -> str:
    """``plain`` text that neither a CSV reader (quotes) nor a spreadsheet (formulas) interprets."""
    line = plain(text).replace('"', "'")
    return f"'{line}" if line[:1] in ("=", "+", "-", "@") else line


def finite(value: float | None) -> float | None:
    """``value``, or None where it is NaN or infinite: those are failures, never numbers."""
    return value if value is not None and math.isfinite(value) else None


def number(value: float | None) -> str:
    """Twelve significant digits; '' for unknown, so that a missing value is never a number."""
    known = finite(value)
    return "" if known is None else format(known, ".12g")


def amount(value: float) -> str:
    """Six significant digits, for what is measured by a clock or a gauge."""
    return format(value, ".6g")


def shown_number(value: float | None, form: str = ".5g") -> str:
    """For people: ``form``, or an en dash for unknown."""
    known = finite(value)
    return "–" if known is None else format(known, form)


def iso_time(unix: float) -> str:
    """UTC, to the second, as ``2026-11-21T09:55:00Z``; '' for 0 (not known)."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if unix else ""


def status(row: LedgerRow, kept: frozenset[int]) -> str:
    """karpathy's three words. ``kept`` comes from ``kept_rows``. What the study refused or ended
    early is discarded; only what failed by itself has crashed."""
    if finite(row.metric) is None and row.exit not in (NOT_RUN, PRUNED):
        return "crash"
    return "keep" if row.row in kept else "discard"


def kept_rows(rows: Sequence[LedgerRow]) -> frozenset[int]:
    """The numbers of the rows exported as kept: one per program that ever was the master.

    It is the *first* confirmation run of a promoted candidate (the first run of all for the
    baseline), chosen before its value was known. Taking the best instead would export a
    minimum over k replicates as if it were a result.
    """
    first: dict[str, int] = {}
    for row in sorted(rows, key=lambda r: r.row):
        confirmed = row.verdict is Verdict.PROMOTED and row.phase is Phase.CONFIRM
        started = row.verdict is Verdict.BASELINE and not first
        if finite(row.metric) is not None and (confirmed or started):
            first.setdefault(row.candidate, row.row)
    return frozenset(first.values())


def to_tsv(
    rows: Sequence[LedgerRow], *, metric: str = METRIC, columns: Sequence[str] = COLUMNS
) -> str:
    """The whole export: a header, then one line per row in ledger order.

    The metric's column carries the study's ``metric`` name. An unknown value is an empty cell:
    this ledger has neither GPU memory nor utilisation, and a crash has no metric (not 0.0).
    """
    kept = kept_rows(rows)
    header = [metric if name == METRIC else name for name in columns]
    lines = ["\t".join(cell(name) for name in header)]
    for row in sorted(rows, key=lambda r: r.row):
        values = _values(row, kept)
        lines.append("\t".join(values[name] for name in columns))
    return "\n".join(lines) + "\n"


def _values(row: LedgerRow, kept: frozenset[int]) -> dict[str, str]:
    return {
        "commit": cell(row.candidate[:7]),
        METRIC: number(row.metric),
        "memory_gb": format(row.peak_memory_mb / 1024, ".3f"),
        "status": status(row, kept),
        "description": cell(_description(row)),
        "run_id": str(row.row),
        "created_at": iso_time(row.created_at),
        "job_id": "",
        "campaign": cell(row.campaign),
        "experiment_id": cell(row.experiment),
        "worker_id": cell(row.worker),
        "hypothesis": cell(row.title),
        "parent_hash": cell(row.parent),
        "candidate_hash": cell(row.candidate),
        "training_seconds": "",
        "total_seconds": amount(row.duration),
        "peak_vram_mb": "",
        "mfu_percent": "",
        "promoted": "true" if row.row in kept else "false",
        "comment": cell(row.comment),
        "phase": row.phase.value,
        "seed": str(row.seed) if row.seed >= 0 else "",
        "delta": number(row.delta),
        "holdout": number(row.holdout),
        "verdict": row.verdict.value,
        "rule": cell(row.rule),
        "exit": cell(row.exit),
        "hypothesis_id": cell(row.hypothesis),
        "cpu_seconds": amount(row.cpu_seconds),
        "peak_memory_mb": amount(row.peak_memory_mb),
        "cost_usd": amount(row.cost_usd),
        "started_at": iso_time(row.started_at),
        "slot": str(row.slot) if row.slot >= 0 else "",
        "fillers": cell(fillers_text(row.fillers)),
        "environment": cell(row.environment),
        "paper": cell(row.paper),
        "host": cell(row.host),
    }


def _description(row: LedgerRow) -> str:
    """What was run; a master's run in a confirmation is not the change that it is compared with."""
    again = row.verdict is Verdict.BASELINE and row.phase is not Phase.BASELINE
    return f"master, measured beside: {row.title}" if again else row.title


def fillers_text(fillers: dict[str, str]) -> str:
    """``planner=optuna-tpe; reviewer=rules``, by role name."""
    return "; ".join(f"{role}={who}" for role, who in sorted(fillers.items()))


def to_json(rows: Sequence[LedgerRow]) -> str:
    """A JSON list with every field of every row, ASCII only (control characters are escaped)."""
    listed = [
        {name: _json_value(value) for name, value in row.model_dump(mode="json").items()}
        for row in sorted(rows, key=lambda r: r.row)
    ]
    return json.dumps(listed, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _json_value(value: Any) -> Any:
    return finite(value) if isinstance(value, float) else value


def ledger_table(rows: Sequence[LedgerRow], *, width: int = 100, last: int = 0) -> str:
    """The ledger for a terminal, at most ``width`` columns wide; ``last`` > 0 shows the newest."""
    ordered = sorted(rows, key=lambda r: r.row)
    shown = ordered[-last:] if last else ordered
    header = ("row", "experiment", "phase", "seed", "metric", "delta", "s", "verdict", "title")
    body = [
        (
            str(row.row),
            row.experiment,
            row.phase.value,
            str(row.seed) if row.seed >= 0 else "–",
            shown_number(row.metric, ".5g"),
            shown_number(row.delta, "+.3g"),
            f"{row.duration:.1f}",
            row.verdict.value,
            _description(row),
        )
        for row in shown
    ]
    table = text_table(header, body, right=(0, 3, 4, 5, 6), width=width)
    hidden = len(ordered) - len(shown)
    return f"{table}… {hidden} earlier rows not shown\n" if hidden else table


def text_table(
    header: Sequence[str],
    body: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    width: int = 100,
) -> str:
    """Plain aligned text, inert for a terminal. The last column gives way to fit ``width``."""
    cells = [[plain(value) for value in row] for row in (header, *body)]
    sizes = [max(columns_of(value) for value in column) for column in zip(*cells, strict=True)]
    spare = width - sum(sizes[:-1]) - 2 * (len(sizes) - 1)
    sizes[-1] = min(sizes[-1], max(spare, 8))
    rule = ["─" * size for size in sizes]
    lines = [
        "  ".join(
            _pad(value, size, at in right)
            for at, (value, size) in enumerate(zip(row, sizes, strict=True))
        ).rstrip()
        for row in (cells[0], rule, *cells[1:])
    ]
    return "\n".join(lines) + "\n"


def columns_of(text: str) -> int:
    """How many terminal columns ``text`` takes: wide characters two, combining marks none."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _pad(text: str, size: int, to_right: bool) -> str:
    if columns_of(text) > size:
        while text and columns_of(text) > size - 1:
            text = text[:-1]
        text += "…"
    gap = " " * (size - columns_of(text))
    return gap + text if to_right else text + gap


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``: two units at most."""
    seconds = max(seconds, 0.0)
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    for size, unit, smaller, name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{whole} s"
