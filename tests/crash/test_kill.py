"""SIGKILL before and after every commit, and at random moments: one invariant per test.

The kills of a workflow are made once and looked at by every test.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from manyhands.testing import CrashPoint, Ending, Victims, crash_points

PROGRAMS = Path(__file__).with_name("programs.py")
WORKFLOWS = ("sequence", "fan", "retry", "once", "waits", "spend", "things")
TOKENS_PER_CALL, LIMIT = 20, 1000  # of the workflow "spend"

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Look:
    """Journal and marks at one moment."""

    events: list[Row]  # seq, epoch, type, key, data, value, ref
    marks: Counter[str]

    def of(self, type: str) -> list[Row]:
        return [e for e in self.events if e[2] == type]

    def keys(self, type: str) -> set[str]:
        return {e[3] for e in self.of(type)}

    def open_steps(self, effect: str) -> set[str]:
        """Steps of that class that were begun and have no end."""
        begun: set[str] = set()
        for _, _, type_, key, data, *_ in self.events:
            if type_ == "step.started" and json.loads(data)["effect"] == effect:
                begun.add(key)
            elif type_ in ("step.done", "step.failed", "step.settled"):
                begun.discard(key)
        return begun


def look(journal: Path, marks: Path) -> Look:
    events: list[Row] = []
    if journal.exists():
        db = sqlite3.connect(journal)
        if db.execute("SELECT count(*) FROM sqlite_master WHERE name='events'").fetchone()[0]:
            events = db.execute(
                "SELECT seq,epoch,type,key,data,value,ref FROM events ORDER BY seq"
            ).fetchall()
        db.close()
    return Look(events, Counter(marks.read_text().split("\n") if marks.exists() else []))


@dataclass(frozen=True)
class Death:
    at: str
    killed: Look
    ended: Look
    ending: Ending


@dataclass(frozen=True)
class Case:
    workflow: str
    whole: Ending
    deaths: list[Death]


def die(victims: Victims, workflow: str, folder: Path, name: str, *kills: Any) -> Death:
    """Run, be killed at each of ``kills`` in turn, and run to the end."""
    journal, marks = folder / f"{name}.db", folder / f"{name}.txt"
    killed = look(journal, marks)
    for kill in kills:
        victims.run(workflow, str(journal), str(marks), kill=kill)
        killed = look(journal, marks)
    ending = victims.run(workflow, str(journal), str(marks))
    death = Death(f"{workflow} killed at {kills}", killed, look(journal, marks), ending)
    for path in folder.glob(f"{name}.*"):
        path.unlink()
    return death


def at_random(case: int) -> list[float]:
    chance = random.Random(case)
    return [chance.uniform(0.0, 0.15) for _ in range(chance.randint(1, 4))]


def cases(folder: Path, workflow: str, rounds: range, boundaries: Path | None = None) -> Case:
    """``boundaries``: where to put the journals that are killed at each of their commits."""
    with Victims(PROGRAMS, "program") as victims:
        whole = victims.run(workflow, str(folder / "whole.db"), str(folder / "whole.txt"))
        points: list[CrashPoint] = list(crash_points(whole.commits)) if boundaries else []
        deaths = [
            die(victims, workflow, boundaries or folder, f"p{i}", p) for i, p in enumerate(points)
        ]
        deaths += [die(victims, workflow, folder, f"r{i}", *at_random(i)) for i in rounds]
    return Case(workflow, whole, deaths)


@pytest.fixture(scope="module", params=WORKFLOWS)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    """Every boundary, and 3 random moments of each of the 7 workflows."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # SIGKILL spares the page cache
    with TemporaryDirectory(dir=memory) as fast:
        yield cases(tmp_path_factory.mktemp("kill"), request.param, range(3), Path(fast))


def check_same_end(case: Case) -> None:
    for death in case.deaths:
        assert death.ending.value[0] == case.whole.value[0], death.at


def check_finished_effects_stay_single(case: Case) -> None:
    for death in case.deaths:
        for _, _, _, key, _, value, _ in death.killed.of("step.done"):
            name = str(json.loads(value or "null")).rpartition(":")[2]
            assert death.ended.marks[name] == death.killed.marks[name], (death.at, key)


def check_nothing_lost(case: Case) -> None:
    for death in case.deaths:
        assert death.ended.events[: len(death.killed.events)] == death.killed.events, death.at


def check_once_is_never_blind(case: Case) -> None:
    for death in case.deaths:
        for key in death.killed.open_steps("once"):
            after = death.ended.events[len(death.killed.events) :]
            about = [e[2] for e in after if e[3] == key and e[2].startswith("step.")]
            assert about[0] in ("step.in_doubt", "step.settled"), death.at
        for key in ("probed", "blind"):
            assert death.ended.marks[key] <= 1, death.at


def check_spend(case: Case) -> None:
    for death in case.deaths:
        spent = sum(
            json.loads(e[4])["used"]["tokens"]
            for e in death.ended.events
            if e[2] in ("step.done", "step.failed")
        )
        epochs = Counter((e[3], e[1]) for e in death.ended.of("step.started"))
        finished = {(e[3], e[1]) for e in death.ended.of("step.done")}
        spent += 40 * sum(n for who, n in epochs.items() if who not in finished)
        begun = sum(n for mark, n in death.ended.marks.items() if mark.startswith("begin "))
        assert begun * TOKENS_PER_CALL <= spent <= LIMIT, death.at


def test_the_result_is_that_of_an_uninterrupted_run(case: Case) -> None:
    check_same_end(case)


def test_no_finished_effect_is_repeated(case: Case) -> None:
    check_finished_effects_stay_single(case)


def test_nothing_in_the_journal_is_lost_or_changed(case: Case) -> None:
    check_nothing_lost(case)


def test_a_once_step_in_doubt_is_flagged_and_never_repeated_blindly(case: Case) -> None:
    check_once_is_never_blind(case)


def test_pure_and_idempotent_steps_without_an_end_are_run_again(case: Case) -> None:
    for death in case.deaths:
        for key in death.killed.open_steps("pure") | death.killed.open_steps("idempotent"):
            assert any(
                e[2] == "step.started" and e[3] == key
                for e in death.ended.events[len(death.killed.events) :]
            ), death.at


def test_sequence_numbers_have_no_holes(case: Case) -> None:
    for death in case.deaths:
        assert [e[0] for e in death.ended.events] == [
            n + 1 for n in range(len(death.ended.events))
        ], death.at


def test_each_epoch_begins_by_opening_the_run(case: Case) -> None:
    for death in case.deaths:
        first: dict[int, str] = {}
        for _, epoch, type_, *_ in death.ended.events:
            first.setdefault(epoch, type_)
        assert first.pop(0) == "run.created", death.at
        assert set(first.values()) <= {"run.opened"}, death.at


def test_the_kills_came(case: Case) -> None:
    interrupted = [d for d in case.deaths if not d.killed.of("run.ended")]
    assert len(interrupted) >= case.whole.commits


def test_spend_is_at_least_the_truth_and_within_the_limit(case: Case) -> None:
    if case.workflow == "spend":
        check_spend(case)


@pytest.fixture(scope="module", params=WORKFLOWS)
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """500 random moments and more, over the 7 workflows."""
    return cases(tmp_path_factory.mktemp("kill"), request.param, range(100, 132))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_500_random_moments(many: Case) -> None:
    check_same_end(many)
    check_finished_effects_stay_single(many)
    check_nothing_lost(many)
    check_once_is_never_blind(many)
    if many.workflow == "spend":
        check_spend(many)
