"""A race of which an arm fails: a report, an exit code that says so, and the arm tried again.

The jobs are simulated and can be broken; journal, repository, lab and command line are real.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from manyhands.cli import race as cli
from manyhands.config import Config
from manyhands.errors import ChildrenFailed
from manyhands.ports import JobResult, JobSpec
from manyhands.runtime import Runtime, Status
from manyhands.teams.lab.race_records import RaceOrder
from manyhands.wiring import RACE, Pools, lab_workflow, race_workflow
from tests.studies import lay_out
from tests.studies.landscape import SimulatedJobs, lucky
from tests.unit.test_commands import until

pytestmark = pytest.mark.slow

ARMS = ("random", "tpe")


@dataclass
class Breakable(SimulatedJobs):
    """From its ``after``-th run on, nothing runs for the arm that is ``broken``."""

    broken: str = ""
    after: int = 8
    began: dict[str, int] = field(default_factory=dict[str, int])

    async def run(
        self, spec: JobSpec, on_output: Callable[[bytes], None] | None = None
    ) -> JobResult:
        run = spec.key.partition("/")[0]
        if not spec.trusted:
            self.began[run] = self.began.get(run, 0) + 1
            if self.broken and f"-{self.broken}-" in run and self.began[run] > self.after:
                raise ValueError("the worker's machine is gone")
        return await super().run(spec, on_output)


class Place:
    def __init__(self, folder: Path, broken: str = "") -> None:
        folder.mkdir()
        self.folder = folder
        self.study = lay_out("landscape", folder / "study")
        self.jobs = Breakable(lucky, broken=broken)

    def open(self) -> Runtime:
        pools: Pools = {}
        return Runtime.open(
            self.folder / "journal.db",
            workflows=[
                lab_workflow(Config(), jobs=self.jobs, pools=pools),
                race_workflow(jobs=self.jobs, pools=pools),
            ],
        )

    async def race(self, *, resume: bool = False, quiet: bool = True) -> None:
        """As the command line does it, with what it prints."""
        order = RaceOrder(study=str(self.study), arms=ARMS, seeds=1, runs=30, judges=2)
        async with self.open() as runtime:
            if resume:
                handle = await cli.go_on(runtime, "r")
            else:
                handle = await runtime.start(runtime.workflow(RACE), order, run_id="r")
            await cli._watch(runtime, handle, order, quiet)  # pyright: ignore[reportPrivateUsage]

    async def status(self) -> tuple[Status, Any]:
        async with self.open() as runtime:
            view = runtime.view("r")
            return view.status, view.error


def lanes(told: dict[str, Any]) -> Any:
    """What each arm came to, but for times."""
    return [{**lane, "seconds": 0.0} for lane in told["lanes"]]


async def test_an_arm_that_fails_is_told_and_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path / "a", broken="tpe")
    with pytest.raises(ChildrenFailed) as caught:
        await place.race()
    assert caught.value.exit_code == 5
    assert "1 of the race's 2 runs failed: tpe seed 1: " in caught.value.what
    assert "the worker's machine is gone" in caught.value.what
    assert "manyhands show r-tpe-1" in caught.value.next
    assert "manyhands lab race . --resume r" in caught.value.next
    told = json.loads(capsys.readouterr().out)
    (failed,) = told["failed"]
    assert failed["why"].endswith("ValueError: the worker's machine is gone")
    assert (failed["arm"], failed["run"], failed["resumable"]) == ("tpe", "r-tpe-1", True)
    assert told["next"] == caught.value.next
    assert "1 of 2 runs failed, and had less than their budget." in told["verdict"]
    page = Path(told["report"]).read_text()
    assert "What failed:" in page
    assert "the worker&#39;s machine is gone" in page
    status, error = await place.status()
    assert status is Status.FAILED
    assert error["keys"] == ["lanes/1-1/run"]

    # While it is broken, it is tried and told again, and nothing else is done again.
    began = dict(place.jobs.began)
    with pytest.raises(ChildrenFailed):
        await place.race(resume=True, quiet=False)
    said = capsys.readouterr().out
    assert "1 of 1 seeds did not come to their end" in said
    assert place.jobs.began.pop("r-tpe-1") > began.pop("r-tpe-1")
    assert place.jobs.began == began

    place.jobs.broken = ""
    await place.race(resume=True)
    mended = json.loads(capsys.readouterr().out)
    assert mended["failed"] == []
    assert "next" not in mended
    assert "failed" not in mended["verdict"]
    assert "What failed:" not in Path(mended["report"]).read_text()
    assert (await place.status())[0] is Status.COMPLETED
    assert place.jobs.began["r-random-1"] == began["r-random-1"], "what had ended ran again"

    # It came to what it would have come to alone.
    other = Place(tmp_path / "b")
    await other.race()
    whole = json.loads(capsys.readouterr().out)
    assert lanes(mended) == lanes(whole)


async def test_an_arm_that_was_killed_goes_on_when_the_race_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path / "a")
    order = RaceOrder(study=str(place.study), arms=ARMS, seeds=1, runs=30, judges=2)
    async with place.open() as runtime:
        handle = await runtime.start(runtime.workflow(RACE), order, run_id="r")
        await until(lambda: place.jobs.began.get("r-tpe-1", 0) >= 6)
        await runtime.command("r-tpe-1", "kill")
        with pytest.raises(ChildrenFailed, match="run r-tpe-1 was killed"):
            await handle.result()
        assert runtime.view("r-tpe-1").status is Status.KILLED
        assert runtime.view("r-random-1").status is Status.COMPLETED
    await place.race(resume=True)
    told = json.loads(capsys.readouterr().out)
    assert told["failed"] == []
    assert all(lane["runs"] > 20 for lane in told["lanes"])
