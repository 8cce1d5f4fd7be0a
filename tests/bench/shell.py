"""A study's own commands run by a plain shell: ``xargs -P SLOTS`` over one small script per run.

Each script trains and evaluates one commit with one seed, as the lab did, but with no sandbox, no
limits, no ledger and no test: what somebody would write instead of using the lab. Two things are
as in the lab, or the comparison is of something else: each run is a session of its own, because
Linux shares a busy machine out by session; and its environment is built from nothing, because
variables of the user's (``OPENBLAS_CORETYPE``) change how fast training is.
"""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.rounds import ContestantFailed

Row = Mapping[str, Any]


def clocked(command: Sequence[str], cwd: Path, **more: Any) -> tuple[dict[str, Any], str]:
    """Wall and CPU seconds (of the whole process tree) of a command, and its stdout."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, **more)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-8:])
        raise ContestantFailed(f"{shlex.join(command[:4])} …: status {done.returncode}\n{tail}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu}, done.stdout


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


class ShellLoop:
    """The commands of the study in ``study`` (a git repository); ``place`` is for their files."""

    def __init__(self, study: Path, place: Path) -> None:
        self._study = study
        self._place = place
        self._config = tomllib.loads((study / "study.toml").read_text(encoding="utf-8"))
        self._loops = 0

    def prepare(self) -> None:
        """Make the data, as the lab does before its first run."""
        for name in ("data", "sealed"):
            (self._place / name).mkdir(parents=True)
        if "prepare" in self._config:
            command = self._command(self._config["prepare"]["command"], {})
            clocked(["sh", "-c", command], self._study)

    def run(self, ledger: Sequence[Row], slots: int) -> dict[str, Any]:
        """The ledger's runs in the order in which they began; only the loop is timed."""
        self._loops += 1
        folder = self._place / f"loop-{self._loops}"
        folder.mkdir()
        ordered = sorted(ledger, key=lambda row: row["started_at"])
        scripts = [self._script(folder / str(n), row) for n, row in enumerate(ordered)]
        session = [] if (found := shutil.which("setsid")) is None else [found]
        loop = ["xargs", "-P", str(slots), "-n", "1", *session, "sh", "-e"]
        listed = "\n".join(map(str, scripts))
        times, _ = clocked(loop, folder, input=listed, env=_environment(folder))
        return times | {"count": len(scripts)}

    def _script(self, folder: Path, row: Row) -> Path:
        source, out = folder / "src", folder / "out"
        out.mkdir(parents=True)
        self._export(row["candidate"], source)
        train, metric = self._config["train"], self._config["metric"]
        values = {"out": str(out), "seed": str(row["seed"])}
        env = [
            f"{name}={shlex.quote(self._filled(text, values))}"
            for name, text in train.get("env", {}).items()
        ]
        lines = [f"cd {shlex.quote(str(source))}", "exec > /dev/null"]
        lines.append(" ".join([*env, self._command(train["command"], values)]))
        lines.append(self._command(metric["evaluate"], values))
        if row["holdout"] is not None:
            lines.append(self._command(metric["holdout"], values))
        script = folder / "run.sh"
        script.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return script

    def _command(self, template: str, values: Mapping[str, str]) -> str:
        words = [self._filled(word, values) for word in shlex.split(template)]
        return shlex.join([sys.executable if words[0] == "python" else words[0], *words[1:]])

    def _filled(self, text: str, values: Mapping[str, str]) -> str:
        known = {name: str(self._place / name) for name in ("data", "sealed")} | dict(values)
        for name, value in known.items():
            text = text.replace("{" + name + "}", value)
        return text

    def _export(self, commit: str, folder: Path) -> None:
        folder.mkdir()
        archive = ["git", "-C", str(self._study), "archive", commit]
        files = subprocess.run(archive, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=files, check=True)
