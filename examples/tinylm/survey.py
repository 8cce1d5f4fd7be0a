"""Measures the study itself: the noise between seeds, and what single changes gain.

Invariant: nothing here is used by the study; it edits copies in a temporary folder, as a worker
would, and prints the tables of README.md.

``python survey.py`` takes about ten minutes on two cores; ``--seeds`` and ``--draws`` shorten it.
"""

import argparse
import ast
import json
import math
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
Change = tuple[str, object]

#: One change each, of the kind that a person would try first.
CHANGES: list[Change] = [
    ("OPTIMISER", "momentum"),
    ("OPTIMISER", "adam"),
    ("LEARNING_RATE", 0.4),
    ("LEARNING_RATE", 1.0),
    ("ACTIVATION", "tanh"),
    ("ACTIVATION", "relu"),
    ("WEIGHT_DECAY", 0.0),
    ("INIT_SCALE", 1.0),
    ("BATCH", 64),
    ("CONTEXT", 8),
    ("EMBEDDING", 16),
    ("WIDTH", 128),
    ("DEPTH", 2),
    ("SHORTCUT", True),
    ("SCHEDULE", "cosine"),
    ("WARMUP", 0.1),
]


@dataclass(frozen=True)
class Outcome:
    """Bits per byte on both splits (NaN: the run failed), CPU seconds, peak memory in MB."""

    val: float
    holdout: float
    cpu: float
    memory: float


def edited(source: str, change: Change | None) -> str:
    """``source`` with the one setting of ``change`` replaced, comment kept."""
    if change is None:
        return source
    name, value = change
    text, count = re.subn(rf"^{name} = \S+", f"{name} = {value!r}", source, flags=re.MULTILINE)
    if count != 1:
        raise SystemExit(f"train.py has {count} lines that set {name}; expected one")
    return text


def run_once(data: Path, sealed: Path, change: Change | None, seed: int) -> Outcome:
    """Trains and evaluates in a fresh folder; runs in a process of its own to count its CPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("model.py", "evaluate.py"):
            shutil.copy(HERE / file, folder)
        (folder / "train.py").write_text(edited((HERE / "train.py").read_text(), change))
        train = ["train.py", "--seed", str(seed), "--data", str(data), "--out", "out"]
        failed = _python(folder, data, train).returncode != 0
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        values = [
            math.nan if failed else _evaluate(folder, data, where, split)
            for where, split in ((data, "val"), (sealed, "holdout"))
        ]
    return Outcome(*values, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def _python(folder: Path, data: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    variables = tomllib.loads((HERE / "study.toml").read_text())["train"]["env"]
    env = {name: value.replace("{data}", str(data)) for name, value in variables.items()}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


def _evaluate(folder: Path, data: Path, where: Path, split: str) -> float:
    command = ["evaluate.py", "--artifact", "out", "--data", str(where), "--split", split]
    done = _python(folder, data, command)
    return json.loads(done.stdout)["val_bpb"] if done.returncode == 0 else math.nan


def draw(ranges: dict[str, dict[str, object]], rng: random.Random) -> Change:
    """One setting at random, and a value at random from its range in study.toml."""
    source = (HERE / "train.py").read_text()
    name = rng.choice(sorted(ranges))
    limits = ranges[name]
    if "choices" in limits:
        now = ast.literal_eval(re.search(rf"^{name} = (\S+)", source, re.MULTILINE)[1])
        return name, rng.choice([each for each in limits["choices"] if each != now])
    low, high = limits["low"], limits["high"]
    value = (
        math.exp(rng.uniform(math.log(low), math.log(high)))
        if limits.get("log")
        else rng.uniform(low, high)
    )
    return name, round(value) if isinstance(low, int) else float(f"{value:.3g}")


def row(label: str, base: list[Outcome], got: list[Outcome], sd: float) -> str:
    """Differences of the means; both sides ran the same seeds."""
    gain = statistics.mean(b.val - g.val for b, g in zip(base, got))
    sealed = statistics.mean(b.holdout - g.holdout for b, g in zip(base, got))
    cpu = statistics.median(each.cpu for each in got)
    return f"| {label} | {gain:+.4f} | {gain / sd:+.1f} | {sealed:+.4f} | {cpu:.1f} |"


def survey(data: Path, sealed: Path, seeds: int, draws: int, jobs: int) -> None:
    ranges = tomllib.loads((HERE / "study.toml").read_text())["settings"]
    rng = random.Random(0)
    drawn = [draw(ranges, rng) for _ in range(draws)]
    with ProcessPoolExecutor(jobs, max_tasks_per_child=1) as pool:

        def submit(change: Change | None, seed: int) -> Future[Outcome]:
            return pool.submit(run_once, data, sealed, change, seed)

        start = [submit(None, seed) for seed in range(seeds)]
        single = [(change, [submit(change, seed) for seed in range(seeds)]) for change in CHANGES]
        at_random = [(change, submit(change, 0)) for change in drawn]
        base = [each.result() for each in start]
        sd = statistics.stdev(each.val for each in base)
        print(heading(base, sd))
        for (name, value), futures in single:
            print(row(f"`{name} = {value!r}`", base, [f.result() for f in futures], sd), flush=True)
        print_draws(base[0], sd, [(change, future.result()) for change, future in at_random])


def heading(base: list[Outcome], sd: float) -> str:
    val = statistics.mean(each.val for each in base)
    holdout = statistics.mean(each.holdout for each in base)
    cpu = statistics.median(each.cpu for each in base)
    memory = max(each.memory for each in base)
    return (
        f"Start, {len(base)} seeds: val_bpb {val:.4f}, holdout {holdout:.4f}; standard deviation "
        f"of val_bpb between seeds {sd:.4f};\nmedian {cpu:.1f} CPU-seconds, {memory:.0f} MB.\n\n"
        "| change | gain, val | in sd | gain, holdout | CPU s |\n|---|---|---|---|---|"
    )


def print_draws(base: Outcome, sd: float, got: list[tuple[Change, Outcome]]) -> None:
    """How often a blind proposal is a good one; each draw ran with the seed of ``base``."""
    better = [each for _, each in got if base.val - each.val > 2 * sd]
    confirmed = sum(each.holdout < base.holdout for each in better)
    print(f"\nOf {len(got)} random single changes {len(better)} gain more than 2 sd;")
    print(f"{confirmed} of these gain on the holdout too.")
    for (name, value), each in sorted(got, key=lambda pair: pair[0][0]):
        print(f"    {name} = {value!r}: {base.val - each.val:+.4f}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the study's noise and gains.")
    parser.add_argument("--data", type=Path, help="what data.py wrote (default: write it)")
    parser.add_argument("--sealed", type=Path)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or Path(folder) / "data"
        sealed = arguments.sealed or Path(folder) / "sealed"
        if not data.exists():
            command = ["data.py", "--out", str(data), "--sealed", str(sealed)]
            subprocess.run([sys.executable, *command], cwd=HERE, check=True)
        survey(data.resolve(), sealed.resolve(), arguments.seeds, arguments.draws, arguments.jobs)


if __name__ == "__main__":
    main()
