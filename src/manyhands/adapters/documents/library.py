"""`DocumentLibrary`: a folder's texts, and those that were added, to search, read and cite.

Invariants: the index follows the folder and nothing else takes an added text out of it; the event
loop never waits for a file, a parser or the database.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from manyhands.adapters.documents import index
from manyhands.adapters.documents.chunks import cut
from manyhands.adapters.documents.folder import Found, Stamp, digest, read_file, walk
from manyhands.adapters.documents.index import Known, Source
from manyhands.adapters.documents.names import name_of_added, parse_id
from manyhands.adapters.documents.query import expression
from manyhands.adapters.documents.reading import READER, Limits, read_document, text_document
from manyhands.adapters.documents.text import Form, Unreadable, clean, one_line
from manyhands.errors import LibraryError
from manyhands.ports import Indexed, Passage

T = TypeVar("T")

#: Passages that one transaction stores. More are quicker, and another process waits for them.
_BATCH = 1_000
#: Of one search.
_MOST_FOUND = 200
_LONGEST_NAME = 2_000


class DocumentLibrary:
    """The documents below ``folder`` (None: only texts that are added), indexed in ``path``.

    Several libraries, also of several processes, may share an index. It is opened when it is first
    needed, and again after `close`.
    """

    def __init__(self, folder: Path | None, path: Path, *, limits: Limits | None = None) -> None:
        self._folder = folder
        self._path = path
        self._limits = limits or Limits()
        # One each, so that who searches does not wait for a refresh.
        self._reader = _Connection(path)
        self._writer = _Connection(path)

    def __repr__(self) -> str:
        return f"DocumentLibrary({str(self._folder)!r}, {str(self._path)!r})"

    async def refresh(self, on_file: Callable[[int, int], None] | None = None) -> Indexed:
        """Raises `LibraryError`, and `ConfigError` where a package is missing.

        A refresh that is cancelled keeps what it has stored; the next one goes on from there.
        """
        if self._folder is None:
            return Indexed(0, 0, 0, 0)
        before = await self._writer.run(self._known)
        files = await asyncio.to_thread(walk, self._folder, self._limits)
        read = _Batch()
        changed = 0
        for number, found in enumerate(files, 1):
            if not _unchanged(before.get(found.name), found):
                known = before.get(found.name)
                read.take(await asyncio.to_thread(self._read, self._folder, found, known))
            if read.full:
                changed += await self._writer.run(read.store)
            if on_file:
                on_file(number, len(files))
        changed += await self._writer.run(read.store)
        gone = before.keys() - {found.name for found in files}
        removed = await self._writer.run(lambda db: _remove(db, gone))
        return await self._writer.run(lambda db: _counted(db, files, changed, removed))

    async def search(self, query: str, limit: int = 5) -> list[Passage]:
        asked = expression(query)
        most = min(limit, _MOST_FOUND)
        if not asked or most < 1:
            return []
        return await self._reader.run(lambda db: index.search(db, asked, most))

    async def read(self, id: str) -> Passage | None:
        """Brackets, quotes and whitespace around the id are not part of it."""
        found = parse_id(id)
        if found is None:
            return None
        passages = await self._reader.run(lambda db: index.read(db, _bound(found[0]), found[1]))
        return passages[0] if passages else None

    async def source(self, name: str) -> list[Passage]:
        return await self._reader.run(lambda db: index.read(db, _bound(name.strip())))

    async def add(self, source: str, title: str, text: str) -> list[Passage]:
        """``text``: headings as Markdown. Raises `LibraryError` for a name that a file of the
        folder has, and for a text that is over the limit."""
        name = name_of_added(source)
        if not name or len(name) > _LONGEST_NAME:
            raise LibraryError(
                f"a source's name has {len(name)} characters; it needs 1 to {_LONGEST_NAME}",
                next="name it by its URL, or by the call that gave it",
            )
        if len(text) > self._limits.text:
            raise LibraryError(
                f"text of {name}: {len(text):,} characters; the limit is {self._limits.text:,}",
                next="add the parts of it that matter, each under a name of its own",
            )
        made = await asyncio.to_thread(_added, name, title, text)

        def put(db: sqlite3.Connection) -> None:
            with index.transaction(db):
                if index.is_added(db, name) is False:
                    raise LibraryError(
                        f"source {name!r} is a file of the folder", next="give another name"
                    )
                index.store(db, made)

        await self._writer.run(put)
        return await self.source(name)

    async def close(self) -> None:
        await self._reader.close()
        await self._writer.close()

    def _known(self, db: sqlite3.Connection) -> dict[str, Known]:
        index.forget_if_read_otherwise(db, READER, repr(self._limits))
        return index.known(db)

    def _read(self, folder: Path, found: Found, known: Known | None) -> Source:
        """In a thread. A file that cannot be read is a source with a reason and no passages."""
        if found.reason:
            return Source(found.name, found.stamp, "", (), found.reason)
        stamp, hash_ = found.stamp, ""
        try:
            data, stamp = read_file(folder, found, self._limits)
            hash_ = digest(data)
            if known and known.hash == hash_:
                return Source(found.name, stamp, hash_)
            document = read_document(found.path, data, self._limits)
        except Unreadable as error:
            return Source(found.name, stamp, hash_, (), str(error))
        return Source(found.name, stamp, hash_, cut(document, found.path.name))


class _Connection:
    """One connection, opened when it is needed; one thread at a time uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    async def run(self, act: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._run, act)

    def _run(self, act: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            if self._db is None:
                self._db = index.connect(self._path)
            try:
                return act(self._db)
            except sqlite3.Error as error:
                raise index.translate(self._path, error) from error

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None


@dataclass(slots=True)
class _Batch:
    """What was read and is to be stored."""

    sources: list[Source] = field(default_factory=list[Source])
    passages: int = 0

    def take(self, source: Source) -> None:
        self.sources.append(source)
        self.passages += 1 + len(source.chunks or ())

    @property
    def full(self) -> bool:
        return self.passages >= _BATCH

    def store(self, db: sqlite3.Connection) -> int:
        """How many are new and could be read."""
        if not self.sources:
            return 0
        with index.transaction(db):
            # In a list: all of them are stored, and only then counted.
            new = [index.store(db, each) and not each.reason for each in self.sources]
        self.sources.clear()
        self.passages = 0
        return sum(new)


def _unchanged(known: Known | None, found: Found) -> bool:
    if known is None or found.reason:
        return False
    return known.stamp == found.stamp and known.stamp.mtime_ns != -1


def _remove(db: sqlite3.Connection, names: Collection[str]) -> int:
    if not names:
        return 0
    with index.transaction(db):
        return sum([index.remove(db, name) for name in sorted(names)])


def _counted(db: sqlite3.Connection, files: list[Found], changed: int, removed: int) -> Indexed:
    now = index.known(db)
    unreadable: list[tuple[str, str]] = []
    for found in files:
        if found.name not in now:
            unreadable.append((found.name, "a text was added under its name; rename the file"))
        elif now[found.name].reason:
            unreadable.append((found.name, now[found.name].reason))
    readable = [each for each in now.values() if not each.reason]
    passages = sum(each.passages for each in readable)
    return Indexed(len(readable), passages, changed, removed, tuple(unreadable))


def _added(name: str, title: str, text: str) -> Source:
    cleaned = clean(text)
    document = text_document(cleaned, Form.MARKDOWN, one_line(title))
    hash_ = digest(text.encode("utf-8", "surrogatepass"))
    return Source(name, Stamp(len(text), -1), hash_, cut(document, name), added=True)


def _bound(name: str) -> str:
    """SQLite takes no half of a surrogate pair."""
    return name.encode("utf-8", "replace").decode()
