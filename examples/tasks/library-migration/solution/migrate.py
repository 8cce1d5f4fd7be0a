import sqlite3
import sys
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

SCHEMA = (Path(__file__).parent / "schema_v2.sql").read_text()


class Unreadable(Exception):
    pass


def cents(text, where):
    if text is None or not text.strip():
        return None
    try:
        value = Decimal(text.strip().replace(",", ".")) * 100
    except InvalidOperation:
        raise Unreadable(f"{where}: {text!r} is no price") from None
    if not value.is_finite() or value != value.to_integral_value():
        raise Unreadable(f"{where}: {text!r} is no price")
    return int(value)


def date(text, where):
    try:
        return datetime.strptime(text, "%d.%m.%Y").date().isoformat()
    except ValueError:
        raise Unreadable(f"{where}: {text!r} is no date") from None


def migrate(db):
    books = db.execute("SELECT id, title, authors, price FROM books ORDER BY id").fetchall()
    loans = db.execute("SELECT id, book, reader, lent, returned FROM loans ORDER BY id").fetchall()
    db.execute("DROP TABLE books")
    db.execute("DROP TABLE loans")
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            db.execute(statement)
    authors = {}
    for id, title, text, price in books:
        where = f"books {id}"
        db.execute("INSERT INTO books VALUES (?, ?, ?)", (id, title, cents(price, where)))
        names = dict.fromkeys(name.strip() for name in text.split(";") if name.strip())
        for position, name in enumerate(names, 1):
            if name not in authors:
                authors[name] = len(authors) + 1
                db.execute("INSERT INTO authors VALUES (?, ?)", (authors[name], name))
            db.execute("INSERT INTO book_authors VALUES (?, ?, ?)", (id, authors[name], position))
    known = {book[0] for book in books}
    for id, book, reader, lent, returned in loans:
        where = f"loans {id}"
        if book not in known:
            db.execute(
                "INSERT INTO orphaned_loans VALUES (?, ?, ?, ?, ?)",
                (id, book, reader, lent, returned),
            )
            continue
        back = date(returned, where) if returned else None
        row = (id, book, reader, date(lent, where), back)
        db.execute("INSERT INTO loans VALUES (?, ?, ?, ?, ?)", row)
    db.execute("PRAGMA user_version = 2")


def main():
    db = sqlite3.connect(sys.argv[1], isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] < 2:
            migrate(db)
    except Unreadable as error:
        db.execute("ROLLBACK")
        print(error, file=sys.stderr)
        sys.exit(1)
    db.execute("COMMIT")


main()
