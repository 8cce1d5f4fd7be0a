"""Experiments per hour: the lab against a plain shell loop over the very same runs.

The lab goes first and decides what to try. Its ledger names each run's commit and seed, and the
shell trains and evaluates exactly those, at the same parallelism. Equal seeds make equal studies,
so in the second round the shell can go first.

One run at a time against a plain loop, with twice tinylm's training budget, so that a run takes
about five CPU-seconds: that is the goal. Then two at once against ``xargs -P 2``, with runs as
tinylm has them and four times as long. With two slots the lab also has slots idle, which a list of
commands has not: the runs of a look are paired, and nothing new begins until their test has said
whether there is a new master. What sandboxes and records add does not grow with a run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.rounds import ROOT, ContestantFailed, Options, ratios, say
from tests.bench.rows import Goal, Row, at_most
from tests.bench.shell import ShellLoop, clocked

STUDY = ROOT / "examples" / "tinylm"
_BUDGET = re.compile(r"^BUDGET = ([\d_]+)$", re.MULTILINE)
COMMAND = [sys.executable, "-c", "from manyhands.cli import main; main()"]

Times = dict[str, Any]


@dataclass(frozen=True)
class Course:
    """``scale``: times the training budget of the study."""

    slots: int
    scale: int
    goal: Goal | None = None

    @property
    def name(self) -> str:
        longer = "" if self.scale == 1 else f", runs {self.scale} times as long"
        return f"{self.slots} at once{longer}"


COURSES = (Course(1, 2, at_most(1.05)), Course(2, 1), Course(2, 4))


def rows(options: Options) -> list[Row]:
    courses = COURSES if not options.quick else COURSES[:1]
    return [row for course in courses for row in _measured(options, course)]


def _measured(options: Options, course: Course) -> list[Row]:
    runs, rounds = options.pick(24, 18), options.pick(2, 1)
    say(f"lab: {runs} runs of {STUDY.name}, {course.name}, {rounds} rounds")
    labs: list[Times] = []
    loops: list[Times] = []
    with TemporaryDirectory(dir=options.folder) as base:
        studies = [_lay_out(Path(base) / f"study-{n}", course.scale) for n in range(rounds)]
        shell = ShellLoop(studies[0], Path(base) / "shell")
        shell.prepare()
        ledger: list[dict[str, Any]] = []
        for number, study in enumerate(studies):
            if number % 2:
                loops.append(_told("shell loop", shell.run(ledger, course.slots)))
            found, rows = run_lab(study, runs, course.slots, Path(base) / f"journal-{number}.db")
            labs.append(_told("manyhands lab", found))
            if ledger and _work(ledger) != _work(rows):
                say("  the lab chose other runs than in the first round: compare with care")
            ledger = ledger or rows
            if not number % 2:
                loops.append(_told("shell loop", shell.run(ledger, course.slots)))
    return _rows(labs, loops, course)


def _work(ledger: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return sorted((row["candidate"], row["seed"]) for row in ledger)


def _rows(labs: Sequence[Times], loops: Sequence[Times], course: Course) -> list[Row]:
    whole = [{**lab, "wall": lab["whole"]} for lab in labs]
    name = f"lab ÷ shell loop, {course.name}"
    return [
        Row(
            "lab",
            f"{name}: wall, first start to last end",
            ratios(labs, loops, "wall"),
            goal=course.goal,
            raw={"lab": labs, "shell": loops},
        ),
        Row("lab", f"{name}: wall, the whole command", ratios(whole, loops, "wall")),
        Row("lab", f"{name}: cpu, the whole command", ratios(labs, loops, "cpu")),
        Row("lab", f"slots in use, {course.name}", _in_use(labs, course.slots), "%"),
    ]


def _in_use(labs: Sequence[Times], slots: int) -> list[float]:
    """Per cent. The rest is what the lab itself leaves idle: decisions, and rounds that end."""
    return [100 * lab["busy"] / (slots * lab["wall"]) for lab in labs]


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


def _lay_out(folder: Path, scale: int) -> Path:
    """The study as a repository of its own, committed: the same commit each time."""
    ignored = shutil.ignore_patterns("__pycache__", ".manyhands")
    shutil.copytree(STUDY, folder, ignore=ignored)
    model = folder / "model.py"
    text, found = _BUDGET.subn(lambda m: f"BUDGET = {scale * int(m[1])}", model.read_text())
    if found != 1:
        raise ContestantFailed(f"{model} has {found} lines of the form 'BUDGET = …'")
    model.write_text(text)
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
