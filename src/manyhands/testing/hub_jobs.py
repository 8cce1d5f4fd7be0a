"""A server that speaks the Hub's API of jobs, and really runs them: as processes of this machine.

``python -m manyhands.testing.hub_jobs`` serves until its standard input ends; `HubProcess` starts
that. A job's command is run from its ``python`` on, with this interpreter instead of ``uv``'s, in a
folder and an environment of its own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from manyhands.testing.hub_server import USER, Asked, HubServer, Reply

#: Dollars a minute.
PRICES = {"cpu-basic": 0.000167, "cpu-upgrade": 0.0005, "a10g-small": 0.0167}
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,100}")
#: As the kernel has it, for one string of an environment.
_LONGEST_VARIABLE = 128 * 1024
_KEEP_ALIVE = 0.1
#: How a job goes: "run", "preempt" (its machine is taken away after its first output), "lose" (its
#: machine fails before), "queue" (no machine comes), "stick" (it says nothing), "crash" (it exits
#: before ours begins).
PLANS = ("run", "preempt", "lose", "queue", "stick", "crash")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass
class PlayedJob:
    id: str
    spec: dict[str, Any]
    plan: str
    stage: str = "SCHEDULING"
    message: str | None = None
    created: str = field(default_factory=_now)
    started: float = 0.0
    ended: float = 0.0
    events: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    news: threading.Condition = field(default_factory=threading.Condition)
    process: subprocess.Popen[bytes] | None = None

    def info(self) -> dict[str, Any]:
        running = (self.ended or time.time()) - self.started if self.started else None
        return {
            "id": self.id,
            "createdAt": self.created,
            "dockerImage": self.spec.get("dockerImage"),
            "command": self.spec["command"],
            "arguments": [],
            "environment": {name: "" for name in self.spec["environment"]},
            "flavor": self.spec["flavor"],
            "labels": self.spec.get("labels"),
            "status": {"stage": self.stage, "message": self.message},
            "durations": {"schedulingSecs": 0, "runningSecs": running, "totalSecs": running},
            "owner": {"id": "0" * 24, "name": USER, "type": "user"},
        }

    @property
    def labels(self) -> dict[str, str]:
        return self.spec.get("labels") or {}

    def say(self, line: str) -> None:
        with self.news:
            self.events.append({"data": line, "timestamp": _now()})
            self.news.notify_all()

    def end(self, stage: str, message: str | None = None) -> None:
        with self.news:
            if self.stage not in ENDED:
                self.stage, self.message, self.ended = stage, message, time.time()
            self.news.notify_all()

    # ---------------------------------------------------------------- its process

    def begin(self) -> None:
        if self.plan == "lose":
            self.end("ERROR", "The node was lost")
        elif self.plan != "queue":
            self.stage, self.started = "RUNNING", time.time()
            self.say(f"===== Job started at {self.created} =====")
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        if self.plan == "stick":
            return
        if self.plan == "crash":
            self.say("  × No solution found when resolving `--with` dependencies")
            self.end("ERROR", "Job failed with exit code: 1")
            return
        with tempfile.TemporaryDirectory(prefix="hub-job-") as folder:
            command = self.spec["command"]
            self.process = subprocess.Popen(
                [sys.executable, *command[command.index("python") + 1 :]],
                env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder}
                | self.spec["environment"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            limit = threading.Timer(self.spec.get("timeoutSeconds", 1800), self._time_out)
            limit.daemon = True
            limit.start()
            assert self.process.stdout is not None
            for raw in self.process.stdout:
                line = raw.decode("utf-8", "replace").rstrip("\n")
                self.say(line)
                if self.plan == "preempt" and line.startswith(("mh| ", "mh> ")):
                    self.end("ERROR", "Preempted: the node was reclaimed")
                    self.kill(signal.SIGKILL)
            code = self.process.wait()
            self.kill(signal.SIGKILL)
            limit.cancel()
        failed = f"Job failed with exit code: {code if code >= 0 else 128 - code}"
        self.end(*(("COMPLETED", None) if code == 0 else ("ERROR", failed)))

    def _time_out(self) -> None:
        self.end("ERROR", "Job timeout")
        self.kill(signal.SIGKILL)

    def cancel(self) -> None:
        self.end("CANCELED")
        self.kill(signal.SIGTERM)

    def kill(self, number: int) -> None:
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return


class JobsServer(HubServer):
    """`HubServer` with jobs. ``plans``: of the next launches, in order; then all are run."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.jobs: dict[str, PlayedJob] = {}
        self.plans: list[str] = []

    def answer(self, asked: Asked, reply: Reply) -> None:
        parts = [unquote(part) for part in asked.path.strip("/").split("/")]
        match (asked.method, parts):
            case ("GET", ["api", "jobs", "hardware"]):
                reply.json([_hardware(name, price) for name, price in PRICES.items()])
            case ("POST", ["api", "jobs", namespace]) if namespace == USER:
                self._launch(asked.body, reply)
            case ("GET", ["api", "jobs", namespace]) if namespace == USER:
                reply.json([job.info() for job in self._listed(asked)])
            case ("GET", ["api", "jobs", _, id]) if id in self.jobs:
                reply.json(self.jobs[id].info())
            case ("GET", ["api", "jobs", _, id, "logs"]) if id in self.jobs:
                self._log(self.jobs[id], reply)
            case ("POST", ["api", "jobs", _, id, "cancel"]) if id in self.jobs:
                self.jobs[id].cancel()
                reply.json(self.jobs[id].info())
            case (_, ["-", *what]):
                self._told(what, asked.body, reply)
            case _:
                super().answer(asked, reply)

    def close(self) -> None:
        for job in list(self.jobs.values()):
            job.cancel()
            job.kill(signal.SIGKILL)
        super().close()

    def _launch(self, spec: dict[str, Any], reply: Reply) -> None:
        problem = _problem(spec)
        if problem:
            reply.json({"error": problem}, 400)
            return
        with self.lock:
            plan = self.plans.pop(0) if self.plans else "run"
            job = PlayedJob(f"{len(self.jobs):024x}", spec, plan)
            self.jobs[job.id] = job
        job.begin()
        reply.json(job.info())

    def _listed(self, asked: Asked) -> list[PlayedJob]:
        wanted = {tuple(each.split("=", 1)) for each in asked.query.get("label", [])}
        stages = set(asked.query.get("stage", []))
        return [
            job
            for job in self.jobs.values()
            if wanted <= set(job.labels.items()) and (not stages or job.stage in stages)
        ]

    def _log(self, job: PlayedJob, reply: Reply) -> None:
        """All that there is, then what comes, until it has ended; "cut" ends it early."""
        events, at = reply.events(), 0
        cut = self.next_wrong("cut the log")
        while not self.closing.is_set():
            with job.news:
                new = job.events[at:]
                ended = job.stage in ENDED
                if not new and not ended:
                    job.news.wait(_KEEP_ALIVE)
            for event in new:
                if cut is not None and at >= 1:
                    return
                events.send(event)
                at += 1
            if not new and ended:
                return
            if not new:
                events.keep_alive()

    def _told(self, what: list[str], body: Any, reply: Reply) -> None:
        """What `HubProcess` asks for."""
        if what == ["wrong"]:
            self.go_wrong(**body)
        elif what == ["right"]:
            self.wrong.clear()
        elif what == ["plan"]:
            self.plans += body
        found = [j.info() | {"spec": j.spec, "events": j.events} for j in self.jobs.values()]
        reply.json({"jobs": found, "paths": self.paths()})


def _problem(spec: dict[str, Any]) -> str:
    if spec.get("flavor") not in PRICES:
        return f"Invalid flavor {spec.get('flavor')!r}"
    if not spec.get("dockerImage"):
        return "dockerImage is missing"
    labels: dict[str, str] = spec.get("labels") or {}
    if not all(_LABEL.fullmatch(each) for pair in labels.items() for each in pair):
        return f"Invalid labels: {labels}"
    strings = [*spec["command"], *(f"{n}={v}" for n, v in spec["environment"].items())]
    if any(len(each) > _LONGEST_VARIABLE for each in strings):
        return "Argument list too long"
    return ""


def _hardware(name: str, price: float) -> dict[str, Any]:
    return {
        "name": name,
        "prettyName": name,
        "cpu": "2 vCPU",
        "ram": "16 GB",
        "ephemeralStorage": "20 GB",
        "accelerator": None,
        "unitCostMicroUSD": round(price * 1e6),
        "unitCostUSD": price,
        "unitLabel": "minute",
    }


class HubProcess:
    """A `JobsServer` in a process of its own; it ends with this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "manyhands.testing.hub_jobs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def go_wrong(self, path: str, kind: str, times: int = 1, **more: Any) -> None:
        self._tell("wrong", {"path": path, "kind": kind, "times": times} | more)

    def go_right(self) -> None:
        """From here on."""
        self._tell("right", None)

    def plan(self, *plans: str) -> None:
        self._tell("plan", list(plans))

    def jobs(self) -> list[dict[str, Any]]:
        return self._tell("jobs", None)["jobs"]

    def paths(self) -> list[str]:
        return self._tell("paths", None)["paths"]

    def _tell(self, what: str, body: object) -> Any:
        request = urllib.request.Request(
            f"{self.url}/-/{what}",
            data=json.dumps(body).encode(),
            headers={"Authorization": "Bearer told", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)


def main() -> None:
    with JobsServer() as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
