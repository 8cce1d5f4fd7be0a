"""The journal's file: fencing, group commit, bad files, full disks, followers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import (
    ConfigError,
    JournalBusy,
    JournalError,
    JournalFull,
    JournalTooNew,
    JournalUnreadable,
    ManyhandsError,
    RunNotFound,
    StaleEpoch,
)
from manyhands.runtime import Event, Run, Runtime, Status, Workflow, database
from manyhands.runtime.journal import Journal

# -------------------------------------------------------------------- appending


def run_row(journal: Journal, run_id: str = "r", epoch: int = 1) -> Any:
    def insert(db: sqlite3.Connection) -> None:
        db.execute(
            "INSERT INTO runs VALUES (?,'w',1,0,?,NULL)"
            " ON CONFLICT (run_id) DO UPDATE SET epoch=excluded.epoch",
            (run_id, epoch),
        )

    return journal.call(insert)


def append(
    journal: Journal, seq: int, *, run_id: str = "r", epoch: int = 1, durable: bool = False
) -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def finish(error: JournalError | None) -> None:
        if error:
            future.set_exception(error)
        else:
            future.set_result(None)

    def done(error: JournalError | None) -> None:
        loop.call_soon_threadsafe(finish, error)

    event = Event(seq, epoch, 1, "test:x", f"k{seq}", {"n": seq})
    prepared = journal.prepare(run_id, event)
    journal.append(run_id, epoch, [prepared], durable=durable, done=done)
    return future


@pytest.fixture
async def journal(fast_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(fast_path)
    await run_row(journal)
    yield journal
    journal.close()


async def test_events_come_back_in_order_and_as_they_were(journal: Journal) -> None:
    await asyncio.gather(*(append(journal, n, durable=n == 3) for n in range(1, 6)))
    found = list(journal.events("r"))
    assert [(e.seq, e.key, e.data, e.ts) for e in found] == [
        (n, f"k{n}", {"n": n}, 1.0) for n in range(1, 6)
    ]
    assert [e.seq for e in journal.events("r", after=2, before=5)] == [3, 4]


async def test_appends_that_wait_together_share_a_commit(fast_path: Path) -> None:
    commits: list[int] = []
    held = threading.Event()

    def on_boundary(moment: str, count: int) -> None:
        if moment == "before":
            held.wait(5)
            commits.append(count)

    journal = Journal(fast_path, on_boundary=on_boundary)
    held.set()
    await run_row(journal)
    held.clear()
    waiting = [append(journal, n) for n in range(1, 101)]
    stored = [asyncio.create_task(journal.put_blob(b"%d" % n)) for n in range(100)]
    await asyncio.sleep(0)  # all of them are queued
    held.set()
    await asyncio.gather(*waiting, *stored)
    journal.close()
    assert len(commits) <= 3


async def test_what_is_durable_waits_for_the_disk(journal: Journal) -> None:
    said: list[str] = []
    journal._writer.set_trace_callback(said.append)
    await append(journal, 1)
    await append(journal, 2, durable=True)
    await append(journal, 3)
    modes = [s for s in said if s.startswith(("PRAGMA", "COMMIT"))]
    assert modes == [
        "COMMIT",
        "PRAGMA synchronous=FULL",
        "COMMIT",
        "PRAGMA synchronous=NORMAL",
        "COMMIT",
    ]


async def test_a_short_step_is_one_commit(fast_path: Path) -> None:
    commits: list[int] = []
    async with Runtime.open(fast_path, on_boundary=lambda m, n: commits.append(n)) as runtime:
        await runtime.run(COUNTING, 0)
        before = max(commits)
        await runtime.run(COUNTING, 10)
        assert max(commits) - before == before + 10


async def test_an_older_epoch_cannot_append(journal: Journal) -> None:
    await append(journal, 1)
    await run_row(journal, epoch=2)
    with pytest.raises(StaleEpoch, match=r"epoch 1 is over, the journal is at 2"):
        await append(journal, 2)
    await append(journal, 2, epoch=2)
    assert [e.epoch for e in journal.events("r")] == [1, 2]


async def test_a_stale_owner_does_not_harm_another_run_in_its_commit(journal: Journal) -> None:
    await run_row(journal, "other")
    await run_row(journal, epoch=2)
    stale, fresh = append(journal, 1), append(journal, 1, run_id="other")
    await fresh
    with pytest.raises(StaleEpoch):
        await stale
    assert len(list(journal.events("other"))) == 1


async def test_after_a_failed_append_its_epoch_can_append_no_more(fast_path: Path) -> None:
    broken = False

    def on_boundary(moment: str, count: int) -> None:
        if broken and moment == "before":
            raise OSError("the disk is gone")

    journal = Journal(fast_path, on_boundary=on_boundary)
    await run_row(journal)
    await append(journal, 1)
    broken = True
    with pytest.raises(JournalError, match="the disk is gone"):
        await append(journal, 2)
    broken = False
    with pytest.raises(JournalError, match="the disk is gone"):
        await append(journal, 3)
    await run_row(journal, epoch=2)
    await append(journal, 2, epoch=2)
    assert [e.seq for e in journal.events("r")] == [1, 2]
    journal.close()


async def test_the_writer_outlives_whatever_a_call_raises(journal: Journal) -> None:
    def broken(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO meta VALUES ('half', 'done')")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await journal.call(broken)
    assert not journal.read("SELECT 1 FROM meta WHERE name='half'")
    await append(journal, 1)


def test_the_writer_outlives_the_loop_of_its_caller(fast_path: Path) -> None:
    journal = Journal(fast_path)

    async def leave() -> None:
        await run_row(journal)
        _ = append(journal, 1)

    asyncio.run(leave())
    asyncio.run(journal.put_blob(b"x"))
    assert len(list(journal.events("r"))) == 1
    journal.close()


async def test_a_blob_is_stored_once(journal: Journal) -> None:
    names = {await journal.put_blob(b"x" * 10_000) for _ in range(3)}
    assert journal.read("SELECT count(*) FROM blobs") == [(1,)]
    assert journal.blob(names.pop()) == b"x" * 10_000


async def test_a_blob_that_is_too_large_fails_alone(journal: Journal) -> None:
    held = threading.Event()

    def hold(_: JournalError | None) -> None:
        held.wait(5)

    journal.append("nobody", 1, [], done=hold)  # keeps the writer busy
    journal._writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 5_000)
    large = asyncio.create_task(journal.put_blob(b"x" * 10_000))
    small = asyncio.create_task(journal.put_blob(b"y" * 1_000))
    await asyncio.sleep(0)
    event = append(journal, 1)  # in the same commit as both
    held.set()
    await event
    with pytest.raises(JournalError, match="too big"):
        await large
    assert journal.blob(await small) == b"y" * 1_000
    await append(journal, 2)


async def test_a_missing_or_changed_blob_is_an_error(journal: Journal) -> None:
    name = await journal.put_blob(b"content")

    def change(db: sqlite3.Connection) -> None:
        db.execute("UPDATE blobs SET content=x'00'")

    await journal.call(change)
    with pytest.raises(JournalUnreadable, match="is changed"):
        journal.blob(name)
    with pytest.raises(JournalUnreadable, match="is missing"):
        journal.blob("sha256:00")


# -------------------------------------------------------------------- files that are no journal


@pytest.mark.parametrize(
    "content", [b"x", b"hello, world\n" * 1000, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_garbage_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(JournalUnreadable, match=r"journal\.db") as caught:
        Runtime.open(path)
    assert caught.value.next
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "places.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE bookmarks (url TEXT)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(JournalUnreadable, match="another program's SQLite database"):
        Runtime.open(path)
    assert path.read_bytes() == before


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalUnreadable, match="unable to open"):
        Runtime.open(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnreadable):
        Runtime.open(tmp_path / "file" / "journal.db")


def test_a_journal_of_a_newer_schema_is_refused(fast_path: Path) -> None:
    Journal(fast_path).close()
    db = sqlite3.connect(fast_path)
    db.execute("UPDATE meta SET value='99'")
    db.commit()
    db.close()
    with pytest.raises(JournalTooNew, match="schema 99; this version reads up to 1") as caught:
        Runtime.open(fast_path)
    assert "newer manyhands" in caught.value.next


def test_an_event_of_a_newer_schema_is_refused(fast_path: Path) -> None:
    async def write() -> None:
        journal = Journal(fast_path)
        await run_row(journal)
        event = Event(1, 1, 0, "run.levitated", "", {})
        journal.append("r", 1, [journal.prepare("r", event)])
        journal.close()

    asyncio.run(write())
    reader = Runtime.open(fast_path)
    with pytest.raises(JournalTooNew, match=r"run\.levitated"):
        reader.view("r")


@pytest.mark.parametrize("url", ["postgresql://host/db", "mysql://x"])
def test_another_database_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match=r"supported: sqlite:///PATH"):
        Runtime.open(url)


def test_urls_and_paths_name_the_same_file(tmp_path: Path) -> None:
    assert database.parse_url(f"sqlite:///{tmp_path}/a.db") == tmp_path / "a.db"
    assert database.parse_url("sqlite:///a.db") == Path("a.db")
    assert database.parse_url("~/a.db") == Path.home() / "a.db"


def test_a_run_that_is_not_there_is_named(fast_path: Path) -> None:
    with pytest.raises(RunNotFound, match="'nope' is not in"):
        Runtime.open(fast_path).view("nope")


def test_many_processes_may_make_the_journal_at_once(fast_path: Path) -> None:
    code = "import sys; from manyhands.runtime.journal import Journal; Journal(sys.argv[1]).close()"
    command = [sys.executable, "-c", code, str(fast_path)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [p.wait() for p in processes] == [0] * 4
    Journal(fast_path).close()


# -------------------------------------------------------------------- damage


async def counting(run: Run, input: int) -> list[str]:
    return [await run.step(f"s{i}", str.__add__, f"{i}", "x" * 300) for i in range(input)]


COUNTING = Workflow("counting", counting)


async def written(path: Path, steps: int = 40) -> None:
    async with Runtime.open(path) as runtime:
        await runtime.run(COUNTING, steps, run_id="r")


async def test_a_damaged_file_is_never_read_as_something_else(fast_path: Path) -> None:
    """Bits flipped all over the file: an error, or exactly what was written."""
    await written(fast_path)
    whole = fast_path.read_bytes()
    async with Runtime.open(fast_path) as runtime:
        truth = [e async for e in runtime.events("r")]
    chance = random.Random(1)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        fast_path.write_bytes(damaged)
        try:
            async with Runtime.open(fast_path) as runtime:
                assert [e async for e in runtime.events("r")] == truth
        except JournalError as error:
            refused += 1
            assert error.next  # noqa: PT017
    assert refused > 10


async def test_a_truncated_file_is_an_error(fast_path: Path) -> None:
    await written(fast_path)
    whole = fast_path.read_bytes()
    fast_path.write_bytes(whole[: len(whole) // 2 // 4096 * 4096])
    with pytest.raises(JournalError):
        async with Runtime.open(fast_path) as runtime:
            runtime.view("r")


async def test_a_missing_event_is_an_error(fast_path: Path) -> None:
    await written(fast_path)
    db = sqlite3.connect(fast_path)
    db.execute("DELETE FROM events WHERE seq=7")
    db.commit()
    db.close()
    async with Runtime.open(fast_path) as runtime:
        with pytest.raises(JournalUnreadable, match="event 7 of run r is missing"):
            runtime.view("r")


async def test_an_edited_event_is_an_error(fast_path: Path) -> None:
    await written(fast_path)
    db = sqlite3.connect(fast_path)
    db.execute("UPDATE events SET value='\"forged\"' WHERE seq=5")
    db.commit()
    db.close()
    async with Runtime.open(fast_path) as runtime:
        with pytest.raises(JournalUnreadable, match="event 5 does not fit its checksum"):
            runtime.view("r")


# -------------------------------------------------------------------- full and locked


async def test_a_full_disk_in_the_middle_of_a_run_loses_nothing(fast_path: Path) -> None:
    done: list[int] = []

    async def body(run: Run, input: Any) -> int:
        for i in range(60):
            await run.step(f"s{i}", lambda: "x" * 3000)
            done.append(i)
        return len(done)

    workflow = Workflow("w", body)

    def limit(pages: int) -> Any:
        def set_limit(db: sqlite3.Connection) -> None:
            db.execute(f"PRAGMA max_page_count={pages}")

        return set_limit

    async with Runtime.open(fast_path, workflows=[workflow]) as runtime:
        await runtime.journal.call(limit(40))
        handle = await runtime.start(workflow, run_id="r")
        with pytest.raises(JournalFull, match="full") as caught:
            await handle.result()
        assert "resume" in caught.value.next
        acknowledged = len(done)
        steps = runtime.view("r").steps
        assert 5 < acknowledged < 60
        assert sum(s.outcome == "done" for s in steps.values()) == acknowledged
        await runtime.journal.call(limit(1_000_000))
        done.clear()
        assert await (await runtime.resume("r")).result() == 60
        attempts = [s.attempts for s in runtime.view("r").steps.values()]
        assert attempts.count(1) >= 59


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare")
def test_a_full_file_system_is_a_clear_error_and_can_be_resumed(tmp_path: Path) -> None:
    script = tmp_path / "fill.py"
    script.write_text(
        """
import asyncio, os, sys
from manyhands.errors import JournalFull
from manyhands.runtime import Runtime, Workflow

async def body(run, input):
    return sum([await run.step(f"s{i}", lambda: len("x" * 3000)) for i in range(300)])

async def once(w):
    async with Runtime.open(sys.argv[1] + "/j.db", workflows=[w]) as runtime:
        if runtime.runs():
            return await (await runtime.resume("r")).result()
        return await runtime.run(w, run_id="r")

async def main():
    w = Workflow("w", body)
    try:
        await once(w)
    except JournalFull as error:
        print("full:", error.next)
    os.system(f"mount -o remount,size=64m {sys.argv[1]}")
    print(await once(w))

asyncio.run(main())
"""
    )
    mount = tmp_path / "small"
    mount.mkdir()
    shell = f"mount -t tmpfs -o size=1m none {mount} && {sys.executable} {script} {mount}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell], capture_output=True, text=True, check=False
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no mount in a user namespace: {done.stderr.strip()}")
    assert done.stdout.splitlines()[0].startswith("full: free some space"), done.stderr
    assert done.stdout.splitlines()[1:] == ["900000"], done.stderr


async def test_a_file_that_another_program_keeps_locked_is_a_clear_error(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    await written(fast_path, 3)
    async with Runtime.open(fast_path) as runtime:
        other = sqlite3.connect(fast_path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalBusy, match="locked for"):
            await runtime.run(COUNTING, 3)
        assert runtime.status("r") is Status.COMPLETED  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        assert len(await runtime.run(COUNTING, 3)) == 3


async def test_a_short_lock_is_waited_for(fast_path: Path) -> None:
    await written(fast_path, 1)
    other = sqlite3.connect(fast_path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, lambda: other.execute("ROLLBACK")).start()
    async with Runtime.open(fast_path) as runtime:
        assert len(await runtime.run(COUNTING, 2)) == 2
    other.close()


# -------------------------------------------------------------------- following


async def follow(runtime: Runtime, after: int = 0) -> list[int]:
    return [e.seq async for e in runtime.events("r", after, follow=True)]


async def test_followers_see_every_event_once_and_in_order(fast_path: Path) -> None:
    """In the same process, and over a connection of its own as another process has it."""
    async with Runtime.open(fast_path) as runtime, Runtime.open(fast_path) as other:
        handle = await runtime.start(COUNTING, 200, run_id="r")
        near, far, late = await asyncio.gather(
            follow(runtime), follow(other), follow(other, after=50)
        )
        await handle.result()
        last = runtime.view("r").seq
        assert near == far == list(range(1, last + 1))
        assert late == list(range(51, last + 1))
        assert await follow(other, after=last) == []


async def test_another_process_sees_every_event_once_and_in_order(fast_path: Path) -> None:
    code = """
import asyncio, sys
from manyhands.runtime import Runtime
async def main():
    async with Runtime.open(sys.argv[1]) as runtime:
        while not runtime.runs():
            await asyncio.sleep(0.01)
        print(*[e.seq async for e in runtime.events("r", follow=True)])
asyncio.run(main())
"""
    async with Runtime.open(fast_path) as runtime:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(fast_path), stdout=subprocess.PIPE
        )
        await runtime.run(COUNTING, 300, run_id="r")
        out, _ = await process.communicate()
        assert list(map(int, out.split())) == list(range(1, runtime.view("r").seq + 1))


async def test_a_follower_may_leave(fast_path: Path) -> None:
    async with Runtime.open(fast_path) as runtime:
        handle = await runtime.start(COUNTING, 20, run_id="r")
        async for event in runtime.events("r", follow=True):
            if event.seq == 5:
                break
        assert len(await handle.result()) == 20


async def test_the_list_of_runs_is_newest_first_with_their_status(fast_path: Path) -> None:
    async def fails(run: Run, input: Any) -> None:
        raise ManyhandsError("no")

    async with Runtime.open(fast_path) as runtime:
        await runtime.run(COUNTING, 1, run_id="a")
        with pytest.raises(ManyhandsError):
            await runtime.run(Workflow("fails", fails), run_id="b")
        found = runtime.runs()
    assert [(r.run_id, r.status, r.events) for r in found] == [
        ("b", Status.FAILED, 3),
        ("a", Status.COMPLETED, 5),
    ]


async def test_a_second_process_leaves_the_log_of_a_journal_in_use(tmp_path: Path) -> None:
    """POSIX locks go when any handle of the file is closed; then the other would remove the log."""
    path = tmp_path / "journal.db"
    other = (
        "import sys; from manyhands.runtime import Runtime\n"
        "runtime = Runtime.open(sys.argv[1]); runtime.runs(); runtime.journal.close()"
    )

    async def work(run: Run, _: object) -> None:
        for i in range(40):
            await run.step(f"s{i}", lambda: "x" * 1000)
            if i % 20 == 10:
                before = log.stat().st_ino
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", other, str(path)
                )
                assert await process.wait() == 0
                assert log.stat().st_ino == before

    log = path.with_name(path.name + "-wal")
    async with Runtime.open(path) as runtime:
        await runtime.run(Workflow("w", work), None, run_id="a")
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
