"""A study that is killed again and again: each life is a forked process that ends by SIGKILL.

The parent has imported everything, so that a life costs little beyond its own work. What a life
leaves is the journal, the repository and the log of jobs that ended, as after a power cut of the
process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from manyhands.adapters.jobs.local import LocalJobRunner
from manyhands.config import Config
from manyhands.ports import Isolation, JobResult, JobRunner, JobSpec
from manyhands.runtime import Runtime, Status
from manyhands.teams.lab.records import LedgerRow
from manyhands.teams.lab.state import Order
from manyhands.teams.lab.view import read_lab
from manyhands.wiring import lab_workflow

RUN = "the-study"
#: What may differ between two executions of the same study.
INCIDENTAL = {"duration", "cpu_seconds", "peak_memory_mb", "created_at", "started_at", "slot"}


class LoggedJobs:
    """The real runner, or ``inner``; every job that ended is noted in a file that no sandbox
    sees."""

    def __init__(self, log: Path, inner: JobRunner | None = None) -> None:
        self._inner = inner or LocalJobRunner()
        self._log = log
        self.ending = False

    @property
    def isolation(self) -> Isolation:
        return self._inner.isolation

    async def run(
        self, spec: JobSpec, on_output: Callable[[bytes], None] | None = None
    ) -> JobResult:
        self.ending |= spec.labels.get("phase") == "ablate"
        result = await self._inner.run(spec, on_output)
        with self._log.open("a") as log:
            log.write(f"{spec.key}\n")
        return result

    async def reap(self, key_prefix: str) -> int:
        return await self._inner.reap(key_prefix)


@dataclass(frozen=True)
class Lives:
    """A study in ``folder`` and how it is begun."""

    folder: Path
    runs: int
    seed: int = 1
    jobs: JobRunner | None = None

    @property
    def journal(self) -> Path:
        return self.folder / "journal.db"

    @property
    def log(self) -> Path:
        return self.folder / "jobs.log"

    def live(
        self,
        *,
        at: tuple[str, int] | None = None,
        after: float | None = None,
    ) -> bool:
        """One life: killed at the n-th append boundary of this process, or after so many seconds.

        A boundary is ``before`` or ``after`` an append; ``ending`` counts both from the first job
        of the ablation on.

        True: the study has come to its end.
        """
        pid = os.fork()
        if pid == 0:
            os.setsid()
            try:
                asyncio.run(self._work(at))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        if after is not None:
            time.sleep(after)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            return self.ended()
        assert status == 0, f"a life ended by itself with {status}"
        return True

    async def _work(self, at: tuple[str, int] | None) -> None:
        jobs, late = LoggedJobs(self.log, self.jobs), count(1)

        def boundary(moment: str, number: int) -> None:
            if (moment, number) == at or (jobs.ending and ("ending", next(late)) == at):
                os.kill(os.getpid(), signal.SIGKILL)

        workflow = lab_workflow(Config(), models={}, jobs=jobs)
        async with Runtime.open(
            self.journal, workflows=[workflow], on_boundary=boundary if at else None
        ) as runtime:
            if any(info.run_id == RUN for info in runtime.runs()):
                handle = await runtime.resume(RUN)
            else:
                order = Order(study=str(self.folder / "study"), runs=self.runs, seed=self.seed)
                handle = await runtime.start(workflow, order, run_id=RUN)
            await handle.result()

    # ---------------------------------------------------------------- what is left behind

    def ended(self) -> bool:
        return (
            self._read(lambda r: r.view(RUN).status is Status.COMPLETED) if self._begun() else False
        )

    def _begun(self) -> bool:
        return self._read(lambda r: any(i.run_id == RUN for i in r.runs()))

    def _read(self, look: Callable[[Runtime], object]) -> bool:
        async def work() -> bool:
            async with Runtime.open(self.journal) as runtime:
                return bool(look(runtime))

        return asyncio.run(work())

    def ledger(self) -> list[dict[str, object]]:
        found: list[LedgerRow] = []
        self._read(lambda r: found.extend(read_lab(r, RUN).rows))
        return [row.model_dump(mode="json", exclude=INCIDENTAL) for row in found]

    def finished_steps(self) -> set[str]:
        """The keys of steps whose end is in the journal."""
        found: set[str] = set()
        if self._begun():
            self._read(
                lambda r: found.update(k for k, s in r.view(RUN).steps.items() if s.finished)
            )
        return found

    def events_of_work(self) -> int:
        """How many events say that something has ended: openings and starts come in every life."""
        found: list[str] = []
        if self._begun():
            self._read(lambda r: found.extend(e.type for e in r.journal.events(RUN)))
        return sum(type_ not in ("run.opened", "step.started") for type_ in found)

    def jobs_ended(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []
