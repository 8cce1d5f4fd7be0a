"""How long a fresh process takes to import, over one that imports nothing."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from typing import Any

from tests.bench.rounds import ROOT, ContestantFailed, Options, interleave, say
from tests.bench.rows import Row, at_most

BARE = "python"
PROGRAMS = {
    BARE: ["-c", "pass"],
    "import manyhands": ["-c", "import manyhands"],
    "import manyhands.runtime": ["-c", "import manyhands.runtime"],
    "manyhands --help": ["-c", "from manyhands.cli import main; main()", "--help"],
    "import langgraph.graph": ["-c", "import langgraph.graph"],
    "import dbos": ["-c", "import dbos"],
}
OURS = ("import manyhands", "import manyhands.runtime", "manyhands --help")


def rows(options: Options) -> list[Row]:
    rounds = options.pick(9, 3)
    say(f"import: fresh processes, {rounds} rounds")
    for name in PROGRAMS:
        _run(name)  # Bytecode is written, files are in the page cache.
    found = interleave(list(PROGRAMS), rounds, lambda name, _: _run(name))
    made: list[Row] = []
    for name in OURS:
        for key in ("wall", "cpu"):
            over = [a[key] - b[key] for a, b in zip(found[name], found[BARE], strict=True)]
            goal = at_most(150) if name == OURS[0] and key == "wall" else None
            made.append(
                Row("import", f"{name} − {BARE}, {key}", [s * 1e3 for s in over], "ms", goal)
            )
    for name in PROGRAMS:
        if name not in OURS and name != BARE:
            made.append(_over_ours(name, found))
    return made


def _over_ours(name: str, found: dict[str, list[dict[str, Any]]]) -> Row:
    """A peer's CPU time over that of the part of manyhands that does the same."""
    bare, ours = found[BARE], found["import manyhands.runtime"]
    values = [
        (peer["cpu"] - base["cpu"]) / max(own["cpu"] - base["cpu"], 1e-3)
        for peer, own, base in zip(found[name], ours, bare, strict=True)
    ]
    return Row("import", f"{name} ÷ manyhands.runtime, cpu", values)


def _run(name: str) -> dict[str, Any]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *PROGRAMS[name]], cwd=ROOT, capture_output=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise ContestantFailed(f"{name}: {done.stderr.decode(errors='replace')[-400:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "count": 1}
