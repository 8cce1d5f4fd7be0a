"""A run as one JSONL file, and back to the identical journal.

Lines: a header (``manyhands``, ``schema``, the run), every event, every blob that one refers to,
and an end with the counts and the SHA-256 of all lines before it, so a truncated or edited file
is refused whole.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from manyhands.errors import ImportRefused, RunNotFound
from manyhands.runtime.codec import digest
from manyhands.runtime.events import SCHEMA
from manyhands.runtime.journal import Journal

_REFERENCE = re.compile(r"sha256:[0-9a-f]{64}")
_EVENT = ("seq", "epoch", "ts", "type", "key", "data", "value", "ref")


def export_lines(journal: Journal, run_id: str) -> Iterator[str]:
    """The export, line by line (without line ends)."""
    runs = journal.read("SELECT workflow,version,created_at,epoch FROM runs WHERE run_id=?", run_id)
    if not runs:
        raise RunNotFound(
            f"run {run_id!r} is not in {journal.path}", next="manyhands runs lists what is there"
        )
    workflow, version, created_at, epoch = runs[0]
    counts = {"events": 0, "blobs": 0}
    sha = hashlib.sha256()

    def line(content: dict[str, Any]) -> str:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        sha.update(text.encode() + b"\n")
        return text

    yield line(
        {
            "manyhands": "export",
            "schema": SCHEMA,
            "run_id": run_id,
            "workflow": workflow,
            "version": version,
            "created_at": created_at,
            "epoch": epoch,
        }
    )
    wanted: list[str] = []
    for row in journal.read(
        "SELECT seq,epoch,ts,type,key,data,value,ref FROM events WHERE run_id=? ORDER BY seq",
        run_id,
    ):
        counts["events"] += 1
        wanted += _REFERENCE.findall(f"{row[5]} {row[6] or ''} {row[7] or ''}")
        yield line({"event": dict(zip(_EVENT, row, strict=True))})
    for name, content in _blobs(journal, wanted):
        counts["blobs"] += 1
        yield line({"blob": name, "base64": base64.b64encode(content).decode()})
    yield json.dumps({"end": counts, "sha256": sha.hexdigest()})


def _blobs(journal: Journal, wanted: list[str]) -> Iterator[tuple[str, bytes]]:
    """The blobs named, and those named inside them (a stored value may refer to further ones)."""
    seen: set[str] = set()
    while wanted:
        name = wanted.pop(0)
        if name in seen:
            continue
        seen.add(name)
        rows = journal.read("SELECT content FROM blobs WHERE hash=?", name)
        if rows:
            content: bytes = rows[0][0]
            wanted += _REFERENCE.findall(content.decode(errors="ignore"))
            yield name, content


def export_run(journal: Journal, run_id: str, path: Path) -> int:
    """Write the export to ``path`` (whole or not at all); returns the number of lines."""
    partial = path.with_name(path.name + ".partial")
    count = 0
    with partial.open("w", encoding="utf-8") as out:
        for text in export_lines(journal, run_id):
            out.write(text + "\n")
            count += 1
    partial.replace(path)
    return count


async def import_run(journal: Journal, path: Path) -> str:
    """Read an export into the journal; returns the run's id.

    Raises `ImportRefused`, with nothing written, if the file is not whole or the run is there.
    """
    header, events, blobs = _parse(path)
    run_id: str = header["run_id"]

    def write(db: sqlite3.Connection) -> None:
        if db.execute("SELECT 1 FROM runs WHERE run_id=?", (run_id,)).fetchone():
            raise ImportRefused(
                f"run {run_id!r} is in {journal.path} already",
                next="name another journal with --journal",
            )
        db.execute(
            "INSERT INTO runs VALUES (?,?,?,?,?,NULL)",
            tuple(header[k] for k in ("run_id", "workflow", "version", "created_at", "epoch")),
        )
        db.executemany(
            "INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?)",
            [(run_id, *(e[k] for k in _EVENT)) for e in events],
        )
        db.executemany("INSERT OR IGNORE INTO blobs VALUES (?,?)", blobs)

    await journal.call(write)
    return run_id


def _parse(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], list[tuple[str, bytes]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise ImportRefused(
            f"{path}: {error}", next="give a file that `manyhands export` wrote"
        ) from error
    if not records or records[0].get("manyhands") != "export":
        raise ImportRefused(
            f"{path} does not begin as an export", next="give a file that `manyhands export` wrote"
        )
    header, end = records[0], records[-1]
    if header["schema"] > SCHEMA:
        raise ImportRefused(
            f"{path} has schema {header['schema']}; this version reads up to {SCHEMA}",
            next="install a newer manyhands",
        )
    sha = hashlib.sha256(("\n".join(lines[:-1]) + "\n").encode()).hexdigest()
    if "end" not in end or end["sha256"] != sha:
        raise ImportRefused(
            f"{path} is not whole: {len(lines)} lines, no matching end",
            next="export the run again",
        )
    events = [r["event"] for r in records if "event" in r]
    return header, events, list(_decode_blobs(path, records))


def _decode_blobs(path: Path, records: Iterable[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    for record in records:
        if "blob" in record:
            content = base64.b64decode(record["base64"])
            if digest(content) != record["blob"]:
                raise ImportRefused(
                    f"{path}: blob {record['blob']} is damaged", next="export again"
                )
            yield record["blob"], content
