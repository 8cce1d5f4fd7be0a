"""The journal's file: how it is opened, what its tables are, what its errors mean.

Invariant: a file that is not ours, is of a newer schema or is damaged is refused and left as it is;
a row whose checksum does not fit is never read as a result.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
import zlib
from pathlib import Path
from typing import Any

from manyhands.errors import (
    ConfigError,
    JournalBusy,
    JournalError,
    JournalFull,
    JournalTooNew,
    JournalUnreadable,
)
from manyhands.runtime.codec import decode, digest, encode
from manyhands.runtime.events import INLINE_LIMIT, SCHEMA, Event

#: Marks the file as ours ("MnyH"), so that another program's database is not written to.
APPLICATION_ID = 0x4D6E7948

#: How long a write waits for another process's transaction.
BUSY_SECONDS = 30.0
#: Seconds between two tries.
_LOOK_AGAIN = 0.01

#: Pages that the write-ahead log may hold (16 MB) before they are moved to the file.
_CHECKPOINT_PAGES = 4000

# Rows of 1 KB and more: a table without rowid would spill each of them into a page of its own.
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE runs (
  run_id TEXT PRIMARY KEY, workflow TEXT NOT NULL, version INTEGER NOT NULL,
  created_at REAL NOT NULL, epoch INTEGER NOT NULL, owner TEXT);
CREATE TABLE events (
  run_id TEXT NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, ts REAL NOT NULL,
  type TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL, value TEXT, ref TEXT,
  crc INTEGER NOT NULL, PRIMARY KEY (run_id, seq));
CREATE INDEX lifecycle ON events (run_id, seq) WHERE type GLOB 'run.*';
CREATE TABLE blobs (hash TEXT PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE inbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, verb TEXT NOT NULL,
  target TEXT NOT NULL, message TEXT NOT NULL, decided_on INTEGER, idempotency_key TEXT NOT NULL,
  ts REAL NOT NULL, UNIQUE (run_id, idempotency_key));
"""

INSERT_EVENT = "INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?)"
INSERT_BLOB = "INSERT OR IGNORE INTO blobs VALUES (?,?)"
EVENT_COLUMNS = "seq,epoch,ts,type,key,data,value,ref,crc"
INSERT_RUN = "INSERT INTO runs VALUES (?,?,?,?,?,NULL)"

_HEADER_BYTES = 100

Row = tuple[Any, ...]


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


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the journal at ``path``, which is made if it is not there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_size(path)
        db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
        )
    except (sqlite3.Error, OSError) as error:
        raise unreadable(path, error) from error
    try:
        _prepare(db, path)
    except sqlite3.Error as error:
        db.close()
        raise translate(path, error) from error
    except JournalError:
        db.close()
        raise
    return db


def _check_size(path: Path) -> None:
    """SQLite takes a file of a few bytes for an empty database; it may be somebody's.

    Only its size is looked at: to open and close the file would drop every lock that this process
    holds on it (POSIX), and another process would then remove the log of a journal in use.
    """
    if path.is_file() and 0 < path.stat().st_size < _HEADER_BYTES:
        raise unreadable(path, "file is not a database")


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    if not _ours(db, path):
        _keep_log_ahead(db)
        db.execute("BEGIN IMMEDIATE")
        if not _ours(db, path):  # nobody was quicker
            _create(db)
        db.execute("COMMIT")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")


def _keep_log_ahead(db: sqlite3.Connection) -> None:
    """WAL. Where another process does the same just now, SQLite says at once that the file is
    locked, whatever the connection's patience."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > until:
                raise
            time.sleep(_LOOK_AGAIN)


def _ours(db: sqlite3.Connection, path: Path) -> bool:
    """False: the file is empty. Raises for anything that is not a journal we can read."""
    if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return False
    mark = db.execute("PRAGMA application_id").fetchone()[0]  # after: both come in one commit
    if mark != APPLICATION_ID:
        raise JournalUnreadable(
            f"{path} is another program's SQLite database (application id {mark})",
            next="name another file for the journal (--journal, MANYHANDS_HOME)",
        )
    row = db.execute("SELECT value FROM meta WHERE name='schema'").fetchone()
    if row is None or not str(row[0]).isdigit():
        raise unreadable(path, f"its schema is {row[0] if row else 'not given'}, not a number")
    if int(row[0]) > SCHEMA:
        raise JournalTooNew(
            f"{path} has schema {row[0]}; this version reads up to {SCHEMA}",
            next="install a newer manyhands, or name another journal (--journal)",
        )
    return True


def _create(db: sqlite3.Connection) -> None:
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    for statement in _TABLES.split(";"):
        db.execute(statement)
    db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))


# -------------------------------------------------------------------- errors


def unreadable(path: Path, why: object) -> JournalUnreadable:
    return JournalUnreadable(
        f"journal {path}: {why}",
        next="check that the folder exists, is writable and that the file is a journal; "
        "name another with --journal or MANYHANDS_HOME",
    )


def damaged(path: Path, why: str) -> JournalUnreadable:
    return JournalUnreadable(
        f"journal {path} is damaged: {why}",
        next="restore the file from a copy, or import an export of the run into a new journal",
    )


def translate(path: Path, error: BaseException) -> JournalError:
    """What an error of SQLite means for the one who runs the program."""
    if isinstance(error, JournalError):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _disk_full(path)):
        return JournalFull(
            f"journal {path}: {error}",
            next="free some space and run `manyhands resume`: everything acknowledged is kept",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalBusy(
            f"journal {path}: another program has kept it locked for {BUSY_SECONDS:g} s",
            next="end that program (a copy, a backup, a shell on the file), then `manyhands "
            "resume`: everything acknowledged is kept",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR):
        return damaged(path, str(error))
    return unreadable(path, error)


def _disk_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < 1_000_000
    except OSError:
        return False


# -------------------------------------------------------------------- rows


def row_of(run_id: str, event: Event) -> tuple[Row, tuple[str, bytes] | None]:
    """An event as a row, and the blob that holds its value where that is large.

    Raises `NotSerializable`.
    """
    value, ref, blob = event.value, event.ref, None
    if value is not None and len(value) > INLINE_LIMIT:
        content = value.encode()
        value, ref = None, digest(content)
        blob = (ref, content)
    data = encode(event.data) if event.data else "{}"
    row = (event.seq, event.epoch, float(event.ts), str(event.type), event.key, data, value, ref)
    return (run_id, *row, checksum(row)), blob


def checksum(row: Row) -> int:
    """Over all columns but the run's id, which a fork changes."""
    seq, epoch, ts, type_, key, data, value, ref = row
    text = f"{seq}\x1f{epoch}\x1f{ts}\x1f{type_}\x1f{key}\x1f{data}\x1f{value}\x1f{ref}"
    return zlib.crc32(text.encode())


def checked(path: Path, row: Row) -> Row:
    """A row of `EVENT_COLUMNS` without its checksum. Raises `JournalUnreadable` if it is wrong."""
    fields = row[:-1]
    if checksum(fields) != row[-1]:
        raise damaged(path, f"event {row[0]} does not fit its checksum")
    return fields


def event_of(path: Path, row: Row) -> Event:
    """The event of a row of `EVENT_COLUMNS`. Raises `JournalUnreadable` if it is damaged."""
    *fields, crc = row
    try:
        if checksum(tuple(fields)) == crc:
            seq, epoch, ts, type_, key, data, value, ref = fields
            return Event(seq, epoch, ts, type_, key, decode(data), value, ref)
    except (ValueError, TypeError):
        pass
    raise damaged(path, f"event {row[0]} does not fit its checksum")
