"""Sending while runs go on: nothing lost, nothing twice where that can be, whoever dies."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import ConfigError, RunNotFound, TelemetryError
from manyhands.runtime import Event, Run, Runtime, Type, Workflow
from manyhands.runtime.codec import encode
from manyhands.runtime.database import INSERT_EVENT, INSERT_RUN, row_of
from manyhands.runtime.journal import Journal
from manyhands.telemetry import Span
from manyhands.telemetry.cursor import Cursor
from manyhands.telemetry.following import Following, Patience
from manyhands.telemetry.otlp import Collector, Sent
from manyhands.telemetry.reading import spans_of
from tests.answering.stage import Stage
from tests.telemetry.stage import Received, collector, drive, spans_in


@contextmanager
def following(path: Path, url: str, *runs: str, **more: Any) -> Iterator[Following]:
    journal = Journal(path)
    patience = more.pop("patience", Patience(0))
    try:
        with Collector(url) as client, Cursor(path.parent / "otel", path, url) as cursor:
            yield Following(journal, client, cursor, runs, patience=patience, **more)
    finally:
        journal.close()


def twice(received: Received) -> list[str]:
    return [id for id, count in Counter(received.ids).items() if count > 1]


def count_of(request: Any) -> int:
    return len(request.resource_spans[0].scope_spans[0].spans)


async def steps(run: Run, input: Any) -> Any:
    for i in range(20):
        await run.step(f"s{i}", lambda i=i: i)


async def test_all_is_sent_once_and_then_nothing(tmp_path: Path) -> None:
    await Stage(tmp_path).ask(run_id="run")
    path = tmp_path / "journal.db"
    with collector() as received:
        for _ in range(3):
            with following(path, received.url) as job:
                job.look()
                job.look()
        assert sorted(received.ids) == sorted(s.id for s in spans_in(path))
        assert received.asked == 1


async def test_each_prefix_of_a_run_is_sent_as_it_grows(tmp_path: Path) -> None:
    """The exporter dies after each look; a new one goes on."""
    await drive(tmp_path / "whole.db", steps)
    whole = Journal(tmp_path / "whole.db")
    rows = whole.read("SELECT * FROM events ORDER BY seq")
    (run,) = whole.read("SELECT run_id,workflow,version,created_at,epoch FROM runs")
    path = tmp_path / "growing.db"
    growing = Journal(path)
    with collector() as received:
        await growing.call(lambda db: db.execute(INSERT_RUN, run).close())
        for at in range(0, len(rows), 7):
            part = rows[at : at + 7]
            await growing.call(lambda db, part=part: db.executemany(INSERT_EVENT, part).close())
            with following(path, received.url) as job:
                job.look()
        assert twice(received) == []
        assert sorted(received.ids) == sorted(s.id for s in spans_in(tmp_path / "whole.db"))
    growing.close()
    whole.close()


async def test_a_crash_between_sending_and_keeping_sends_one_batch_again(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await drive(path, steps)
    with collector() as received:
        with following(path, received.url) as job:
            job.cursor.keep = crash  # pyright: ignore
            with pytest.raises(KeyboardInterrupt):
                job.look()
        with following(path, received.url) as job:
            job.look()
        ids = sorted(s.id for s in spans_in(path))
        assert sorted(set(received.ids)) == ids
        assert len(received.ids) == 2 * len(ids)


def crash(*_: Any) -> None:
    raise KeyboardInterrupt


async def test_while_the_collector_is_away_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    path = tmp_path / "j.db"
    await drive(path, steps)
    with collector(lambda n, request: 503 if n < 2 else 200) as received:
        for _ in range(2):
            with following(path, received.url) as job, pytest.raises(TelemetryError):
                job.look()
        with following(path, received.url) as job:
            job.look()
        assert sorted(received.ids) == sorted(s.id for s in spans_in(path))


async def test_a_run_is_followed_while_it_goes_on_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "j.db"

    async def slow(run: Run, input: Any) -> Any:
        for i in range(10):
            await run.step(f"s{i}", asyncio.sleep, 0.1)

    workflow = Workflow("told", slow)
    with collector() as received:
        async with Runtime.open(path, workflows=[workflow]) as runtime:
            handle = await runtime.start(workflow, None, run_id="run")
            batches: list[tuple[str, Sent]] = []

            def watch() -> None:
                more = {"on_sent": lambda run_id, sent: batches.append((run_id, sent))}
                with following(path, received.url, "run", **more) as job:
                    job.follow()

            thread = threading.Thread(target=watch)
            thread.start()
            await handle.result()
            await asyncio.to_thread(thread.join)
        assert len(batches) > 1
        assert twice(received) == []
        assert sorted(received.ids) == sorted(s.id for s in spans_in(path))


@pytest.mark.slow
async def test_an_exporter_that_is_killed_loses_nothing_and_harms_nobody(tmp_path: Path) -> None:
    """`manyhands otel --follow` as a process, killed for real while a run goes on."""
    path = tmp_path / "j.db"

    async def slow(run: Run, input: Any) -> Any:
        for i in range(80):
            await run.step(f"s{i}", asyncio.sleep, 0.1)

    workflow = Workflow("told", slow)
    with collector() as received:
        env = {**os.environ, "MANYHANDS_HOME": str(tmp_path), "MANYHANDS_JOURNAL": str(path)}
        words = ["otel", "run", "--follow", "--otlp", received.url]

        async def exporter() -> asyncio.subprocess.Process:
            program = [sys.executable, "-m", "manyhands.cli", *words]
            return await asyncio.create_subprocess_exec(*program, env=env)

        async with Runtime.open(path, workflows=[workflow]) as runtime:
            handle = await runtime.start(workflow, None, run_id="run")
            first = await exporter()
            while len(received.spans) < 5:  # noqa: ASYNC110 - another thread counts
                await asyncio.sleep(0.01)
            first.kill()
            await first.wait()
            second = await exporter()
            await handle.result()
            assert await second.wait() == 0
        assert set(received.ids) == {s.id for s in spans_in(path)}
        assert len(twice(received)) <= max(map(count_of, received.requests))


async def test_a_run_that_is_resumed_goes_on_where_it_was(tmp_path: Path) -> None:
    """Its folds are not kept over the end of a run; they are made again."""
    path = tmp_path / "j.db"
    fails = [True]

    async def body(run: Run, input: Any) -> Any:
        await run.step("first", lambda: 1)
        await run.step("second", lambda: 1 // (0 if fails else 1))

    await drive(path, body)
    with collector() as received, following(path, received.url) as job:
        job.look()
        fails.clear()
        async with Runtime.open(path, workflows=[Workflow("told", body)]) as runtime:
            await (await runtime.resume("run", retry_failed=True)).result()
        job.look()
        (root,) = (s.id for s in spans_in(path) if not s.parent)
        assert twice(received) == [root]  # it has become longer
        assert set(received.ids) == {s.id for s in spans_in(path)}


async def test_new_leaves_out_what_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await drive(path, steps, run_id="old")
    with collector() as received:
        with following(path, received.url) as job:
            job.skip_ended()
            job.look()
        await drive(path, steps, run_id="young")  # and ends while nobody looks
        with following(path, received.url) as job:
            job.skip_ended()
            job.look()
        assert sorted(received.ids) == sorted(s.id for s in spans_in(path, "young"))


async def test_a_damaged_run_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await drive(path, steps, run_id="bad")
    whole = sorted(s.id for s in spans_in(path, "bad"))
    journal = Journal(path)
    await journal.call(
        lambda db: db.execute("DELETE FROM events WHERE run_id='bad' AND seq=20").close()
    )
    journal.close()
    complaints: list[str] = []
    with (
        collector() as received,
        following(path, received.url, on_damage=lambda e: complaints.append(str(e))) as job,
    ):
        job.look()
        await drive(path, steps, run_id="good")
        job.look()
        good = {s.id for s in spans_in(path, "good")}
        assert good <= set(received.ids)
        assert set(received.ids) - good < set(whole)
        assert twice(received) == []
    assert [*job.damaged] == ["bad"]
    assert len(complaints) == 1
    assert "damaged" in complaints[0]
    with collector() as received, following(path, received.url, "bad") as job:
        job.follow()  # a run that cannot be read is waited for by nobody


async def test_two_do_not_send_one_journal_to_one_place(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await drive(path, steps)
    with collector() as received, following(path, received.url):
        with (
            pytest.raises(ConfigError, match="another process"),
            following(path, received.url),
        ):
            pass
        with collector() as other, following(path, other.url) as job:
            job.look()
            assert other.spans


async def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    await drive(tmp_path / "j.db", steps)
    with (
        collector() as received,
        following(tmp_path / "j.db", received.url, "nobody") as job,
        pytest.raises(RunNotFound, match="nobody"),
    ):
        job.look()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"runs": {"run": 1}}', '{"runs": {"run": []}}']
)
def test_a_torn_cursor_is_none(tmp_path: Path, content: str) -> None:
    with Cursor(tmp_path, tmp_path / "j.db", "http://here") as cursor:
        cursor.keep("run", 1.0, 7)
        assert cursor.sent("run", 1.0, 9) == 7
        assert cursor.sent("run", 2.0, 9) == 0  # another run of that name
        assert cursor.sent("run", 1.0, 5) == 0
    cursor.path.write_text(content)
    with Cursor(tmp_path, tmp_path / "j.db", "http://here") as cursor:
        assert cursor.sent("run", 1.0, 9) == 0


# -------------------------------------------------------------------- size


def long_run(path: Path, count: int) -> None:
    """Steps in scopes, as `map` makes them: two events each."""
    journal = Journal(path)

    def rows() -> Iterator[tuple[Any, ...]]:
        data = {"workflow": "long", "version": 1, "budget": {}}
        yield row_of("run", Event(1, 0, 1.0, Type.RUN_CREATED, "", data))[0]
        for seq in range(2, count, 2):
            scope = f"item/{seq // 20}"
            start = {"effect": "pure", "scope": scope}
            key, at = f"{scope}/s{seq}", seq / 1000
            yield row_of("run", Event(seq, 1, at, Type.STEP_STARTED, key, start))[0]
            yield row_of("run", Event(seq + 1, 1, at, Type.STEP_DONE, key, {}, encode("x")))[0]

    async def write() -> None:
        await journal.call(lambda db: db.execute(INSERT_RUN, ("run", "long", 1, 1.0, 1)).close())
        await journal.call(lambda db: db.executemany(INSERT_EVENT, rows()).close())

    asyncio.run(write())
    journal.close()


def peak(path: Path) -> tuple[int, int]:
    """Bytes in memory at most, and spans."""
    journal = Journal(path)
    tracemalloc.start()
    count = sum(1 for _ in spans_of(journal, "run"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    journal.close()
    return most, count


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_memory_does_not_grow_with_the_journal(tmp_path: Path, count: int) -> None:
    long_run(tmp_path / "long.db", count)
    most, spans = peak(tmp_path / "long.db")
    assert spans > count // 2
    assert most < 30_000_000


def test_a_span_is_small() -> None:
    assert Span("t", "i", "", "n", 1.0, 2.0).__slots__  # many are in memory at once
