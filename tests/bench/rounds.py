"""Interleaved rounds, each contestant in a fresh process of its own.

Invariant: a round runs every contestant once, in an order that alternates from round to round, so
that a slow minute of the machine falls on all of them, and no library's threads, caches or imports
disturb another's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

#: Seconds that one contestant may take in one round.
_LONGEST = 900


class ContestantFailed(Exception):
    """A child process did not deliver; the message holds what it said last."""


@dataclass(frozen=True)
class Options:
    """``folder``: where all databases lie, so that all are on one disk."""

    folder: Path
    quick: bool = False

    def pick(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Contestant:
    """A function of a module in `tests.bench.peers`, called in a child with these arguments."""

    name: str
    module: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def run(self, folder: Path, **more: Any) -> dict[str, Any]:
        """What the function returned: at least ``wall`` and ``cpu`` seconds and ``count``."""
        call = json.dumps({**self.arguments, **more, "folder": str(folder)})
        command = [sys.executable, "-m", "tests.bench.child", self.module, self.function, call]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=_LONGEST
            )
        except subprocess.TimeoutExpired as error:
            raise ContestantFailed(f"{self.name}: no end after {_LONGEST} s") from error
        if done.returncode:
            tail = "\n".join(done.stderr.splitlines()[-12:])
            raise ContestantFailed(f"{self.name}: exit status {done.returncode}\n{tail}")
        return json.loads(done.stdout.splitlines()[-1])


def interleave(
    names: Sequence[str], rounds: int, once: Callable[[str, int], dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """``once(name, round)`` for all names in each round: A B C, C B A, A B C, …"""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            result = once(name, number)
            found[name].append(result)
            say(f"  round {number + 1}/{rounds}  {name:<34} {_brief(result)}")
    return found


def _brief(result: Mapping[str, Any]) -> str:
    count = result["count"]
    wall, cpu = result["wall"] / count * 1e6, result["cpu"] / count * 1e6
    return f"{wall:9.1f} µs wall  {cpu:9.1f} µs CPU  each of {count}"


def say(text: str) -> None:
    """Progress, on stderr: stdout is for the table alone."""
    print(text, file=sys.stderr, flush=True)


def ratios(
    over: Sequence[Mapping[str, Any]], under: Sequence[Mapping[str, Any]], key: str
) -> list[float]:
    """``over / under`` of the same round, per counted thing."""
    return [(a[key] / a["count"]) / (b[key] / b["count"]) for a, b in zip(over, under, strict=True)]
