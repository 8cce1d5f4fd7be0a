"""Measures a study itself: the noise between seeds, and what single changes gain.

Invariant: nothing here is used by a study; it edits copies in a temporary folder, as a worker
would, and prints the tables of the study's README.md.

``python survey.py tinylm`` tries every line of ``tinylm/changes.txt``, alone, with some seeds each,
and then single changes at random. ``--seeds``, ``--draws`` and ``--jobs`` shorten it; ``--start``
applies changes first. Standard library only.
"""

import argparse
import ast
import json
import math
import os
import random
import re
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

Change = tuple[str, object]


@dataclass(frozen=True)
class Outcome:
    """The metric on both splits (NaN: the run failed), CPU seconds, peak memory in MB."""

    val: float
    holdout: float
    cpu: float
    memory: float


@dataclass(frozen=True)
class Subject:
    """A study, and where its prepared data lies."""

    folder: Path
    data: Path
    sealed: Path

    @property
    def config(self) -> dict:
        return tomllib.loads((self.folder / "study.toml").read_text())

    @property
    def source(self) -> str:
        return (self.folder / self.config["files"]["edit"][0]).read_text()

    @property
    def sign(self) -> int:
        return -1 if self.config["metric"]["direction"] == "lower" else 1

    def prepare(self) -> None:
        command = self.config["prepare"]["command"]
        if self.run(self.folder, command, {}).returncode:
            sys.exit(f"could not prepare: {command}")

    def run(
        self, folder: Path, command: str, values: dict[str, str]
    ) -> subprocess.CompletedProcess:
        """``command`` in ``folder``, its placeholders filled."""
        values = {"data": str(self.data), "sealed": str(self.sealed), "out": "out", **values}
        env = self.config["train"].get("env", {})
        first, *rest = (word.format(**values) for word in shlex.split(command))
        return subprocess.run(
            [sys.executable if first == "python" else first, *rest],
            cwd=folder,
            env=os.environ | {name: value.format(**values) for name, value in env.items()},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )


def edited(source: str, changes: list[Change]) -> str:
    """``source`` with the settings of ``changes`` replaced, comments kept."""
    for name, value in changes:
        text = rf"\g<1>{value!r}"
        source, count = re.subn(rf"^({name} = )\S+", text, source, flags=re.MULTILINE)
        if count != 1:
            raise SystemExit(f"{count} lines set {name}; expected one")
    return source


def run_once(subject: Subject, changes: list[Change], seed: int) -> Outcome:
    """Trains and evaluates in a fresh folder; runs in a process of its own to count its CPU."""
    config = subject.config
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in subject.folder.glob("*.py"):
            shutil.copy(path, folder)
        (folder / config["files"]["edit"][0]).write_text(edited(subject.source, changes))
        (folder / "out").mkdir()
        done = subject.run(folder, config["train"]["command"], {"seed": str(seed)})
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        values = [
            _measured(subject, folder, config["metric"][which]) if not done.returncode else math.nan
            for which in ("evaluate", "holdout")
        ]
    return Outcome(*values, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def _measured(subject: Subject, folder: Path, command: str) -> float:
    done = subject.run(folder, command, {})
    name = subject.config["metric"]["name"]
    return math.nan if done.returncode else json.loads(done.stdout.splitlines()[-1])[name]


def draw(subject: Subject, rng: random.Random) -> Change:
    """One setting at random, and a value at random from its range in study.toml."""
    ranges = subject.config["settings"]
    name = rng.choice(sorted(ranges))
    limits = ranges[name]
    if "choices" in limits:
        now = ast.literal_eval(re.search(rf"^{name} = (\S+)", subject.source, re.MULTILINE)[1])
        return name, rng.choice([each for each in limits["choices"] if each != now])
    low, high = limits["low"], limits["high"]
    value = (
        math.exp(rng.uniform(math.log(low), math.log(high)))
        if limits.get("log")
        else rng.uniform(low, high)
    )
    return name, round(value) if isinstance(low, int) else float(f"{value:.3g}")


def parsed(lines: list[str]) -> list[Change]:
    """Of ``NAME = value`` each."""
    cut = [line.partition("=") for line in lines if line.strip()]
    return [(name.strip(), ast.literal_eval(value.strip())) for name, _, value in cut]


def row(label: str, base: list[Outcome], got: list[Outcome], sd: float, sign: int) -> str:
    """Differences of the means; both sides ran the same seeds. Failed runs are counted."""
    pairs = [(b, g) for b, g in zip(base, got) if not math.isnan(b.val + g.val + g.holdout)]
    cpu = statistics.median(each.cpu for each in got)
    if len(pairs) < len(got):
        return f"| {label} | refused, {len(got) - len(pairs)} of {len(got)} | | | {cpu:.1f} |"
    gain = sign * statistics.mean(g.val - b.val for b, g in pairs)
    sealed = sign * statistics.mean(g.holdout - b.holdout for b, g in pairs)
    return f"| {label} | {gain:+.4f} | {gain / sd:+.1f} | {sealed:+.4f} | {cpu:.1f} |"


def survey(subject: Subject, start: list[Change], seeds: int, draws: int, jobs: int) -> None:
    rng = random.Random(0)
    drawn = [draw(subject, rng) for _ in range(draws)]
    changes = parsed((subject.folder / "changes.txt").read_text().splitlines())
    with ProcessPoolExecutor(jobs, max_tasks_per_child=1) as pool:

        def submit(change: list[Change], seed: int) -> Future[Outcome]:
            return pool.submit(run_once, subject, [*start, *change], seed)

        first = [submit([], seed) for seed in range(seeds)]
        single = [(change, [submit([change], seed) for seed in range(seeds)]) for change in changes]
        at_random = [(change, submit([change], 0)) for change in drawn]
        base = [each.result() for each in first]
        sd = statistics.stdev(each.val for each in base)
        print(heading(subject, base, sd))
        for (name, value), futures in single:
            got = [future.result() for future in futures]
            print(row(f"`{name} = {value!r}`", base, got, sd, subject.sign), flush=True)
        if drawn:
            found = [(change, future.result()) for change, future in at_random]
            print_draws(base[0], sd, found, subject.sign)


def heading(subject: Subject, base: list[Outcome], sd: float) -> str:
    name = subject.config["metric"]["name"]
    val = statistics.mean(each.val for each in base)
    holdout = statistics.mean(each.holdout for each in base)
    cpu = statistics.median(each.cpu for each in base)
    memory = max(each.memory for each in base)
    return (
        f"Start, {len(base)} seeds: {name} {val:.4f}, holdout {holdout:.4f}; standard deviation "
        f"of {name} between seeds {sd:.4f};\nmedian {cpu:.1f} CPU-seconds, {memory:.0f} MB.\n\n"
        "| change | gain, val | in sd | gain, holdout | CPU s |\n|---|---|---|---|---|"
    )


def print_draws(base: Outcome, sd: float, got: list[tuple[Change, Outcome]], sign: int) -> None:
    """How often a blind proposal is a good one; each draw ran with the seed of ``base``."""
    better = [each for _, each in got if sign * (each.val - base.val) > 2 * sd]
    confirmed = sum(sign * (each.holdout - base.holdout) > 0 for each in better)
    print(f"\nOf {len(got)} random single changes {len(better)} gain more than 2 sd;")
    print(f"{confirmed} of these gain on the holdout too.")
    for (name, value), each in sorted(got, key=lambda pair: pair[0][0]):
        print(f"    {name} = {value!r}: {sign * (each.val - base.val):+.4f}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a study's noise and gains.")
    parser.add_argument("study", type=Path)
    parser.add_argument("--start", default="", help="NAME=value; NAME=value …: changes made first")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(arguments.study.resolve(), Path(folder) / "data", Path(folder) / "sealed")
        subject.prepare()
        start = parsed(arguments.start.split(";"))
        survey(subject, start, arguments.seeds, arguments.draws, arguments.jobs)


if __name__ == "__main__":
    main()
