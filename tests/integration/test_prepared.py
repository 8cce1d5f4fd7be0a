"""What a study prepares: made once, whoever comes first, and noticed where it is not whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from manyhands.adapters.jobs.local import LocalJobRunner
from manyhands.errors import Halted, StudyError
from manyhands.published import MANIFEST, publish, published
from manyhands.runtime import Run, Runtime, Workflow
from manyhands.teams.lab.algorithms import cast_of_algorithms
from manyhands.teams.lab.opening import open_lab
from manyhands.teams.lab.state import Lab, Order
from manyhands.teams.lab.study import load_study
from tests.studies import lay_out

pytestmark = pytest.mark.needs("bubblewrap")


class Opened:
    """Opens studies, each in a run of its own, and ends before their baseline."""

    def __init__(self, journal: Path, cache: Path) -> None:
        self.cache = cache
        self.labs: dict[str, Lab] = {}
        self.workflow = Workflow("open", self._open)
        self.runtime = Runtime.open(str(journal), workflows=[self.workflow])

    async def _open(self, run: Run, study: object) -> str:
        order = Order(study=str(study), cache=str(self.cache))
        cast = cast_of_algorithms(1)
        lab = await open_lab(run, order, load_study(Path(str(study))), LocalJobRunner(), cast)
        self.labs[run.id] = lab
        if run.id == "halts":
            raise Halted("for this test")
        return published(str(lab.places.prepared))[0]


async def test_two_that_come_at_once_prepare_once(fast_path: Path, tmp_path: Path) -> None:
    studies = [str(lay_out("regression", tmp_path / name / "study")) for name in "ab"]
    opened = Opened(fast_path, tmp_path / "cache")
    async with opened.runtime as runtime:
        digests = await asyncio.gather(
            *(runtime.run(opened.workflow, s, run_id=f"r{n}") for n, s in enumerate(studies))
        )
        assert digests[0] == digests[1] != ""
        prepared = [lab.places.job("prepare").exists() for lab in opened.labs.values()]
        assert sorted(prepared) == [False, True]
        place = opened.labs["r0"].places
        assert place.data.is_relative_to(tmp_path / "cache")

        async def again(name: str) -> bool:
            """Whether it was prepared anew, and is as it was."""
            assert await runtime.run(opened.workflow, studies[0], run_id=name) == digests[0]
            return opened.labs[name].places.job("prepare").exists()

        assert not await again("r2")
        some = next(path for path in sorted(place.data.rglob("*")) if path.is_file())
        some.write_bytes(some.read_bytes()[::-1] + b"x")
        assert await again("r3")
        (place.prepared / MANIFEST).unlink()  # as if its process had been killed
        (place.data / "half").write_text("half")
        assert await again("r4")
        assert not (place.data / "half").exists()


async def test_a_run_does_not_go_on_with_other_data(fast_path: Path, tmp_path: Path) -> None:
    study = str(lay_out("regression", tmp_path / "study"))
    opened = Opened(fast_path, tmp_path / "cache")
    async with opened.runtime as runtime:
        with pytest.raises(Halted):
            await runtime.run(opened.workflow, study, run_id="halts")
        place = opened.labs["halts"].places
        (place.data / "more").write_text("more")
        publish(str(place.prepared))  # whole, and not what it was
        with pytest.raises(StudyError, match="has changed since run halts began"):
            await (await runtime.resume("halts")).result()
