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
        kinds = [name for name, fault in FAULTS.items() if fault.check == check]
        placed = sum(r.placed[kind] for r in found.values() for kind in kinds)
        hit = sum(r.found[kind] for r in found.values() for kind in kinds)
        wrong = sum(r.by_check[check] for r in found.values())
        checks.append(f"| `{check}` | {wrong} of {steps} | {hit} of {placed} |")
    faults = [
        f"| fault | check | MAST mode | {' | '.join(names)} |",
        f"|---|---|---|{'---|' * len(names)}",
    ]
    for name, fault in FAULTS.items():
        cells = _row(f"{r.found[name]}/{r.placed[name]}" for r in found.values())
        faults.append(f"| {name} | `{fault.check}` | {fault.mode} | {cells} |")
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
