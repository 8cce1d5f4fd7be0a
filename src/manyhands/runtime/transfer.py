"""A run as one JSONL file, and back to the identical journal.

Lines: a header (``manyhands``, ``schema``, the run), every event, every blob that one refers to,
and an end with the counts and the SHA-256 of all lines before it.

Invariant: a file is taken whole or not at all; what was truncated, edited or does not fold to a run
is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from manyhands.errors import ConfigError, ImportRefused, ManyhandsError, RunNotFound
from manyhands.runtime.codec import decode, digest
from manyhands.runtime.database import INSERT_BLOB, INSERT_EVENT, INSERT_RUN, Row, checksum
from manyhands.runtime.events import SCHEMA, Event
from manyhands.runtime.fold import RunState
from manyhands.runtime.journal import Journal

_REFERENCE = re.compile(r"sha256:[0-9a-f]{64}")
_EVENT = ("seq", "epoch", "ts", "type", "key", "data", "value", "ref")


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Header(_Line):
    model_config = ConfigDict(extra="ignore", strict=True)  # a newer one is refused by its number

    manyhands: Literal["export"]
    schema_: int = Field(alias="schema")
    run_id: str
    workflow: str
    version: int
    created_at: float
    epoch: int


class _Event(_Line):
    seq: int
    epoch: int
    ts: float
    type: str
    key: str
    data: str
    value: str | None
    ref: str | None

    def row(self) -> Row:
        return tuple(getattr(self, name) for name in _EVENT)


class _EventLine(_Line):
    event: _Event


class _BlobLine(_Line):
    blob: str
    base64: str


class _Counts(_Line):
    events: int
    blobs: int


class _End(_Line):
    end: _Counts
    sha256: str


_LINE: TypeAdapter[_EventLine | _BlobLine] = TypeAdapter(
    Annotated[_EventLine | _BlobLine, Field(union_mode="left_to_right")]
)

# -------------------------------------------------------------------- export


def export_lines(journal: Journal, run_id: str) -> Iterator[str]:
    """The export, line by line (without line ends). Raises `RunNotFound`, `JournalUnreadable`."""
    runs = journal.read("SELECT workflow,version,created_at,epoch FROM runs WHERE run_id=?", run_id)
    if not runs:
        raise RunNotFound(
            f"run {run_id!r} is not in {journal.path}", next="manyhands runs lists what is there"
        )
    about = dict(zip(("workflow", "version", "created_at", "epoch"), runs[0], strict=True))
    counts = {"events": 0, "blobs": 0}
    sha = hashlib.sha256()

    def line(content: dict[str, Any]) -> str:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        sha.update(text.encode() + b"\n")
        return text

    yield line({"manyhands": "export", "schema": SCHEMA, "run_id": run_id, **about})
    wanted: dict[str, bool] = {}
    for row in _rows(journal, run_id):
        counts["events"] += 1
        _note(wanted, row)
        yield line({"event": dict(zip(_EVENT, row, strict=True))})
    for name, content in _blobs(journal, wanted):
        counts["blobs"] += 1
        yield line({"blob": name, "base64": base64.b64encode(content).decode()})
    yield json.dumps({"end": counts, "sha256": sha.hexdigest()})


def _rows(journal: Journal, run_id: str) -> Iterator[Row]:
    columns = ",".join(_EVENT)
    list(journal.events(run_id))  # raises where one is missing or damaged
    yield from journal.read(f"SELECT {columns} FROM events WHERE run_id=? ORDER BY seq", run_id)


def referenced(journal: Journal, run_id: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every blob that a run's events refer to."""
    wanted: dict[str, bool] = {}
    for row in _rows(journal, run_id):
        _note(wanted, row)
    yield from _blobs(journal, wanted)


def _note(wanted: dict[str, bool], row: Row) -> None:
    for name in _REFERENCE.findall(f"{row[5]} {row[6] or ''}"):
        wanted.setdefault(name, False)
    if row[7] is not None:
        wanted[row[7]] = True


def _blobs(journal: Journal, wanted: dict[str, bool]) -> Iterator[tuple[str, bytes]]:
    """The blobs named, and those named inside them (a stored value may refer to further ones).

    A value's own blob (True) must be there; what only looks like a name may be some other hash.
    """
    names = list(wanted)
    seen = set(names)
    for name in names:  # grows while it is read
        there = journal.read("SELECT 1 FROM blobs WHERE hash=?", name)
        if not there and not wanted.get(name):
            continue
        content = journal.blob(name)
        inner = [n for n in _REFERENCE.findall(content.decode(errors="ignore")) if n not in seen]
        seen.update(inner)
        names += dict.fromkeys(inner)
        yield name, content


@contextmanager
def whole_file(path: Path) -> Generator[IO[str]]:
    """UTF-8 text for ``path``, which is there, whole, once the block ends well, and is left as it
    was otherwise. Raises `ConfigError` where it cannot be written."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as out:
            yield out
        partial.replace(path)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error}", next="name another file, or free some space"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def export_run(journal: Journal, run_id: str, path: Path) -> int:
    """Write the export to ``path`` (whole or not at all); returns the number of lines."""
    count = 0
    with whole_file(path) as out:
        for text in export_lines(journal, run_id):
            out.write(text + "\n")
            count += 1
    return count


# -------------------------------------------------------------------- import


async def import_run(journal: Journal, path: Path) -> str:
    """Read an export into the journal; returns the run's id.

    Raises `ImportRefused`, with nothing written, if the file is not whole or the run is there.
    """
    header, events, blobs = _parse(path)
    run_id = header.run_id

    def write(db: sqlite3.Connection) -> None:
        if db.execute("SELECT 1 FROM runs WHERE run_id=?", (run_id,)).fetchone():
            raise ImportRefused(
                f"run {run_id!r} is in {journal.path} already",
                next="name another journal with --journal",
            )
        about = (run_id, header.workflow, header.version, header.created_at, header.epoch)
        db.execute(INSERT_RUN, about)
        db.executemany(INSERT_EVENT, [(run_id, *e, checksum(e)) for e in events])
        db.executemany(INSERT_BLOB, blobs)

    await journal.call(write)
    return run_id


def _parse(path: Path) -> tuple[_Header, list[Row], list[tuple[str, bytes]]]:
    """What the file says. Raises `ImportRefused` with the reason."""
    try:
        lines = path.read_bytes().decode().split("\n")
        header = _header(path, lines[0])
        end = _whole(lines)
        records = [_LINE.validate_json(text) for text in lines[1:-2]]
        events = [r.event.row() for r in records if isinstance(r, _EventLine)]
        blobs = [(r.blob, _content(r)) for r in records if isinstance(r, _BlobLine)]
        if (len(events), len(blobs)) != (end.end.events, end.end.blobs):
            raise ValueError("its counts are wrong")
        _check_fold(header, events, {name for name, _ in blobs})
    except (OSError, ValueError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise ImportRefused(
            f"{path} is not a whole export: {detail}",
            next="give a file that `manyhands export` wrote, as it wrote it; or export again",
        ) from error
    return header, events, blobs


def _header(path: Path, text: str) -> _Header:
    header = _Header.model_validate_json(text)
    if header.schema_ > SCHEMA:
        raise ImportRefused(
            f"{path} has schema {header.schema_}; this version reads up to {SCHEMA}",
            next="install a newer manyhands",
        )
    return header


def _whole(lines: list[str]) -> _End:
    if len(lines) < 3 or lines[-1]:
        raise ValueError(f"{len(lines)} lines and no line end at the end")
    end = _End.model_validate_json(lines[-2])
    if hashlib.sha256(("\n".join(lines[:-2]) + "\n").encode()).hexdigest() != end.sha256:
        raise ValueError("its lines do not fit the SHA-256 at its end")
    return end


def _content(line: _BlobLine) -> bytes:
    content = base64.b64decode(line.base64, validate=True)
    if digest(content) != line.blob:
        raise ValueError(f"blob {line.blob} does not fit its name")
    return content


def _check_fold(header: _Header, rows: list[Row], blobs: set[str]) -> None:
    """Raises `ValueError` unless the events are those of one run, from its first on."""
    state = RunState(header.run_id)
    for n, (seq, epoch, ts, type_, key, data, value, ref) in enumerate(rows, 1):
        if seq != n or not state.epoch <= epoch <= header.epoch:
            raise ValueError(f"event {seq} of epoch {epoch} stands in the place of event {n}")
        if ref is not None and ref not in blobs:
            raise ValueError(f"event {n} refers to a blob that is not there")
        try:
            state.apply(Event(seq, epoch, ts, type_, key, decode(data), value, ref))
        except (KeyError, TypeError, AttributeError, ManyhandsError) as error:
            raise ValueError(f"event {n} does not follow from those before: {error!r}") from error
    if state.workflow != header.workflow or state.version != header.version:
        raise ValueError("its header names another workflow than its first event")
