"""Experiments per hour: the lab against a plain shell loop over the very same runs.

The lab goes first and decides what to try. Its ledger names each run's commit and seed, and the
shell trains and evaluates exactly those, at the same parallelism. Equal seeds make equal studies,
so in the second round the shell can go first.
"""

from __future__ import annotations

import json
import os
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

Times = dict[str, Any]


def rows(options: Options) -> list[Row]:
    runs, rounds = options.pick(24, 12), options.pick(2, 1)
    say(f"lab: {runs} runs of {STUDY.name} on {SLOTS} slots, {rounds} rounds")
    labs: list[Times] = []
    loops: list[Times] = []
    with TemporaryDirectory(dir=options.folder) as base:
        studies = [_lay_out(Path(base) / f"study-{n}") for n in range(rounds)]
        shell = ShellLoop(studies[0], Path(base) / "shell")
        shell.prepare()
        ledger: list[dict[str, Any]] = []
        for number, study in enumerate(studies):
            if number % 2:
                loops.append(_told("shell loop", shell.run(ledger, SLOTS)))
            found, rows = run_lab(study, runs, SLOTS, Path(base) / f"journal-{number}.db")
            labs.append(_told("manyhands lab", found))
            if ledger and _work(ledger) != _work(rows):
                say("  the lab chose other runs than in the first round: compare with care")
            ledger = ledger or rows
            if not number % 2:
                loops.append(_told("shell loop", shell.run(ledger, SLOTS)))
    return _rows(labs, loops)


def _work(ledger: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return sorted((row["candidate"], row["seed"]) for row in ledger)


def _rows(labs: Sequence[Times], loops: Sequence[Times]) -> list[Row]:
    whole = [{**lab, "wall": lab["whole"]} for lab in labs]
    name = "lab ÷ shell loop"
    return [
        Row(
            "lab",
            f"{name}, wall of a run, first start to last end",
            ratios(labs, loops, "wall"),
            goal=at_most(1.05),
            raw={"lab": labs, "shell": loops},
        ),
        Row("lab", f"{name}, wall of a run, the whole command", ratios(whole, loops, "wall")),
        Row("lab", f"{name}, cpu of a run, the whole command", ratios(labs, loops, "cpu")),
        Row("lab", "slots of the lab in use, first start to last end", _in_use(labs), "%"),
    ]


def _in_use(labs: Sequence[Times]) -> list[float]:
    """Per cent. The rest is what the lab itself leaves idle: decisions, and rounds that end."""
    return [100 * lab["busy"] / (SLOTS * lab["wall"]) for lab in labs]


def run_lab(
    study: Path, runs: int, slots: int, journal: Path
) -> tuple[Times, list[dict[str, Any]]]:
    """Times of ``manyhands lab run``, and its ledger's rows.

    ``whole``: the command, with its start, data and report. ``wall``: from the first run's start
    to the last one's end. ``busy``: the durations of all runs added up.
    """
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
    """The study as a repository of its own, committed: the same commit each time."""
    ignored = shutil.ignore_patterns("__pycache__", ".manyhands")
    shutil.copytree(STUDY, folder, ignore=ignored)
    named = {f"GIT_{who}_NAME": "bench" for who in ("AUTHOR", "COMMITTER")}
    named |= {f"GIT_{who}_EMAIL": "bench@localhost" for who in ("AUTHOR", "COMMITTER")}
    named |= {f"GIT_{who}_DATE": "@1700000000 +0000" for who in ("AUTHOR", "COMMITTER")}
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "the study"]):
        command = ["git", "-c", "commit.gpgsign=false", *words]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, env=os.environ | named)
    return folder


def _told(name: str, found: Times) -> Times:
    wall, cpu = found["wall"] / found["count"], found["cpu"] / found["count"]
    say(f"  {name:<16} {wall:6.2f} s wall  {cpu:6.2f} s CPU  each of {found['count']}")
    return found
