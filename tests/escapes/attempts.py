"""The attempts: the scripts of ``corpus``, each tried for real; it says ``tried`` at its end.

What a script finds in its environment: OUT (a folder outside, of the user who runs the tests),
VICTIM (a process outside), HARNESS (the process that runs the sandbox), PORT and UDP (listeners
outside), SOCK and ABSTRACT (Unix sockets outside), SHM (a System V segment outside). A script that
gets through prints ESCAPED; the judge looks at the world outside besides, and never takes the
script's word that nothing happened.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhands.ports import Killed, SandboxLimits

CORPUS = Path(__file__).with_name("corpus")
#: Before a script in Python: what it may use. A refusal is no failure, what follows it is tried.
HEAD = """\
import ctypes, errno, fcntl, mmap, os, resource, signal, socket, struct, sys, time
E = os.environ; OUT = E["OUT"]; C = ctypes.CDLL(None, use_errno=True)
try:
"""
TAIL = """
except (OSError, MemoryError, OverflowError) as error:
    print("refused:", error)
print("tried")
"""


@dataclass(frozen=True)
class Attempt:
    """``killed``: the limits of which one must end it. ``tried``: it lives to say so."""

    name: str
    script: str
    python: bool
    limits: SandboxLimits
    writable: bool = True
    background: bool = False
    tried: bool = True
    killed: frozenset[Killed] = frozenset()


def load() -> tuple[Attempt, ...]:
    settings = tomllib.loads((CORPUS / "settings.toml").read_text(encoding="utf-8"))
    files = sorted(path for path in CORPUS.glob("*/*") if path.suffix in (".sh", ".py"))
    found = tuple(one(path, settings.pop(key(path), {})) for path in files)
    assert not settings, f"settings of no attempt: {sorted(settings)}"
    return found


def key(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def one(path: Path, given: dict[str, Any]) -> Attempt:
    text = path.read_text(encoding="utf-8")
    python = path.suffix == ".py"
    if python:
        script = HEAD + "".join(f"    {line}\n" for line in text.splitlines()) + TAIL
    else:
        script = f"{text}\necho tried\n"
    usual: dict[str, Any] = {"seconds": 20.0, "disk_mb": 64}
    return Attempt(
        name=key(path),
        script=script,
        python=python,
        limits=SandboxLimits(**(usual | given.get("limits", {}))),
        writable=given.get("writable", path.parent.name != "explorer"),
        background=given.get("background", False),
        tried=given.get("tried", True),
        killed=frozenset(Killed(word) for word in given.get("killed", ())),
    )


ATTEMPTS = load()
BY_NAME = {attempt.name: attempt for attempt in ATTEMPTS}
