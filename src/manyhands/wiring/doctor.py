"""What `manyhands doctor` looks at: programs, the journal's place, sandboxes, models.

Invariant: looking changes nothing but for a trial sandbox, which is gone when it returns.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from manyhands import __version__
from manyhands.config import Config, find_config, home
from manyhands.ports import Capabilities
from manyhands.wiring.machine import Machine, look_around
from manyhands.wiring.sandboxes import docker_state, sandbox_capabilities

#: What is asked for its version, and what it is needed for.
PROGRAMS = {
    "git": "the lab and the code team",
    "bwrap": "sandboxes, and the strongest isolation of jobs",
    "nsenter": "sandboxes",
    "rg": "a faster search in the code team (without it: Python)",
}


@dataclass(frozen=True, slots=True)
class Program:
    """``version`` is empty where it is not installed."""

    name: str
    version: str
    needed_for: str


@dataclass(frozen=True, slots=True)
class Docker:
    """Whether sandboxes could be its containers, and how or why not."""

    answers: bool
    how: str


@dataclass(frozen=True, slots=True)
class Examination:
    version: str
    python: str
    system: str
    user: str
    programs: tuple[Program, ...]
    config: str
    journal: str
    journal_state: str
    sandboxes: Capabilities
    docker: Docker
    machine: Machine
    configured: tuple[str, ...]


async def examine(config: Config, folder: Path) -> Examination:
    """Of this machine, for who stands in ``folder``."""
    journal = config.journal or str(home() / "journal.db")
    found = find_config(folder)
    return Examination(
        version=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        user="root" if os.geteuid() == 0 else f"user {os.geteuid()}",
        programs=tuple(Program(name, version_of(name), why) for name, why in PROGRAMS.items()),
        config=str(found) if found else "",
        journal=journal,
        journal_state=state_of(journal),
        sandboxes=sandbox_capabilities(),
        docker=Docker(*await asyncio.to_thread(docker_state)),
        machine=await look_around(),
        configured=tuple(sorted(config.models)),
    )


def version_of(program: str) -> str:
    """As it says itself, on one line."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "does not answer"
    lines = done.stdout.splitlines()
    return lines[0].strip()[:80] if lines else "does not answer"


def state_of(journal: str) -> str:
    """Whether a journal is there, or could be made."""
    if "://" in journal:
        return "on a server"
    path = Path(journal)
    if path.exists():
        return f"{path.stat().st_size / 2**20:.1f} MB"
    parent = next(each for each in path.absolute().parents if each.exists())
    return "not there yet" if os.access(parent, os.W_OK) else f"{parent} is not writable"
