"""A study's own commands run by a plain shell: ``xargs -P SLOTS`` over one small script per run.

Each script trains and evaluates one commit with one seed, as the lab did, but with no sandbox, no
limits, no export, no ledger and no test: what somebody would write instead of using the lab.
"""

from __future__ import annotations

import resource
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.rounds import ContestantFailed


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
    return {"wall": wall, "cpu": cpu, "began": time.time() - wall}, done.stdout


@dataclass(frozen=True)
class ShellLoop:
    """The commands of the study in ``study`` (a git repository), with ``data`` made already."""

    study: Path
    place: Path

    @property
    def _config(self) -> dict[str, Any]:
        return tomllib.loads((self.study / "study.toml").read_text(encoding="utf-8"))

    def prepare(self) -> None:
        """Make the data, as the lab does before its first run."""
        (self.place / "data").mkdir(parents=True)
        (self.place / "sealed").mkdir()
        if "prepare" in self._config:
            clocked(["sh", "-c", self._filled(self._config["prepare"]["command"])], self.study)

    def _filled(self, command: str, **values: str) -> str:
        known = {"data": self.place / "data", "sealed": self.place / "sealed", **values}
        for name, value in known.items():
            command = command.replace("{" + name + "}", str(value))
        words = shlex.split(command)
        return shlex.join([sys.executable if words[0] == "python" else words[0], *words[1:]])

    def run(self, ledger: Sequence[Mapping[str, Any]], slots: int) -> dict[str, Any]:
        """The ledger's runs in the order in which they began; only the loop is timed."""
        scripts = [
            self._script(number, row)
            for number, row in enumerate(sorted(ledger, key=lambda row: row["started_at"]))
        ]
        listed = "\n".join(str(script) for script in scripts)
        loop = ["xargs", "-P", str(slots), "-n", "1", "sh", "-e"]
        found, _ = clocked(loop, self.place, input=listed)
        return found | {"count": len(scripts)}

    def _script(self, number: int, row: Mapping[str, Any]) -> Path:
        source, out = self._export(row["candidate"]), self.place / f"out-{number}"
        out.mkdir()
        config, values = self._config, {"out": str(out), "seed": str(row["seed"])}
        env = [
            f"{name}={shlex.quote(self._plain(text, values))}"
            for name, text in config["train"].get("env", {}).items()
        ]
        commands = [config["train"]["command"], config["metric"]["evaluate"]]
        if row["holdout"] is not None:
            commands.append(config["metric"]["holdout"])
        lines = [f"cd {shlex.quote(str(source))}", "exec > /dev/null"]
        lines += [f"export {' '.join(env)}"] * bool(env)
        lines += [self._filled(command, **values) for command in commands]
        script = self.place / f"run-{number}.sh"
        script.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return script

    def _plain(self, text: str, values: Mapping[str, str]) -> str:
        known = {"data": str(self.place / "data"), "sealed": str(self.place / "sealed"), **values}
        for name, value in known.items():
            text = text.replace("{" + name + "}", value)
        return text

    def _export(self, commit: str) -> Path:
        """The commit's files, outside of the timed part."""
        folder = self.place / "src" / commit
        if not folder.is_dir():
            folder.mkdir(parents=True)
            archive = subprocess.run(
                ["git", "-C", str(self.study), "archive", commit], capture_output=True, check=True
            )
            subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
        return folder
