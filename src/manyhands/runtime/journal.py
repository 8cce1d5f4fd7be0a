"""The journal: append-only events in SQLite, one writer thread, group commit, fenced by epoch.

Invariants. An event is appended only under the run's current epoch; once an append of an epoch has
failed, every later one of that epoch fails too, so a journal has no holes. What was acknowledged
survives ``kill -9``; what was appended as ``durable`` survives a power cut as well. Whatever goes
wrong in a commit, its callers are told and the writer lives on.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from manyhands.errors import JournalError, RunNotFound, StaleEpoch
from manyhands.redaction import Redactor
from manyhands.runtime.codec import digest
from manyhands.runtime.database import (
    EVENT_COLUMNS,
    INSERT_BLOB,
    INSERT_EVENT,
    Row,
    checked,
    connect,
    damaged,
    event_of,
    parse_url,
    row_of,
    translate,
)
from manyhands.runtime.events import Event

T = TypeVar("T")

#: At most so many appends in one commit.
_BATCH = 512

#: An event as a row, and the blob that holds its value where that is large.
Prepared = tuple[Row, tuple[str, bytes] | None]

#: ``on_boundary(moment, count)``: ``before`` or ``after`` the journal's ``count``-th commit.
Boundary = Callable[[str, int], None]


@dataclass(slots=True)
class _Append:
    run_id: str
    epoch: int
    events: list[Prepared]
    durable: bool
    done: Callable[[JournalError | None], None] | None
    error: JournalError | None = None


@dataclass(slots=True)
class _Blob:
    """Bytes that belong to no run: no epoch can refuse them."""

    name: str
    content: bytes
    done: Callable[[JournalError | None], None]
    error: JournalError | None = None


@dataclass(slots=True)
class _Call:
    work: Callable[[sqlite3.Connection], Any]
    done: Callable[[BaseException | None, Any], None]


def awaitable(
    loop: asyncio.AbstractEventLoop,
) -> tuple[asyncio.Future[None], Callable[[JournalError | None], None]]:
    """What to await for a commit, and what the writer calls after it."""
    committed: asyncio.Future[None] = loop.create_future()

    def finish(error: JournalError | None) -> None:
        if committed.done():
            return
        if error is None:
            committed.set_result(None)
        else:
            committed.set_exception(error)

    def done(error: JournalError | None) -> None:
        loop.call_soon_threadsafe(finish, error)

    return committed, done


class Journal:
    """One SQLite file. Reads run on the caller's thread, all writes on the one writer thread.

    ``on_boundary`` is called on the writer thread around each commit: the place where a test ends
    the process. An exception that it raises fails that commit. ``secrets`` are what those who
    append take out of it beforehand, with ``redactor``.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        on_boundary: Boundary | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self.path = parse_url(url)
        self.redactor = Redactor(secrets)
        self._on_boundary = on_boundary
        self._commits = 0
        self._queue: queue.SimpleQueue[_Append | _Blob | _Call | None] = queue.SimpleQueue()
        self._poison: dict[str, tuple[int, JournalError]] = {}
        self._closed = False
        self._writer = connect(self.path)
        self._reader = connect(self.path)
        self._thread = threading.Thread(target=self._write, name="journal-writer", daemon=True)
        self._thread.start()

    # ---------------------------------------------------------------- writing

    def prepare(self, run_id: str, event: Event) -> Prepared:
        """``event`` as `append` takes it. Raises `NotSerializable`, or that the journal is shut."""
        self._check_open()
        return row_of(run_id, event)

    def append(
        self,
        run_id: str,
        epoch: int,
        events: list[Prepared],
        *,
        durable: bool = False,
        done: Callable[[JournalError | None], None] | None = None,
    ) -> None:
        """Queue events for one commit; ``done(error)`` is called on the writer thread after it."""
        self._queue.put(_Append(run_id, epoch, events, durable, done))

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in one transaction on the writer thread."""
        self._check_open()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def finish(error: BaseException | None, value: T) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)

        def done(error: BaseException | None, value: T) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(finish, error, value)

        self._queue.put(_Call(work, done))
        return await future

    async def put_blob(self, content: bytes) -> str:
        """Store bytes once, in one commit with all else that waits; returns ``sha256:<hex>``."""
        name = digest(content)
        if not self.read("SELECT 1 FROM blobs WHERE hash=?", name):
            stored, done = awaitable(asyncio.get_running_loop())
            self._queue.put(_Blob(name, content, done))
            await stored
        return name

    def _check_open(self) -> None:
        if self._closed:
            raise JournalError(f"journal {self.path} is closed", next="open the runtime again")

    def _write(self) -> None:
        going = True
        while going:
            batch, call, going = self._gather()
            if batch:
                self._commit(batch)
                for item in batch:
                    if item.done is not None:
                        with contextlib.suppress(RuntimeError):  # a closed loop: nobody waits
                            item.done(item.error)
            if call is not None:
                self._run_call(call)

    def _gather(self) -> tuple[list[_Append | _Blob], _Call | None, bool]:
        """All appends that wait already, up to the first call: one commit. False: the last one."""
        batch: list[_Append | _Blob] = []
        item = self._queue.get()
        while isinstance(item, (_Append, _Blob)):
            batch.append(item)
            if len(batch) == _BATCH or self._queue.empty():
                return batch, None, True
            item = self._queue.get()
        return batch, item, item is not None

    def _commit(self, batch: list[_Append | _Blob]) -> None:
        db = self._writer
        appends = [item for item in batch if isinstance(item, _Append)]
        durable = any(item.durable for item in appends)
        try:
            self._boundary("before")
            if durable:
                db.execute("PRAGMA synchronous=FULL")
            db.execute("BEGIN IMMEDIATE")
            for item in batch:
                if isinstance(item, _Blob):
                    self._store(db, item)
            self._insert(db, appends)
            db.execute("COMMIT")
        except BaseException as error:
            self._rollback()
            failure = self._failure(error)
            for item in batch:
                item.error = item.error or failure
        for item in appends:
            known, _ = self._poison.get(item.run_id, (-1, None))
            if item.error is not None and known < item.epoch:
                self._poison[item.run_id] = (item.epoch, item.error)
        with contextlib.suppress(Exception):
            if durable:
                db.execute("PRAGMA synchronous=NORMAL")
            self._boundary("after")

    def _store(self, db: sqlite3.Connection, item: _Blob) -> None:
        """One that cannot be stored must not take the events with it that share its commit."""
        try:
            db.execute(INSERT_BLOB, (item.name, item.content))
        except Exception as error:
            if not db.in_transaction:  # all of it is lost
                raise
            item.error = self._failure(error)

    def _insert(self, db: sqlite3.Connection, batch: list[_Append]) -> None:
        verdicts: dict[tuple[str, int], JournalError | None] = {}
        rows: list[Row] = []
        for item in batch:
            owner = (item.run_id, item.epoch)
            if owner not in verdicts:
                verdicts[owner] = self._poisoned(item) or self._fence(db, item)
            item.error = verdicts[owner]
            if item.error is not None:
                continue
            for row, blob in item.events:
                rows.append(row)
                if blob is not None:
                    db.execute(INSERT_BLOB, blob)
        db.executemany(INSERT_EVENT, rows)

    def _poisoned(self, item: _Append) -> JournalError | None:
        epoch, error = self._poison.get(item.run_id, (-1, None))
        return error if epoch == item.epoch else None

    def _fence(self, db: sqlite3.Connection, item: _Append) -> JournalError | None:
        row = db.execute("SELECT epoch FROM runs WHERE run_id=?", (item.run_id,)).fetchone()
        if row and row[0] == item.epoch:
            return None
        if row is None:
            return RunNotFound(f"run {item.run_id!r} is no longer in {self.path}")
        return StaleEpoch(
            f"run {item.run_id}: epoch {item.epoch} is over, the journal is at {row[0]}",
            next="another process has resumed this run; leave it to that one",
        )

    def _run_call(self, item: _Call) -> None:
        db = self._writer
        value: Any = None
        failure: BaseException | None = None
        working = False
        try:
            self._boundary("before")
            db.execute("BEGIN IMMEDIATE")
            working = True
            value = item.work(db)
            db.execute("COMMIT")
        except BaseException as error:
            self._rollback()
            ours = isinstance(error, sqlite3.Error) or not working
            failure = self._failure(error) if ours else error
        with contextlib.suppress(Exception):
            self._boundary("after")
        item.done(failure, value)

    def _failure(self, error: BaseException) -> JournalError:
        if isinstance(error, sqlite3.Error):
            return translate(self.path, error)
        return JournalError(
            f"journal {self.path}: {type(error).__name__}: {error}",
            next="`manyhands resume` goes on from what was acknowledged",
        )

    def _rollback(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def _boundary(self, moment: str) -> None:
        if self._on_boundary is not None:
            self._commits += moment == "before"
            self._on_boundary(moment, self._commits)

    # ---------------------------------------------------------------- reading

    def read(self, sql: str, *args: Any) -> list[Row]:
        self._check_open()
        try:
            return self._reader.execute(sql, args).fetchall()
        except sqlite3.Error as error:
            raise translate(self.path, error) from error

    def events(self, run_id: str, after: int = 0, before: int | None = None) -> Iterator[Event]:
        """Events with after < seq < before, in order. Raises `JournalUnreadable` for a hole."""
        for row in self._rows(run_id, after, before):
            yield event_of(self.path, row)

    def rows(self, run_id: str, after: int = 0, before: int | None = None) -> Iterator[Row]:
        """As `events`, with data and value as the JSON text that they are stored as: seq, epoch,
        ts, type, key, data, value, ref."""
        for row in self._rows(run_id, after, before):
            yield checked(self.path, row)

    def _rows(self, run_id: str, after: int, before: int | None) -> Iterator[Row]:
        last = self.last(run_id) if before is None else None
        rows = self.read(
            f"SELECT {EVENT_COLUMNS} FROM events WHERE run_id=? AND seq>? AND seq<? ORDER BY seq",
            run_id,
            after,
            before if before is not None else 2**62,
        )
        for row in rows:
            after += 1
            if row[0] != after:
                raise damaged(self.path, f"event {after} of run {run_id} is missing")
            yield row
        if last is not None and after < last.seq:  # an index of its own knows of more
            raise damaged(self.path, f"event {after + 1} of run {run_id} is missing")

    def last(self, run_id: str) -> Event | None:
        """The last event of the run's own life: created, opened, blocked, ended, forked."""
        rows = self.read(
            f"SELECT {EVENT_COLUMNS} FROM events INDEXED BY lifecycle"
            " WHERE run_id=? AND type GLOB 'run.*' ORDER BY seq DESC LIMIT 1",
            run_id,
        )
        return event_of(self.path, rows[0]) if rows else None

    def blob(self, name: str) -> bytes:
        rows = self.read("SELECT content FROM blobs WHERE hash=?", name)
        if not rows or digest(cast(bytes, rows[0][0])) != name:
            raise damaged(self.path, f"blob {name} is {'changed' if rows else 'missing'}")
        return rows[0][0]

    def value(self, event: Event) -> str | None:
        """The JSON text of an event's value, wherever it is stored."""
        return self.blob(event.ref).decode() if event.ref is not None else event.value

    def close(self) -> None:
        """Write what is queued, end the thread, close the file. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._writer.close()
        self._reader.close()
