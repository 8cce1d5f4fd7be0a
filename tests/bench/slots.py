"""How much of its slots a study uses: a planner that thinks beside it, and programs that are slow.

Simulated trainings that sleep, those of one program in ten six times as long as the others; a
planner that sleeps before it proposes, as a model thinks. Busy time over slots and wall time, from
the first training's start to the last one's end, without the campaign's end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manyhands.ports import Isolation, JobResult, JobSpec
from manyhands.runtime import Run
from manyhands.teams.lab.algorithms import cast_of_algorithms
from manyhands.teams.lab.cast import Cast, Filled
from tests.bench.rounds import Options, say
from tests.bench.rows import Row, at_least
from tests.studies import HERE, lay_out
from tests.studies.casts import run_study
from tests.studies.landscape import SimulatedJobs, noise

#: Seconds of a training, and times that of a slow one.
SECONDS, SLOW = 0.4, 6.0
#: What each setting may be; it begins at the first.
VALUES = list(range(31))


def bowl(values: Mapping[str, float], phase: str) -> float:
    """Each setting is worth two standard deviations at its best."""
    return sum(((v - 20) / 14) ** 2 for v in values.values())


@dataclass
class SlowJobs:
    """A program is slow or not, and each of its trainings has a length of its own."""

    jobs: SimulatedJobs
    seconds: float

    @property
    def isolation(self) -> Isolation:
        return self.jobs.isolation

    async def run(self, spec: JobSpec, on_output: Any = None) -> JobResult:
        if not spec.trusted:
            program, seed = spec.labels["candidate"], spec.labels["seed"]
            slow = SLOW if noise("slow", program) > 1.28 else 1.0
            length = max(0.5, 1 + 0.1 * noise("length", program, seed))
            await asyncio.sleep(self.seconds * slow * length)
        return await self.jobs.run(spec, on_output)

    async def reap(self, key_prefix: str) -> int:
        return 0


def thinking(seconds: float) -> Cast:
    """Algorithms, with a planner that takes its time."""
    cast = cast_of_algorithms(1)
    plan = cast.planner.fill

    async def think(run: Run, *about: Any) -> Any:
        await asyncio.sleep(seconds)
        return await plan(run, *about)

    return replace(cast, planner=Filled("thinking", think))


def rows(options: Options) -> list[Row]:
    found: list[Row] = []
    for slots in (2, 4):
        for share in (0.0, 1.0):
            say(f"slots: {slots}, a planner that thinks for {share:g} trainings")
            used: dict[bool, list[float]] = {False: [], True: []}
            for number in range(options.pick(5, 1)):
                for overlap, mine in used.items():
                    mine.append(_used(options.folder, slots, share, overlap, number))
            name = f"{slots} slots, planning takes {share:g} trainings"
            gained = [over - plain for over, plain in zip(used[True], used[False], strict=True)]
            goal = at_least(0.0) if share and not options.quick else None
            found.append(Row("slots", f"{name}: in use, rounds one by one", used[False], "%"))
            found.append(Row("slots", f"{name}: in use, rounds overlap", used[True], "%"))
            found.append(Row("slots", f"{name}: gained", gained, "points", goal=goal))
    return found


def _used(base: Path, slots: int, share: float, overlap: bool, number: int) -> float:
    folder = base / f"{slots}-{share:g}-{overlap}-{number}"
    folder.mkdir()
    told = (HERE / "landscape" / "study.toml").read_text()
    told = told.replace("[0, 1]", str(VALUES))
    told = told.replace("[slots]", f"[slots]\noverlap = {str(overlap).lower()}")
    study = lay_out("landscape", folder / "study", {"study.toml": told})
    jobs = SlowJobs(SimulatedJobs(bowl, world=number), SECONDS)
    view = asyncio.run(
        run_study(folder, study, thinking(share * SECONDS), runs=90, slots=slots, jobs=jobs)
    )
    mine = [m for m in view.measurements if m.phase in ("screen", "confirm", "canary")]
    wall = max(m.started_at + m.duration for m in mine) - min(m.started_at for m in mine)
    return 100 * sum(m.duration for m in mine) / (slots * wall)
