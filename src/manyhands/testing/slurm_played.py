"""A stand-in of a Slurm cluster's commands, for what a real one does not do on demand.

``with PlayedSlurm(folder) as cluster: cluster.plan("preempt")`` puts ``sbatch``, ``squeue``,
``scontrol``, ``sacct``, ``scancel``, ``sinfo`` and ``srun`` in front of the PATH. Jobs are really
run, as processes of this machine. It is no Slurm: only what Manyhands and ``submitit`` ask.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

COMMANDS = ("sbatch", "squeue", "scontrol", "sacct", "scancel", "sinfo", "srun")
#: How a job goes: "run"; "preempt", "node_fail" (its machine is taken at its first output),
#: "timeout", "memory" (likewise, by its own fault); "wait" (it never begins); "forget" (the
#: controller knows nothing of it any more, only ``sacct`` does).
PLANS = {
    "preempt": "PREEMPTED",
    "node_fail": "NODE_FAIL",
    "timeout": "TIMEOUT",
    "memory": "OUT_OF_MEMORY",
}
_FOLDER = "MANYHANDS_PLAYED_SLURM"


class PlayedSlurm:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        programs = self.folder / "bin"
        programs.mkdir(parents=True)
        for name in COMMANDS:
            program = programs / name
            code = f"import sys; from {__name__} import main; sys.exit(main({name!r}))"
            path = ":".join(filter(None, sys.path))
            program.write_text(
                f"#!/bin/sh\nPYTHONPATH='{path}' exec '{sys.executable}' -c \"{code}\" \"$@\"\n"
            )
            program.chmod(0o755)
        for name, value in (("PATH", f"{programs}:{os.environ['PATH']}"), (_FOLDER, self.folder)):
            self._before[name] = os.environ.get(name)
            os.environ[name] = str(value)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in self.jobs():
            _kill(_read(self.folder, number))
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def plan(self, *plans: str) -> None:
        """Of the next jobs."""
        (self.folder / "plans").write_text("\n".join(plans))

    def jobs(self) -> list[str]:
        """Their numbers."""
        return sorted((p.stem for p in self.folder.glob("*.job")), key=int)


# -------------------------------------------------------------------- the commands


def main(name: str) -> int:
    folder, words = Path(os.environ[_FOLDER]), sys.argv[1:]
    match name:
        case "sbatch":
            _sbatch(folder, Path(words[-1]))
        case "squeue":
            wanted = words[words.index("-n") + 1]
            for path in folder.glob("*.job"):
                if json.loads(path.read_text())["name"] == wanted:
                    print(path.stem)
        case "scontrol" | "sacct":
            return _show(folder, words[-1], accounting=name == "sacct")
        case "scancel":
            _scancel(folder, words[-1])
        case _:
            print("slurm-played 0")
    return 0


def _sbatch(folder: Path, script: Path) -> None:
    text = script.read_text()
    flags = dict(re.findall(r"#SBATCH --([\w-]+)=(.*)", text))
    plans = (folder / "plans").read_text().split() if (folder / "plans").exists() else []
    (folder / "plans").write_text("\n".join(plans[1:]))
    number = str(len(list(folder.glob("*.job"))) + 1)
    plan = plans[0] if plans else "run"
    job: dict[str, Any] = {"name": flags["job-name"], "plan": plan, "script": str(script)}
    if plan != "wait":
        given = dict(e.split("=", 1) for e in flags["export"].strip("'").split(",") if "=" in e)
        kept = {n: os.environ[n] for n in ("PATH", "HOME") if n in os.environ}
        output = flags["output"].replace("%j", number)
        with open(output, "ab") as out:
            process = subprocess.Popen(
                ("bash", str(script)),
                env=kept
                | given
                | {"SLURM_JOB_ID": number, "SLURM_NTASKS": "1"}
                | {"SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0", "SLURM_PROCID": "0"}
                | {"SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "played"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        job["pid"] = process.pid
    (folder / f"{number}.job").write_text(json.dumps(job))
    print(f"Submitted batch job {number}")


def _show(folder: Path, number: str, *, accounting: bool) -> int:
    job = _read(folder, number)
    if not job or (job["plan"] == "forget" and not accounting and _state(job) != "RUNNING"):
        sys.stderr.write("slurm_load_jobs error: Invalid job id specified\n")
        return 1
    state = _state(job)
    frames = Path(job["script"]).parent.parent / "frames"
    if job["plan"] in PLANS and state == "RUNNING" and frames.exists() and b"mh|" in _all(frames):
        _kill(job)
        job["state"] = state = PLANS[job["plan"]]
        (folder / f"{number}.job").write_text(json.dumps(job))
    print(state if accounting else f"JobId={number} JobState={state} Reason=None")
    return 0


def _scancel(folder: Path, number: str) -> None:
    job = _read(folder, number)
    _kill(job)
    (folder / f"{number}.job").write_text(json.dumps(job | {"state": "CANCELLED"}))


def _read(folder: Path, number: str) -> dict[str, Any]:
    path = folder / f"{number}.job"
    return json.loads(path.read_text()) if path.exists() else {}


def _all(path: Path) -> bytes:
    return path.read_bytes()


def _state(job: dict[str, Any]) -> str:
    if "state" in job:
        return job["state"]
    if "pid" not in job:
        return "PENDING"
    try:
        os.killpg(job["pid"], 0)
    except ProcessLookupError:
        return "COMPLETED"
    return "RUNNING"


def _kill(job: dict[str, Any]) -> None:
    try:
        os.killpg(job.get("pid", 0) or sys.maxsize >> 32, signal.SIGKILL)
    except ProcessLookupError:
        return
