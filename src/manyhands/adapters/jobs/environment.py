"""A job's environment, built from nothing, and the program that it starts.

Invariant: no variable of the harness reaches a job but through ``JobSpec.env``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from manyhands.errors import JobError
from manyhands.isolation import processes
from manyhands.ports import JobSpec

MARK = "MANYHANDS_JOB"
KEY = "MANYHANDS_JOB_KEY"
_numbers = count(1)


def mark(key: str) -> str:
    """One per launch: ``pid.start.hash of key.number``."""
    return f"{processes.owner()}.{hashlib.sha256(key.encode()).hexdigest()[:16]}.{next(_numbers)}"


def search_path() -> str:
    """PATH of a job: the running interpreter's programs first."""
    folders = [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
    if sys.platform == "darwin":
        folders.insert(1, "/opt/homebrew/bin")
    return os.pathsep.join(dict.fromkeys(folders))


def build(spec: JobSpec, token: str, home: str, scratch: str) -> dict[str, str]:
    base = {
        "PATH": search_path(),
        "HOME": home,
        "TMPDIR": scratch,
        "LANG": "C.UTF-8",
        # Progress is read live, and a killed job's last words shall be in its log.
        "PYTHONUNBUFFERED": "1",
    }
    return base | dict(spec.env) | {MARK: token, KEY: spec.key}


def program(spec: JobSpec, env: Mapping[str, str]) -> str:
    """The absolute path of the command. Raises JobError if there is none."""
    if not spec.command:
        raise JobError(f"job {spec.key!r} has an empty command", next="give it a command to run")
    name = spec.command[0]
    if name in ("python", "python3") and "PATH" not in spec.env:
        return sys.executable
    if os.sep in name:
        path = os.path.join(spec.cwd, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
        searched, advice = f"looked at {path}", "is it there, and executable?"
    else:
        if found := shutil.which(name, path=env["PATH"]):
            return found
        searched = f"searched PATH {env['PATH']}"
        advice = "install it, give its full path, or set PATH in the job's env"
    raise JobError(f"job {spec.key!r}: command {name!r} not found; {searched}", next=advice)
