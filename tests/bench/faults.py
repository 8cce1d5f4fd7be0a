"""The failure table over this package and over the installed frameworks, side by side.

Invariants: every contestant meets the same rows from the same server, in a process of its own that
is ended when it is late, with its own defaults, the same number of turns and the same timeout of a
request; it is judged from outside, by whether its answer holds a number that only the right call
of the tool reveals. Those that can be given a type for the answer run with and without it (not
LangGraph, which makes the typed answer of whatever its loop ended with).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from manyhands.testing.faults import FAULTS, Fault, FaultServer, Group
from tests.bench.rounds import ROOT, Options, say
from tests.bench.rows import Row, at_least, at_most

#: Seconds for one row, over all its retries and waits; and where a rate limit is the fault.
DEADLINE = 12.0
DEADLINE_WHEN_LIMITED = 40.0
#: Seconds for a contestant's imports.
_START = 120.0
#: Contestants that run at once.
_AT_ONCE = 4

LEGEND = f"""\
ok: the true answer.  failed: it says that it failed.  WRONG: a wrong answer as success.
late: no end within {DEADLINE:g} s ({DEADLINE_WHEN_LIMITED:g} s after 429, where smolagents waits
for two to four minutes).  crash: an exception that it neither raises nor has a name for.
*: what it sent then breaks a strict server.  -: needs a typed answer.
(failed): failing is the right end of this row."""


@dataclass(frozen=True)
class Contestant:
    """``module``: tests.bench.peers.faults_MODULE; ``package``: whose version is told."""

    title: str
    module: str
    package: str
    typed: bool = False


OURS = Contestant("manyhands", "ours", "manyhands", typed=True)
PEERS = (
    Contestant("openai", "openai", "openai"),
    Contestant("pyd-ai", "pydantic_ai", "pydantic-ai-slim"),
    Contestant("pyd-ai T", "pydantic_ai", "pydantic-ai-slim", typed=True),
    Contestant("oa-agents", "openai_agents", "openai-agents"),
    Contestant("oa-agents T", "openai_agents", "openai-agents", typed=True),
    Contestant("ms-af", "agent_framework", "agent-framework-core"),
    Contestant("ms-af T", "agent_framework", "agent-framework-core", typed=True),
    Contestant("langgraph", "langgraph", "langgraph"),
    Contestant("smolagents", "smolagents", "smolagents"),
)


@dataclass(frozen=True)
class Cell:
    """What came of one row. ``outcome``: ok, failed, WRONG, late, crash or -."""

    outcome: str
    about: str = ""
    requests: int = 0
    poison: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.outcome + ("*" if self.poison else "")


@dataclass
class Column:
    contestant: Contestant
    cells: dict[str, Cell] = field(default_factory=dict)

    def count(self, outcome: str, faults: Sequence[Fault]) -> int:
        return sum(self.cells[fault.name].outcome == outcome for fault in faults)

    def taken(self, faults: Sequence[Fault]) -> list[Fault]:
        return [fault for fault in faults if self.cells[fault.name].outcome != "-"]


def rows(options: Options) -> list[Row]:
    """Prints the matrix; the rows are its totals."""
    faults = list(_picked(options.quick))
    contestants = (OURS, PEERS[0]) if options.quick else (OURS, *PEERS)
    columns = asyncio.run(_all(contestants, faults))
    print(matrix(columns, faults), end="\n\n")
    return [row for column in columns for row in _rows(column, faults)]


def _picked(quick: bool) -> list[Fault]:
    if not quick:
        return list(FAULTS)
    first = {group: [f for f in FAULTS if f.group is group][:2] for group in Group}
    return [fault for found in first.values() for fault in found]


# -------------------------------------------------------------------- running


async def _all(contestants: Sequence[Contestant], faults: Sequence[Fault]) -> list[Column]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(contestant: Contestant) -> Column:
        async with slots:
            return await _column(contestant, faults)

    return list(await asyncio.gather(*map(one, contestants)))


async def _column(contestant: Contestant, faults: Sequence[Fault]) -> Column:
    column = Column(contestant)
    child = _Child(contestant)
    try:
        for fault in faults:
            applies = contestant.typed or not fault.typed
            column.cells[fault.name] = await _cell(child, fault) if applies else Cell("-")
    finally:
        await child.end()
    counts = Counter(cell.text for cell in column.cells.values())
    say(f"faults: {contestant.title}: {dict(counts)}")
    return column


async def _cell(child: _Child, fault: Fault) -> Cell:
    await child.start()
    deadline = DEADLINE_WHEN_LIMITED if fault.name.startswith("429") else DEADLINE
    streamed = fault.group is Group.STREAM
    return await child.meet(fault, fault.seconds, deadline, streamed=streamed)


class _Child:
    """A contestant's process; one that is late is killed, and the next trial gets a new one."""

    def __init__(self, contestant: Contestant) -> None:
        self._contestant = contestant
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it where it does not run, and see that it does the task without a fault."""
        if self._process is not None:
            return
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.bench.peers.faults_child",
            self._contestant.module,
            cwd=ROOT,
            env=_environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=1 << 24,
        )
        await self._line(_START)
        for streamed in (False, True):
            cell = await self.meet(None, _START, _START, streamed=streamed)
            if cell.outcome != "ok":
                raise RuntimeError(f"{self._contestant.title} without a fault: {cell}")

    async def meet(
        self, fault: Fault | None, seconds: float, deadline: float, *, streamed: bool
    ) -> Cell:
        """One trial, on a server of its own."""
        seed = f"{self._contestant.title}/{fault and fault.name}/{streamed}"
        async with FaultServer(fault, seed) as server:
            told = {
                "url": server.url,
                "seed": seed,
                "seconds": seconds,
                "deadline": deadline,
                "streamed": streamed,
                "typed": self._contestant.typed,
            }
            came = await self._ask(told)
        outcome = came["kind"]
        if outcome == "answered":
            outcome = "ok" if str(server.lookup.secret) in came["text"] else "WRONG"
        return Cell(outcome, came["text"], len(server.requests), tuple(server.violations))

    async def _ask(self, told: dict[str, Any]) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        try:
            return await self._line(told["deadline"] + 3)
        except TimeoutError:
            await self.end()
            return {"kind": "late", "text": ""}
        except EOFError:
            await self.end()
            return {"kind": "crash", "text": "its process ended"}

    async def _line(self, seconds: float) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), seconds)
        if not line:
            raise EOFError(f"{self._contestant.title} ended")
        return json.loads(line)

    async def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()


def _environment() -> dict[str, str]:
    """Without proxies, keys and telemetry: nothing leaves this machine."""
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    return {
        **kept,
        "OPENAI_API_KEY": "none",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "LANGSMITH_TRACING": "false",
        "OTEL_SDK_DISABLED": "true",
        "HF_HUB_OFFLINE": "1",
    }


# -------------------------------------------------------------------- telling


def matrix(columns: Sequence[Column], faults: Sequence[Fault]) -> str:
    """Plain text: a line for each row of the table, a column for each contestant."""
    lines = [["", *(column.contestant.title for column in columns)]]
    for group in Group:
        here = [fault for fault in faults if fault.group is group]
        if here:
            lines.append([f"-- {group}"])
        for fault in here:
            name = fault.name if fault.recovers else f"{fault.name} (failed)"
            lines.append([name, *(column.cells[fault.name].text for column in columns)])
    lines += [["-- totals"], *_totals(columns, faults)]
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(len(lines[0]))]
    shown = ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([_versions(columns), LEGEND, "", *shown])


def _totals(columns: Sequence[Column], faults: Sequence[Fault]) -> list[list[str]]:
    recoverable = [fault for fault in faults if fault.recovers]
    parts = {
        "recovered, one-shot": [f for f in recoverable if f.group is not Group.STREAM],
        "recovered, streamed": [f for f in recoverable if f.group is Group.STREAM],
    }
    lines = [
        [title, *(f"{c.count('ok', part)}/{len(c.taken(part))}" for c in columns)]
        for title, part in parts.items()
    ]
    for title, outcome in (("wrong as success", "WRONG"), ("late", "late"), ("crashes", "crash")):
        lines.append([title, *(str(column.count(outcome, faults)) for column in columns)])
    poisoned = (sum(bool(cell.poison) for cell in c.cells.values()) for c in columns)
    lines.append(["poisoned histories", *map(str, poisoned)])
    return lines


def _versions(columns: Sequence[Column]) -> str:
    packages = dict.fromkeys(column.contestant.package for column in columns)
    found = ", ".join(f"{package} {_version(package)}" for package in packages)
    return f"{found}. T: with a typed answer."


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _rows(column: Column, faults: Sequence[Fault]) -> list[Row]:
    ours, title = column.contestant == OURS, column.contestant.title
    recoverable = column.taken([fault for fault in faults if fault.recovers])
    share = 100 * column.count("ok", recoverable) / len(recoverable)
    cells = {
        name: {"outcome": c.outcome, "about": c.about, "requests": c.requests, "poison": c.poison}
        for name, c in column.cells.items()
    }
    goal = at_least(100) if ours else None
    made = [Row("faults", f"{title}: recoverable rows recovered", [share], "%", goal, cells)]
    counts = {
        "wrong answers as success": column.count("WRONG", faults),
        "late or crashed": column.count("late", faults) + column.count("crash", faults),
        "poisoned histories": sum(bool(cell.poison) for cell in column.cells.values()),
    }
    goal = at_most(0) if ours else None
    return [
        *made,
        *(Row("faults", f"{title}: {what}", [n], "rows", goal) for what, n in counts.items()),
    ]
