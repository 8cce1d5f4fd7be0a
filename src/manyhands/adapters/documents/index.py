"""The index's file: its tables, how it is opened, what its errors mean.

Invariants: a source's row and its passages change in one transaction, so no reader sees a part of a
source; a file that is not ours, is newer or is damaged is refused and left as it is, as it may hold
texts that are nowhere else.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from manyhands.adapters.documents.chunks import Chunk
from manyhands.adapters.documents.folder import Stamp
from manyhands.adapters.documents.names import id_of
from manyhands.adapters.documents.query import beside
from manyhands.errors import LibraryError
from manyhands.ports import Passage

#: Marks the file as ours ("MnyL").
APPLICATION_ID = 0x4D6E794C
SCHEMA = 1
#: How long a write waits for another process's transaction.
BUSY_SECONDS = 60.0
#: Seconds between two tries.
_LOOK_AGAIN = 0.01

#: bm25's weights of a passage's headings, its text, and the parts of its names.
_WEIGHTS = "4.0, 1.0, 0.5"

# The full-text index has no copy of the texts of its own: it is kept up by triggers.
_TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE sources (
      id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, added INTEGER NOT NULL,
      size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, hash TEXT NOT NULL,
      passages INTEGER NOT NULL, reason TEXT NOT NULL)""",
    """CREATE TABLE passages (
      id INTEGER PRIMARY KEY, source INTEGER NOT NULL, number INTEGER NOT NULL,
      title TEXT NOT NULL, text TEXT NOT NULL, beside TEXT NOT NULL,
      UNIQUE (source, number))""",
    """CREATE VIRTUAL TABLE words USING fts5 (
      title, text, beside, content='passages', content_rowid='id',
      tokenize="porter unicode61 remove_diacritics 2")""",
    """CREATE TRIGGER passage_in AFTER INSERT ON passages BEGIN
      INSERT INTO words (rowid, title, text, beside)
      VALUES (new.id, new.title, new.text, new.beside); END""",
    """CREATE TRIGGER passage_out AFTER DELETE ON passages BEGIN
      INSERT INTO words (words, rowid, title, text, beside)
      VALUES ('delete', old.id, old.title, old.text, old.beside); END""",
)
_COLUMNS = "s.name, p.number, p.title, p.text, s.hash"


@dataclass(frozen=True, slots=True)
class Known:
    """A source of the folder as it was read last. ``reason``: why it could not be."""

    stamp: Stamp
    hash: str
    passages: int
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be stored. ``chunks`` None: the content is the same, only the stamp is new."""

    name: str
    stamp: Stamp
    hash: str
    chunks: Sequence[Chunk] | None = None
    reason: str = ""
    added: bool = False


def connect(path: Path) -> sqlite3.Connection:
    """Raises `LibraryError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
        )
    except (sqlite3.Error, OSError) as error:
        raise translate(path, error) from error
    try:
        _prepare(db, path)
    except sqlite3.Error as error:
        db.close()
        raise translate(path, error) from error
    except LibraryError:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    if not _ours(db, path):
        _keep_log_ahead(db)
        with transaction(db):
            if not _ours(db, path):  # nobody was quicker
                db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                for statement in _TABLES:
                    db.execute(statement)
                db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
    db.execute("PRAGMA synchronous=NORMAL")


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
    """False: the file is empty."""
    if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return False
    mark = db.execute("PRAGMA application_id").fetchone()[0]  # after: both come in one commit
    if mark != APPLICATION_ID:
        raise LibraryError(
            f"index {path} is another program's SQLite database (application id {mark})",
            next="name another file for the index",
        )
    row = db.execute("SELECT value FROM meta WHERE name='schema'").fetchone()
    said = str(row[0]) if row else "none"
    if said != str(SCHEMA):
        raise LibraryError(
            f"index {path} has schema {said}; this version reads {SCHEMA}",
            next="install the version that wrote it, or move the file away: the folder is indexed "
            "again, and texts that were added (pages, tools' results) are gone",
        )
    return True


@contextmanager
def transaction(db: sqlite3.Connection) -> Generator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def translate(path: Path, error: BaseException) -> LibraryError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        failure = LibraryError(
            f"index {path}: another program has kept it locked for {BUSY_SECONDS:g} s",
            next="end that program, then try again: nothing is lost",
        )
        failure.retryable = True
        return failure
    if code == sqlite3.SQLITE_FULL:
        return LibraryError(f"index {path}: {error}", next="free some space on its disk")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LibraryError(
            f"index {path} is damaged, or no index: {error}",
            next="move the file away (and those with -wal, -shm): the folder is indexed again, and "
            "texts that were added (pages, tools' results) are gone",
        )
    return LibraryError(
        f"index {path}: {error}",
        next="check that its folder exists and is writable, and that there is room on the disk",
    )


# ------------------------------------------------------------------ reading


def known(db: sqlite3.Connection) -> dict[str, Known]:
    rows = db.execute(
        "SELECT name, size, mtime_ns, hash, passages, reason FROM sources WHERE NOT added"
    )
    return {
        name: Known(Stamp(size, mtime_ns), hash_, passages, reason)
        for name, size, mtime_ns, hash_, passages, reason in rows
    }


def forget_if_read_otherwise(db: sqlite3.Connection, reader: int, limits: str) -> None:
    """Files are read again where they were read by another version, or, with other limits, not."""
    now = {"reader": str(reader), "limits": limits}
    was = dict(db.execute("SELECT name, value FROM meta WHERE name IN ('reader', 'limits')"))
    if was == now:
        return
    which = "reason<>''" if was.get("reader") == now["reader"] else "TRUE"
    with transaction(db):
        db.execute(f"UPDATE sources SET mtime_ns=-1, hash='' WHERE NOT added AND {which}")
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", now.items())


def is_added(db: sqlite3.Connection, name: str) -> bool | None:
    """Whether the source is one that was added; None: there is none."""
    row = db.execute("SELECT added FROM sources WHERE name=?", (name,)).fetchone()
    return None if row is None else bool(row[0])


def search(db: sqlite3.Connection, expression: str, limit: int) -> list[Passage]:
    """The best first; equal ones by source and number, whatever was indexed first."""
    rows = db.execute(
        f"SELECT {_COLUMNS}, -bm25(words, {_WEIGHTS}) AS score FROM words"
        " JOIN passages p ON p.id=words.rowid JOIN sources s ON s.id=p.source"
        " WHERE words MATCH ? ORDER BY score DESC, s.name, p.number LIMIT ?",
        (expression, limit),
    )
    return [_passage(row[:5], row[5]) for row in rows]


def read(db: sqlite3.Connection, name: str, number: int | None = None) -> list[Passage]:
    """All passages of a source, or the one with that number."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM passages p JOIN sources s ON s.id=p.source"
        " WHERE s.name=?1 AND (?2 IS NULL OR p.number=?2) ORDER BY p.number",
        (name, number),
    )
    return [_passage(row) for row in rows]


def _passage(row: tuple[str, int, str, str, str], score: float = 0.0) -> Passage:
    name, number, title, text, hash_ = row
    return Passage(id_of(name, number), name, title, text, hash_, score)


# ------------------------------------------------------------------ writing, in a transaction


def store(db: sqlite3.Connection, source: Source) -> bool:
    """Whether the content is new: another process may have stored it meanwhile."""
    row = db.execute(
        "SELECT id, hash, reason, added FROM sources WHERE name=?", (source.name,)
    ).fetchone()
    stamp = (source.stamp.size, source.stamp.mtime_ns)
    if row and bool(row[3]) != source.added:
        return False  # a text was added under this name: it keeps it
    if row and (source.chunks is None or tuple(row[1:3]) == (source.hash, source.reason)):
        db.execute("UPDATE sources SET size=?, mtime_ns=? WHERE id=?", (*stamp, row[0]))
        return False
    if row:
        _drop(db, row[0])
    chunks = source.chunks or ()
    number = db.execute(
        "INSERT INTO sources (name, added, size, mtime_ns, hash, passages, reason)"
        " VALUES (?,?,?,?,?,?,?)",
        (source.name, source.added, *stamp, source.hash, len(chunks), source.reason),
    ).lastrowid
    db.executemany(
        "INSERT INTO passages (source, number, title, text, beside) VALUES (?,?,?,?,?)",
        (
            (number, at, chunk.title, chunk.text, beside(chunk.title + "\n" + chunk.text))
            for at, chunk in enumerate(chunks, 1)
        ),
    )
    return True


def remove(db: sqlite3.Connection, name: str) -> bool:
    """False: another process has done so."""
    row = db.execute("SELECT id FROM sources WHERE name=? AND NOT added", (name,)).fetchone()
    if row:
        _drop(db, row[0])
    return row is not None


def _drop(db: sqlite3.Connection, source: int) -> None:
    db.execute("DELETE FROM passages WHERE source=?", (source,))
    db.execute("DELETE FROM sources WHERE id=?", (source,))
