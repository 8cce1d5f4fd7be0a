"""``python -m tests.bench``: run the benchmarks, print one table, say which goals are met.

Stdout is the tables alone, stderr is progress. The exit status is 0 however the goals fare, but
with ``--check``, where a missed goal (or a benchmark that could not run) makes it 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sqlite3
import sys
import tempfile
import textwrap
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.bench.rounds import Options, say
from tests.bench.rows import Row, table

#: Name -> what it measures; each is a module of this package with ``rows(options)``.
BENCHES = {
    "step": ("steps", "journaled steps against LangGraph and DBOS; flat in the length of a run"),
    "replay": ("replay", "10,000 finished steps replayed, against DBOS and LangGraph"),
    "agents": ("agents", "200 concurrent scripted agents × 10 turns, over the ideal"),
    "loops": ("loops", "agent loops over HTTP, beside bare loops and frameworks"),
    "http": ("http_clients", "HTTP clients: CPU of a request at 1 and at 200 connections"),
    "lab": ("lab", "lab experiments per hour against a plain shell loop"),
    "slots": ("slots", "slots in use beside a planner that thinks and slow trainings, simulated"),
    "ablation": ("ablation", "planted useless changes dropped and true ones kept, simulated"),
    "race": ("race", "planners against chance on simulated worlds, at equal evaluations"),
    "documents": ("documents", "10,000 passages indexed and searched, beside a scan in Python"),
    "answer": ("answer", "workers of the answer team at once, over one alone"),
    "code": ("code", "independent tasks of the code team at once, over one alone"),
    "sandboxes": ("sandboxes", "sandboxes: start, memory, 256 at once; beside a subprocess"),
    "faults": ("faults", "the failure table beside other frameworks; prints it row by row"),
    "stepcheck": ("stepcheck", "checks of a step: their cost, and that it is flat"),
    "timeline": ("timeline", "a run of 100,000 events in a browser: opened, panned, live"),
    "import": ("imports", "import time of the package and of its command"),
}
_PEERS = (
    "dbos",
    "langgraph",
    "langgraph-checkpoint-sqlite",
    "aiohttp",
    "httpx",
    "httpx2",
    "openai",
    "agent-framework-openai",
    "langchain-openai",
    "openai-agents",
    "pydantic-ai-slim",
    "smolagents",
)


def main() -> int:
    asked = _parse()
    rows: list[Row] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=asked.dir) as folder:
        options = Options(Path(folder), asked.quick)
        for name in asked.only or BENCHES:
            try:
                rows += importlib.import_module(f"tests.bench.{BENCHES[name][0]}").rows(options)
            except Exception as error:  # one that cannot run must not lose the others' figures
                failed.append(f"{name}: {type(error).__name__}: {error}")
                say(f"could not run: {failed[-1]}")
            except KeyboardInterrupt:
                failed.append(f"{name}: interrupted; nothing after it was run")
                break
    print(_about())
    print(table(rows))
    print("\n".join([*(f"could not run: {text}" for text in failed), _summary(rows)]))
    if asked.json:
        found = {"about": _facts(), "rows": [row.to_json() for row in rows], "failed": failed}
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    missed = any(row.met is False for row in rows)
    return 1 if asked.check and (missed or failed) else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {name:<9} {about}" for name, (_, about) in BENCHES.items()),
    )
    parser.add_argument("--only", action="append", choices=BENCHES, help="may be given repeatedly")
    parser.add_argument("--quick", action="store_true", help="few and short rounds: a smoke test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and raw figures here")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a goal is missed")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where the databases lie meanwhile")
    return parser.parse_args()


def _facts() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "peers": {name: _version(name) for name in _PEERS},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _about() -> str:
    facts = _facts()
    peers = ", ".join(f"{name} {found}" for name, found in facts["peers"].items())
    text = (
        f"Python {facts['python']}, SQLite {facts['sqlite']}, {facts['cores']} cores, "
        f"load {facts['load']} at the end; {peers}"
    )
    return textwrap.fill(text, 100, break_on_hyphens=False) + "\n"


def _summary(rows: list[Row]) -> str:
    with_goal = [row for row in rows if row.met is not None]
    missed = [row for row in with_goal if not row.met]
    if not missed:
        return f"\n{len(with_goal)} goals, all met." if with_goal else ""
    names = "; ".join(row.name for row in missed)
    return f"\n{len(with_goal)} goals, {len(missed)} not met: {names}."


if __name__ == "__main__":
    sys.exit(main())
