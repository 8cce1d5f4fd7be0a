"""Databases before and after."""

import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

V1 = Path("/tests/schema_v1.sql").read_text()
V2 = Path("/tests/schema_v2.sql").read_text()
FOLDER = Path(tempfile.mkdtemp())

BOOKS = [
    (3, "Notes", " Ada Lovelace ;Grace Hopper", "12,50"),
    (1, "Compilers", "Grace Hopper; ; grace hopper;Grace Hopper", "7"),
    (7, "Anonymous", "", None),
    (8, "Free", "Ada Lovelace", ""),
    (9, "Cheap", "O'Neil; Ada Lovelace", "0.1"),
    (12, "Exact", "Zoë", "19,99"),
    (13, "Large", "Zoë", " 1234567.89 "),
]
LOANS = [
    (5, 3, "r1", "31.12.2023", "02.01.2024"),
    (6, 99, "r2", "1.1.2024", "when it suits"),
    (9, 1, "r3", "29.02.2024", ""),
]


def database(name, books=BOOKS, loans=LOANS, version=1):
    path = FOLDER / name
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(V1)
        db.executemany("INSERT INTO books VALUES (?, ?, ?, ?)", books)
        db.executemany("INSERT INTO loans VALUES (?, ?, ?, ?, ?)", loans)
        db.execute(f"PRAGMA user_version = {version}")
    return path


def migrate(path):
    command = ["python3", "/app/migrate.py", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def rows(path, query):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def shape(path):
    """Tables, columns and indexes, however their text is spaced."""
    with closing(sqlite3.connect(path)) as db:
        named = db.execute("SELECT type, name FROM sqlite_master ORDER BY 1, 2").fetchall()
        tables = [name for kind, name in named if kind == "table"]
        columns = {t: db.execute(f"PRAGMA table_info({t})").fetchall() for t in tables}
        links = {t: db.execute(f"PRAGMA foreign_key_list({t})").fetchall() for t in tables}
        return named, columns, {t: sorted(k[2:5] for k in found) for t, found in links.items()}


def dump(path):
    with closing(sqlite3.connect(path)) as db:
        version = db.execute("PRAGMA user_version").fetchone()
        return [*db.iterdump(), version]


fresh = FOLDER / "fresh.db"
with closing(sqlite3.connect(fresh)) as db, db:
    db.executescript(V2)

path = database("a.db")
done = migrate(path)
assert done.returncode == 0, done.stderr
assert shape(path) == shape(fresh), shape(path)
assert rows(path, "PRAGMA user_version") == [(2,)]
assert rows(path, "PRAGMA integrity_check") == [("ok",)]
assert rows(path, "PRAGMA foreign_key_check") == []
assert rows(path, "SELECT * FROM authors ORDER BY id") == [
    (1, "Grace Hopper"),
    (2, "grace hopper"),
    (3, "Ada Lovelace"),
    (4, "O'Neil"),
    (5, "Zoë"),
]
assert rows(path, "SELECT * FROM books ORDER BY id") == [
    (1, "Compilers", 700),
    (3, "Notes", 1250),
    (7, "Anonymous", None),
    (8, "Free", None),
    (9, "Cheap", 10),
    (12, "Exact", 1999),
    (13, "Large", 123456789),
]
assert rows(path, "SELECT * FROM book_authors ORDER BY book_id, position") == [
    (1, 1, 1),
    (1, 2, 2),
    (3, 3, 1),
    (3, 1, 2),
    (8, 3, 1),
    (9, 4, 1),
    (9, 3, 2),
    (12, 5, 1),
    (13, 5, 1),
]
assert rows(path, "SELECT * FROM loans ORDER BY id") == [
    (5, 3, "r1", "2023-12-31", "2024-01-02"),
    (9, 1, "r3", "2024-02-29", None),
]
assert rows(path, "SELECT * FROM orphaned_loans") == [(6, 99, "r2", "1.1.2024", "when it suits")]
after = dump(path)
assert migrate(path).returncode == 0
assert dump(path) == after

empty = database("empty.db", [], [], version=0)
assert migrate(empty).returncode == 0
assert shape(empty) == shape(fresh)

bad = {
    "price": (BOOKS + [(20, "Bad", "X", "cheap")], LOANS, ("books", "20")),
    "thirds": (BOOKS + [(21, "Bad", "X", "1.005")], LOANS, ("books", "21")),
    "date": (BOOKS, LOANS + [(30, 3, "r", "30.02.2024", "")], ("loans", "30")),
    "back": (BOOKS, LOANS + [(31, 3, "r", "01.02.2024", "2024-02-02")], ("loans", "31")),
}
for name, (books, loans, told) in bad.items():
    path = database(f"{name}.db", books, loans)
    before = dump(path)
    done = migrate(path)
    assert done.returncode == 1, (name, done)
    assert all(word in done.stderr for word in told), (name, done.stderr)
    assert dump(path) == before, name
print("ok")
