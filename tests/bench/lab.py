"""Experiments per hour: the lab against a plain shell loop over the very same runs.

The lab goes first and decides what to try. Its ledger names each run's commit and seed, and the
shell trains and evaluates exactly those, at the same parallelism. Equal seeds make equal studies,
so the second round turns the order round.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.rounds import ROOT, ContestantFailed, Options, ratios, say
from tests.bench.rows import Row, at_most
from tests.bench.shell import ShellLoop, clocked

STUDY = ROOT / "examples" / "tinylm"
SLOTS = 2
COMMAND = [sys.executable, "-c", "from manyhands.cli import main; main()"]


def rows(options: Options) -> list[Row]:
    runs, rounds = options.pick(24, 12), options.pick(2, 1)
    say(f"lab: {runs} runs of {STUDY.name} on {SLOTS} slots, {rounds} rounds")
    labs: list[dict[str, Any]] = []
    loops: list[dict[str, Any]] = []
    ledger: list[dict[str, Any]] = []
    for number in range(rounds):
        with TemporaryDirectory(dir=options.folder) as folder:
            study = _lay_out(Path(folder) / "study")
            shell = ShellLoop(study, Path(folder) / "shell")
            shell.prepare()
            if number % 2:
                loops.append(_told("shell loop", shell.run(ledger, SLOTS)))
            found, ledger = run_lab(study, runs, SLOTS, Path(folder) / "journal.db")
            labs.append(_told("manyhands lab", found))
            if not number % 2:
                loops.append(_told("shell loop", shell.run(ledger, SLOTS)))
    return _rows(labs, loops)


def _rows(labs: Sequence[Mapping[str, Any]], loops: Sequence[Mapping[str, Any]]) -> list[Row]:
    whole = [{**lab, "wall": lab["whole"]} for lab in labs]
    raw = {"lab": labs, "shell": loops}
    return [
        Row(
            "lab",
            "lab ÷ shell loop, wall of a run, first start to last end",
            ratios(labs, loops, "wall"),
            goal=at_most(1.05),
            raw=raw,
        ),
        Row("lab", "lab ÷ shell loop, wall, the whole command", ratios(whole, loops, "wall")),
        Row("lab", "lab ÷ shell loop, cpu, the whole command", ratios(labs, loops, "cpu")),
        Row("lab", "slots of the lab in use, first start to last end", _shares(labs), "%"),
    ]


def _shares(labs: Sequence[Mapping[str, Any]]) -> list[float]:
    """Per cent. The rest is what the lab itself leaves idle: decisions, and rounds that end."""
    return [100 * lab["busy"] / (SLOTS * lab["wall"]) for lab in labs]


def run_lab(
    study: Path, runs: int, slots: int, journal: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Times of ``manyhands lab run`` (``whole``: of the command, with its start, data and report;
    ``wall``: from the first run's start to the last one's end), and the ledger's rows."""
    named = ["--journal", str(journal), "--json"]
    asked = ["lab", "run", str(study), "--runs", str(runs), "--slots", str(slots), *named]
    found, _ = clocked([*COMMAND, *asked], study)
    _, listed = clocked([*COMMAND, "lab", "ledger", str(study), *named], study)
    ledger = json.loads(listed)
    if not ledger:
        raise ContestantFailed("the lab's ledger is empty")
    first = min(row["started_at"] for row in ledger)
    last = max(row["started_at"] + row["duration"] for row in ledger)
    busy = sum(row["duration"] for row in ledger)
    times = {"whole": found["wall"], "wall": last - first, "busy": busy, "count": len(ledger)}
    return found | times, ledger


def _lay_out(folder: Path) -> Path:
    """The study as a repository of its own, committed."""
    ignored = shutil.ignore_patterns("__pycache__", ".manyhands", "results*", "report*", "plots*")
    shutil.copytree(STUDY, folder, ignore=ignored)
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "the study"]):
        subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)
    return folder


def _told(name: str, found: dict[str, Any]) -> dict[str, Any]:
    wall, cpu = found["wall"] / found["count"], found["cpu"] / found["count"]
    say(f"  {name:<16} {wall:6.2f} s wall  {cpu:6.2f} s CPU  each of {found['count']}")
    return found
