"""Simulated landscapes: a job runner that reads a program's settings and makes its loss up.

Simulated, not run: no process is started. The noise of a run depends on the program's commit folder
and its seed alone, so that a study that is resumed sees the numbers that it saw before.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from manyhands.ports import Isolation, JobExit, JobResult, JobSpec
from manyhands.teams.lab.settings import find_settings

#: The settings of the landscape study, all 0 at the start.
Values = Mapping[str, float]
#: What the settings give in all, lower is better; ``phase``: why the run is made.
Law = Callable[[Values, str], float]


def lucky(values: Values, phase: str) -> float:
    """A is worth three standard deviations. B does nothing, and was lucky when it was promoted."""
    luck = 2.5 if phase in ("screen", "confirm") else 0.0
    return -3.0 * values["A"] - luck * values["B"]


def noise(*about: object) -> float:
    """A standard normal number that is a function of ``about``."""
    digest = hashlib.sha256(repr(about).encode()).digest()
    first, second = (int.from_bytes(digest[i : i + 8]) / 2**64 for i in (0, 8))
    return math.sqrt(-2 * math.log(first or 1e-18)) * math.cos(2 * math.pi * second)


@dataclass
class SimulatedJobs:
    """``law``: settings and phase -> the loss without noise. ``sd``: of one run."""

    law: Law
    sd: float = 1.0
    world: int = 0
    launched: int = 0

    @property
    def isolation(self) -> Isolation:
        return Isolation("simulated", True, True, True, True, True)

    async def run(
        self, spec: JobSpec, on_output: Callable[[bytes], None] | None = None
    ) -> JobResult:
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        spec.log.write_text("simulated\n")
        if spec.trusted:
            out = next(Path(word) for word in spec.command if word.endswith("/out"))
            return _result(f"{json.dumps({'loss': json.loads((out / 'loss.json').read_text())})}\n")
        self.launched += 1
        files = {p.name: p.read_text() for p in spec.cwd.glob("*.py")}
        values = {s.name: float(s.value) for s in find_settings(files).values()}
        words = files.get("blocks.py", "")
        values |= {f"block:{name}": 1.0 for name in ("first", "second") if f"{name} is on" in words}
        phase = spec.labels.get("phase", "")
        told = (self.world, sorted(values.items()), spec.env["MANYHANDS_SEED"], phase)
        loss = 100.0 + self.law(values, phase) + self.sd * noise(*told)
        (spec.out / "loss.json").write_text(json.dumps(loss))
        return _result("trained\n")

    async def reap(self, key_prefix: str) -> int:
        return 0


def _result(log: str) -> JobResult:
    return JobResult(JobExit.OK, 0, 0.01, 0.01, 1.0, log)
