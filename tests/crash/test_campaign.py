"""A campaign of four arms on examples/tinylm, unattended, with everything going wrong that can.

Workers are killed, trainings hang, the disk is full once, and the driver is killed again and again.
Afterwards the ledger is whole, the budget kept, no win lost, and what the race tells is what a
second count gives. The model of the hybrid is scripted; all else is real.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from manyhands.adapters.jobs.environment import KEY
from manyhands.adapters.jobs.local import SCRATCH_PREFIX
from manyhands.isolation import processes
from manyhands.runtime import Runtime, Status
from manyhands.teams.lab.records import Experiment, Phase, Verdict
from manyhands.teams.lab.view import LabView, read_lab
from tests.crash.chaos import RACE, Chaos, Disk, Watch, short_tinylm
from tests.studies import git

pytestmark = [pytest.mark.needs("bubblewrap"), pytest.mark.slow]

JUDGES = 2
#: What a driver says that has found the disk full, in any of its places.
FULL = re.compile(r"No space left on device|there is no space left|database or disk is full")


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    disk = Disk(tmp_path / "disk", "400m")
    disk.mount()
    yield disk
    disk.unmount()


def begin(folder: Path, disk: Disk, seed: int, *, experiments: int, kills: int, pace: Any) -> Chaos:
    short_tinylm(folder / "made", experiments)
    shutil.copytree(folder / "made", disk.outside / "study", symlinks=True)
    for name in ("home", "tmp"):
        (disk.outside / name).mkdir()
    persona = {
        "settings": [
            {"setting": "LEARNING_RATE", "low": 0.2, "high": 2.0},
            {"setting": "OPTIMISER"},
            {"setting": "BATCH", "low": 16, "high": 256},
            {"setting": "DEPTH"},
            {"setting": "INIT_SCALE"},
            {"setting": "WIDTH"},
        ]
    }
    rules = [{"role": "planner", "reply": {"answer": persona}}]
    (folder / "persona.json").write_text(json.dumps({"name": "persona", "rules": rules}))
    return Chaos(folder, disk, Watch(random.Random(seed), kills), random.Random(seed + 1), pace)


async def endure(chaos: Chaos, runs: int, *, deaths: int) -> dict[str, Any]:
    """Kill the driver so often, fill the disk in the middle of it, and let it come to its end."""
    arms = f"random,tpe,cmaes,hybrid:script:{chaos.folder / 'persona.json'}"
    first = chaos.words(arms, "--budget", f"runs={runs}", "--judges", str(JUDGES))
    again = ("lab", "race", str(chaos.study), "--resume", RACE, "--json")
    thread = chaos.watch.start()
    try:
        for death in range(deaths):
            process = await chaos.live(*(again if chaos.lives else first))
            assert chaos.wait(process, chaos.some()), f"it ended: {chaos.told('err')}"
            chaos.kill(process)
            if death == deaths // 2:
                process = await chaos.live(*again)
                assert chaos.wait(process, chaos.some()), f"it ended: {chaos.told('err')}"
                assert chaos.fill(process) > 0
                assert FULL.search(chaos.told("err")), chaos.told("err")
        process = await chaos.live(*again)
        while chaos.wait(process, 1):
            pass
        assert process.wait() == 0, chaos.told("err")
    finally:
        chaos.watch.stop()
        thread.join()
    return json.loads(chaos.told("out"))


@pytest.mark.timeout(600)
async def test_a_short_campaign_survives_all_of_it_once(tmp_path: Path, disk: Disk) -> None:
    chaos = begin(tmp_path, disk, 3, experiments=8, kills=2, pace=(6, 14))
    told = await endure(chaos, 26, deaths=2)
    disk.unmount()
    exits = await check(chaos, told, runs=26)
    assert exits["ok"] > 0


# ---------------------------------------------------------------- what must be true


async def check(chaos: Chaos, told: dict[str, Any], runs: int) -> Counter[str]:
    """Everything that is to hold; how the trainings of the arms ended."""
    check_nothing_is_left(chaos)
    exits: Counter[str] = Counter()
    async with Runtime.open(chaos.journal) as runtime:
        statuses = {info.run_id: info.status for info in runtime.runs()}
        assert set(statuses) == {RACE, *(lane["run"] for lane in told["lanes"])}
        assert set(statuses.values()) == {Status.COMPLETED}
        for lane in told["lanes"]:
            view = read_lab(runtime, lane["run"])
            check_ledger(chaos, view, runs)
            check_hung(chaos, view)
            check_wins(chaos, view)
            check_report(chaos, view, lane)
            exits.update(m.exit for m in view.measurements)
        check_judged(read_lab(runtime, RACE), told)
    check_no_finished_job_ran_again(chaos)
    return exits


def check_nothing_is_left(chaos: Chaos) -> None:
    """No process, no lock, no scratch, no worktree."""
    assert not processes.marked(lambda env: env.get(KEY, "").split("/")[0].split("-")[0] == RACE)
    assert not [*(chaos.study / ".git").rglob("*.lock")]
    assert not [*(chaos.disk.path / "tmp").glob(f"{SCRATCH_PREFIX}*")]
    assert git(chaos.study, "worktree", "list").count("\n") == 0
    assert not git(chaos.study, "status", "--porcelain")
    assert "error" not in git(chaos.study, "fsck", "--no-dangling")


def check_ledger(chaos: Chaos, view: LabView, runs: int) -> None:
    """Every experiment has one verdict, every run one row, and a log of its own."""
    assert [e.id for e in sorted(view.experiments, key=lambda e: e.id)] == [
        f"e{number:04d}" for number in range(1, len(view.experiments) + 1)
    ]
    assert Counter(e.hypothesis.id for e in view.experiments) == Counter(
        h.id for h in view.proposed
    )
    assert not view.queue
    assert sorted(r.row for r in view.rows) == [*range(1, len(view.rows) + 1)]
    measured = Counter((m.candidate, m.seed, m.phase) for m in view.measurements)
    assert set(measured.values()) == {1}
    assert measured == Counter((r.candidate, r.seed, r.phase) for r in view.rows if r.seed >= 0)
    metrics = {(m.candidate, m.seed, m.phase): m.metric for m in view.measurements}
    assert all(metrics[r.candidate, r.seed, r.phase] == r.metric for r in view.rows if r.seed >= 0)
    begun = (chaos.study / ".manyhands" / view.run_id / "jobs").rglob("train.log")
    root = chaos.study / ".manyhands" / view.run_id / "jobs"
    assert {str(log.parent.relative_to(root)) for log in begun} == {
        m.key for m in view.measurements
    }
    seen = {k.partition("/")[2] for k in chaos.watch.begun.values() if k.startswith(view.run_id)}
    assert seen <= {m.key for m in view.measurements}
    assert len(view.measurements) <= runs
    told = [r.metric for r in view.rows if r.experiment == "e0000" and r.phase is Phase.BASELINE]
    assert None not in told


def check_hung(chaos: Chaos, view: LabView) -> None:
    """A program that hangs has no metric: it was ended by its time, or killed."""
    programs: dict[str, str] = {}
    for m in view.measurements:
        if m.candidate not in programs:
            programs[m.candidate] = git(chaos.study, "show", f"{m.candidate}:train.py")
        if "\nDEPTH = 3" in programs[m.candidate]:
            assert m.metric is None
            assert m.exit in ("timed_out", "failed")


def check_wins(chaos: Chaos, view: LabView) -> None:
    """Each promotion became the next master, each master stands on the one before it, and the run's
    refs hold the last."""
    won = [e for e in view.experiments if e.verdict is Verdict.PROMOTED]
    by = {m.experiment: m for m in view.masters}
    assert len(by) == len(view.masters)
    assert set(by) - {"baseline", "ablation"} == {e.id for e in won}
    assert [m.version for m in view.masters] == [*range(len(view.masters))]
    for before, after in zip(view.masters, view.masters[1:], strict=False):
        git(chaos.study, "merge-base", "--is-ancestor", before.commit, after.commit)
    for e in won:
        assert by[e.id].commit == e.candidate
        assert git(chaos.study, "rev-parse", f"{e.candidate}^") == e.parent
        assert gain_of(view, e) == pytest.approx(e.decision.gain if e.decision else None)
    last = view.masters[-1].commit
    assert git(chaos.study, "rev-parse", f"refs/manyhands/{view.run_id}/master") == last
    if surviving(view):
        branch = f"refs/heads/manyhands/tinylm/{view.run_id}"
        trees = git(chaos.study, "rev-parse", f"{branch}^{{tree}}", f"{last}^{{tree}}").split()
        assert trees[0] == trees[1]
        count = git(chaos.study, "rev-list", "--count", f"{view.masters[0].commit}..{branch}")
        assert 1 <= int(count) <= len(surviving(view))


def gain_of(view: LabView, e: Experiment) -> float:
    """The gain of a promotion, from the ledger's rows alone."""
    tested = [r for r in view.rows if r.experiment == e.id and r.phase is Phase.CONFIRM]
    mine = {r.seed: r.metric for r in tested if r.candidate == e.candidate}
    other = {r.seed: r.metric for r in tested if r.candidate == e.parent}
    gains = [b - m for s, m in mine.items() if m is not None and (b := other[s]) is not None]
    return fmean(gains)


def surviving(view: LabView) -> list[Experiment]:
    assert view.outcome is not None
    dropped = view.outcome["dropped"]
    return [e for e in view.experiments if e.verdict is Verdict.PROMOTED and e.id not in dropped]


def check_report(chaos: Chaos, view: LabView, lane: dict[str, Any]) -> None:
    """What the arm's outcome, its files and the race's line say of it is what its rows add up
    to."""
    outcome, won = view.outcome, [e for e in view.experiments if e.verdict is Verdict.PROMOTED]
    assert outcome is not None
    assert lane["state"] == ""
    assert lane["runs"] == outcome["runs"] == len(view.measurements)
    assert lane["experiments"] == outcome["experiments"] == len(view.experiments)
    assert outcome["promotions"] == len(won)
    assert outcome["gain"] == pytest.approx(sum(gain_of(view, e) for e in surviving(view)))
    assert [s["commit"] for s in lane["steps"]] == [m.commit for m in view.masters]
    assert lane["seconds"] == pytest.approx(sum(r.duration for r in view.rows))
    assert (lane["tokens"] > 0) == lane["arm"].startswith("hybrid")
    folder = chaos.study / ".manyhands" / view.run_id
    rows = json.loads((folder / "ledger.json").read_text())
    assert rows == [r.model_dump(mode="json") for r in sorted(view.rows, key=lambda r: r.row)]
    assert (folder / "results.tsv").read_text().count("\n") == len(view.rows) + 1
    assert outcome["headline"] in (folder / "report.md").read_text() or (
        f"{len(view.experiments)} experiments" in (folder / "report.md").read_text()
    )


def check_judged(race: LabView, told: dict[str, Any]) -> None:
    """The true gains are the means of the last measurements; none was done twice."""
    programs = {s["program"] for lane in told["lanes"] for s in lane["steps"]}
    assert told["judged"] == len(race.measurements) == JUDGES * len(programs)
    metric = {(m.candidate, m.seed): m.metric for m in race.measurements}
    base = told["lanes"][0]["steps"][0]
    of_program: dict[str, str] = {}
    judged = {m.candidate for m in race.measurements}
    for lane in told["lanes"]:
        for step in lane["steps"]:
            if step["commit"] in judged:
                of_program.setdefault(step["program"], step["commit"])
    seeds = sorted({m.seed for m in race.measurements})
    for lane in told["lanes"]:
        for step in lane["steps"]:
            commit = of_program[step["program"]]
            pairs = [(metric[base["commit"], s], metric[commit, s]) for s in seeds]
            gains = [b - m for b, m in pairs if b is not None and m is not None]
            assert step["gain"] == pytest.approx(fmean(gains))
    for standing in told["standings"]:
        (lane,) = [each for each in told["lanes"] if each["arm"] == standing["arm"]]
        assert standing["gain"] == lane["steps"][-1]["gain"]
        assert (standing["runs"], standing["promotions"], standing["failed"]) == (
            lane["runs"],
            len(lane["steps"]) - 1,
            0,
        )
    assert Path(told["report"]).read_text().count("<svg") == 2


def check_no_finished_job_ran_again(chaos: Chaos) -> None:
    """What had its end in the journal when a driver began was not trained by it."""
    done = {str(pid): finished for pid, finished in chaos.lives}
    for mark, key in chaos.watch.begun.items():
        assert key not in done[mark.partition(".")[0]], f"{key} was finished and ran again"
