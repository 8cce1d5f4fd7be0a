"""The journal: append-only events in SQLite, one writer thread, group commit, fenced by epoch.

Invariants. An event is appended only under the run's current epoch; once an append of an epoch has
failed, every later one of that epoch fails too, so a journal has no holes. What was acknowledged
survives ``kill -9``; what was appended as ``durable`` survives a power cut as well.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from manyhands.errors import (
    ConfigError,
    JournalError,
    JournalFull,
    JournalTooNew,
    JournalUnreadable,
    StaleEpoch,
)
from manyhands.runtime.codec import digest
from manyhands.runtime.events import INLINE_LIMIT, SCHEMA, Event

#: Marks the file as ours ("MnyH"), so that another program's database is not written to.
APPLICATION_ID = 0x4D6E7948

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
  run_id TEXT PRIMARY KEY, workflow TEXT NOT NULL, version INTEGER NOT NULL,
  created_at REAL NOT NULL, epoch INTEGER NOT NULL, owner TEXT);
CREATE TABLE IF NOT EXISTS events (
  run_id TEXT NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, ts REAL NOT NULL,
  type TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL, value TEXT, ref TEXT,
  PRIMARY KEY (run_id, seq)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lifecycle ON events (run_id, seq) WHERE type GLOB 'run.*';
CREATE TABLE IF NOT EXISTS blobs (hash TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, verb TEXT NOT NULL,
  target TEXT NOT NULL, message TEXT NOT NULL, decided_on INTEGER, idempotency_key TEXT NOT NULL,
  ts REAL NOT NULL, UNIQUE (run_id, idempotency_key));
"""

T = TypeVar("T")


@dataclass(slots=True)
class _Append:
    run_id: str
    epoch: int
    rows: list[tuple[Any, ...]]
    blobs: list[tuple[str, bytes]]
    durable: bool
    done: Callable[[BaseException | None], None]
    error: BaseException | None = None


@dataclass(slots=True)
class _Call:
    work: Callable[[sqlite3.Connection], Any]
    done: Callable[[BaseException | None, Any], None]


@dataclass(slots=True)
class _Poison:
    """Epochs whose append failed: run -> (epoch, error)."""

    found: dict[str, tuple[int, BaseException]] = field(
        default_factory=dict[str, tuple[int, BaseException]]
    )

    def of(self, item: _Append) -> BaseException | None:
        epoch, error = self.found.get(item.run_id, (-1, None))
        return error if epoch == item.epoch else None


def parse_url(url: str | Path) -> Path:
    """``sqlite:///relative``, ``sqlite:////absolute`` or a plain path, to a path."""
    if isinstance(url, Path):
        return url
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///")).expanduser()
    if "://" in url:
        raise ConfigError(
            f"journal {url.split('://', 1)[0]}://… is not supported; supported: sqlite:///PATH",
            next="give sqlite:///path/to/journal.db, or the path itself",
        )
    return Path(url).expanduser()


class Journal:
    """One SQLite file. Reads run on the caller's thread, all writes on the one writer thread.

    ``on_boundary(moment, count)`` is called by the writer ``before`` and ``after`` each commit that
    appends events: the place where a test ends the process.
    """

    def __init__(
        self, url: str | Path, *, on_boundary: Callable[[str, int], None] | None = None
    ) -> None:
        self.path = parse_url(url)
        self._on_boundary = on_boundary
        self._boundaries = 0
        self._queue: queue.SimpleQueue[_Append | _Call | None] = queue.SimpleQueue()
        self._poison = _Poison()
        self._closed = False
        self._writer = self._open(create=True)
        self._reader = self._open(create=False)
        self._thread = threading.Thread(target=self._write, name="journal-writer", daemon=True)
        self._thread.start()

    # ---------------------------------------------------------------- opening

    def _open(self, *, create: bool) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=30
            )
        except (sqlite3.Error, OSError) as error:
            raise self._unreadable(error) from error
        try:
            self._prepare(connection, create)
        except sqlite3.Error as error:
            connection.close()
            raise self._translate(error, opening=True) from error
        except JournalError:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection, create: bool) -> None:
        mark = connection.execute("PRAGMA application_id").fetchone()[0]
        empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if mark != APPLICATION_ID and not empty:
            raise JournalUnreadable(
                f"{self.path} is another program's SQLite database (application id {mark})",
                next="name another file for the journal (--journal, MANYHANDS_HOME)",
            )
        if not empty:
            self._check_schema(connection)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        if create:
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.executescript(_SCHEMA)
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (str(SCHEMA),))

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT value FROM meta WHERE name='schema'").fetchone()
        found = int(row[0]) if row else SCHEMA
        if found > SCHEMA:
            raise JournalTooNew(
                f"{self.path} has schema {found}; this version reads up to {SCHEMA}",
                next="install a newer manyhands, or name another journal (--journal)",
            )

    def _unreadable(self, error: BaseException) -> JournalUnreadable:
        return JournalUnreadable(
            f"journal {self.path}: {error}",
            next="check that the folder exists, is writable and that the file is a journal; "
            "name another with --journal or MANYHANDS_HOME",
        )

    def _translate(self, error: sqlite3.Error, *, opening: bool = False) -> JournalError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR) and not opening:
            return JournalFull(
                f"journal {self.path}: {error}",
                next="free some space and run `manyhands resume`: everything acknowledged is kept",
            )
        return self._unreadable(error)

    # ---------------------------------------------------------------- writing

    def append(
        self,
        run_id: str,
        epoch: int,
        events: Iterable[Event],
        *,
        durable: bool,
        done: Callable[[BaseException | None], None],
    ) -> None:
        """Queue ``events``; ``done(error)`` is called on the writer thread after the commit."""
        rows: list[tuple[Any, ...]] = []
        blobs: list[tuple[str, bytes]] = []
        for e in events:
            value, ref = e.value, e.ref
            if value is not None and len(value) > INLINE_LIMIT:
                content = value.encode()
                ref, value = digest(content), None
                blobs.append((ref, content))
            data = json.dumps(e.data, ensure_ascii=False, separators=(",", ":"))
            rows.append((run_id, e.seq, epoch, e.ts, e.type, e.key, data, value, ref))
        self._queue.put(_Append(run_id, epoch, rows, blobs, durable, done))

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in one transaction on the writer thread."""
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
            loop.call_soon_threadsafe(finish, error, value)

        self._queue.put(_Call(work, done))
        return await future

    async def put_blob(self, content: bytes) -> str:
        """Store bytes once; returns ``sha256:<hex>``."""
        name = digest(content)
        await self.call(
            lambda db: db.execute("INSERT OR IGNORE INTO blobs VALUES (?,?)", (name, content))
        )
        return name

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, _Call):
                self._run_call(item)
                continue
            batch, following = self._gather(item)
            self._commit(batch)
            for done in batch:
                done.done(done.error)
            if isinstance(following, _Call):
                self._run_call(following)
            elif following is None:
                return

    def _gather(self, first: _Append) -> tuple[list[_Append], _Call | _Append | None]:
        """Everything that waits already, up to the first call: one commit for all."""
        batch = [first]
        while len(batch) < 512:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if not isinstance(item, _Append):
                return batch, item
            batch.append(item)
        return batch, first

    def _commit(self, batch: list[_Append]) -> None:
        db = self._writer
        durable = any(item.durable for item in batch)
        self._boundary("before")
        try:
            if durable:
                db.execute("PRAGMA synchronous=FULL")
            db.execute("BEGIN IMMEDIATE")
            for item in batch:
                self._insert(db, item)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback(db)
            failure = self._translate(error)
            for item in batch:
                item.error = item.error or failure
        finally:
            if durable:
                db.execute("PRAGMA synchronous=NORMAL")
        for item in batch:
            if item.error is not None:
                self._poison.found[item.run_id] = (item.epoch, item.error)
        self._boundary("after")

    def _insert(self, db: sqlite3.Connection, item: _Append) -> None:
        item.error = self._poison.of(item) or self._fence(db, item)
        if item.error is None:
            if item.blobs:
                db.executemany("INSERT OR IGNORE INTO blobs VALUES (?,?)", item.blobs)
            db.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?)", item.rows)

    def _fence(self, db: sqlite3.Connection, item: _Append) -> StaleEpoch | None:
        row = db.execute("SELECT epoch FROM runs WHERE run_id=?", (item.run_id,)).fetchone()
        if row and row[0] == item.epoch:
            return None
        return StaleEpoch(
            f"run {item.run_id}: epoch {item.epoch} is over, the journal is at "
            f"{row[0] if row else 'none'}",
            next="another process has resumed this run; leave it to that one",
        )

    def _run_call(self, item: _Call) -> None:
        db = self._writer
        try:
            db.execute("BEGIN IMMEDIATE")
            value = item.work(db)
            if isinstance(value, sqlite3.Cursor):
                value = None
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback(db)
            item.done(self._translate(error), None)
        except BaseException as error:
            self._rollback(db)
            item.done(error, None)
        else:
            item.done(None, value)

    @staticmethod
    def _rollback(db: sqlite3.Connection) -> None:
        if db.in_transaction:
            db.execute("ROLLBACK")

    def _boundary(self, moment: str) -> None:
        if self._on_boundary is not None:
            self._boundaries += moment == "before"
            self._on_boundary(moment, self._boundaries)

    # ---------------------------------------------------------------- reading

    def read(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        try:
            return self._reader.execute(sql, args).fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def events(self, run_id: str, after: int = 0, before: int | None = None) -> Iterator[Event]:
        """Events with after < seq < before, in order."""
        rows = self.read(
            "SELECT seq,epoch,ts,type,key,data,value,ref FROM events"
            " WHERE run_id=? AND seq>? AND seq<? ORDER BY seq",
            run_id,
            after,
            before if before is not None else 2**62,
        )
        for seq, epoch, ts, type_, key, data, value, ref in rows:
            yield Event(seq, epoch, ts, type_, key, json.loads(data), value, ref)

    def blob(self, name: str) -> bytes:
        rows = self.read("SELECT content FROM blobs WHERE hash=?", name)
        if not rows:
            raise JournalUnreadable(
                f"journal {self.path}: blob {name} is missing",
                next="the file is damaged; restore it, or import an export of the run",
            )
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
