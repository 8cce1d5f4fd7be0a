"""The measured table of docs/reference/checks.md: ``python -m tests.stepcheck.table`` writes it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from manyhands.agents.stepcheck import STANDARD
from tests.stepcheck.faults import FAULTS
from tests.stepcheck.good import FRESH, HELD_OUT, TUNED, runs
from tests.stepcheck.measure import Rates, measure
from tests.stepcheck.teams import team_runs

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "checks.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
SEEDS = range(12)
#: Which check is to flag a fault.
EXPECTED = {
    "arguments that are no JSON": "schema",
    "a tool that is not there": "schema",
    "a call printed as text": "format",
    "an answer in broken JSON": "format",
    "nothing said": "empty",
    "a reply that was cut": "truncated",
    "the same said again": "repeated",
    "a text that goes round": "repeated",
    "the same calls in a circle": "cycle",
    "an error passed over": "ignored-error",
    "another act than announced": "mismatch",
    "a call announced and not made": "mismatch",
    "edits that change nothing": "no-progress",
    "results that were all seen": "no-progress",
    "work after the report": "after-end",
    "far more tokens or time": "outlier",
    "an edit that was not made": "claimed-edit",
    "a pass of tests that failed": "claimed-test",
    "a pass of tests never run": "claimed-test",
    "a failure left out": "omitted-failure",
    "an edit that nothing checked": "unverified",
    "a number from nowhere": "ungrounded-number",
    "a file from nowhere": "ungrounded-path",
    "a quote from nowhere": "ungrounded-quote",
}


def splits() -> dict[str, Rates]:
    """Name -> what was measured on it."""
    with TemporaryDirectory() as folder:
        teams = asyncio.run(team_runs(Path(folder)))
    return {
        "tuned": measure(runs(TUNED, SEEDS), words=0),
        "held out": measure(runs(HELD_OUT, SEEDS), words=1),
        "teams": measure(teams, words=1),
        "last": measure(runs(FRESH, SEEDS), words=1),
    }


def render(found: dict[str, Rates]) -> str:
    names = list(found)
    head = f"| | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n"
    total = [
        f"| good steps | {_row(str(r.steps) for r in found.values())} |",
        f"| of them flagged | {_row(f'{r.good_rate:.1%}' for r in found.values())} |",
        f"| faults placed | {_row(str(r.placed.total()) for r in found.values())} |",
        f"| flagged at the right step | {_row(f'{r.found_rate:.1%}' for r in found.values())} |",
    ]
    checks = ["| check | good steps flagged | faults flagged at their step |", "|---|---|---|"]
    steps = sum(r.steps for r in found.values())
    for check in STANDARD:
        kinds = [name for name, expected in EXPECTED.items() if expected == check]
        placed = sum(r.placed[kind] for r in found.values() for kind in kinds)
        hit = sum(r.found[kind] for r in found.values() for kind in kinds)
        wrong = sum(r.by_check[check] for r in found.values())
        checks.append(f"| `{check}` | {wrong} of {steps} | {hit} of {placed} |")
    faults = [
        f"| fault | check | MAST mode | {' | '.join(names)} |",
        f"|---|---|---|{'---|' * len(names)}",
    ]
    for name, (_, mode) in FAULTS.items():
        cells = _row(f"{r.found[name]}/{r.placed[name]}" for r in found.values())
        faults.append(f"| {name} | `{EXPECTED[name]}` | {mode} | {cells} |")
    return head + "\n".join([*total, "", *checks, "", *faults]) + "\n"


def _row(cells: Iterable[str]) -> str:
    return " | ".join(cells)


def written(text: str, table: str) -> str:
    """The page with this table in it."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}{table}{END}{after}"


if __name__ == "__main__":
    page = DOCS.read_text("utf-8")
    DOCS.write_text(written(page, render(splits())), "utf-8")
