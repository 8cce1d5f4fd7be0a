"""A folder indexed and searched: by `DocumentLibrary`, and by a scan of all texts in Python."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from manyhands.adapters.documents.chunks import TARGET
from manyhands.adapters.documents.library import DocumentLibrary

_FOUND = 5


def ours(docs: str, queries: list[str], folder: str) -> dict[str, Any]:
    return asyncio.run(_ours(Path(docs), queries, Path(folder)))


async def _ours(docs: Path, queries: list[str], folder: Path) -> dict[str, Any]:
    path = folder / "index.db"
    library = DocumentLibrary(docs, path)
    begun, cpu = time.perf_counter(), time.process_time()
    made = await library.refresh()
    indexed = time.perf_counter() - begun
    again = time.perf_counter()
    unchanged = await library.refresh()
    refreshed = time.perf_counter() - again
    assert unchanged.changed == 0, unchanged
    took: list[float] = []
    for query in queries:
        at = time.perf_counter()
        found = await library.search(query, _FOUND)
        took.append(time.perf_counter() - at)
        assert found, query
    await library.close()
    size = path.stat().st_size
    return {
        "wall": time.perf_counter() - begun,
        "cpu": time.process_time() - cpu,
        "count": made.passages,
        "files": made.files,
        "indexed": indexed,
        "refreshed": refreshed,
        "queries": took,
        "bytes": size,
    }


def scan(docs: str, queries: list[str], folder: str) -> dict[str, Any]:
    """No index: pieces of the texts in memory, and how often the words are in each."""
    begun, cpu = time.perf_counter(), time.process_time()
    pieces: list[tuple[str, str]] = []
    for path in sorted(Path(docs).rglob("*.*")):
        if path.is_file():
            text = path.read_text(encoding="utf-8").lower()
            pieces += [(path.name, text[at : at + TARGET]) for at in range(0, len(text), TARGET)]
    indexed = time.perf_counter() - begun
    took: list[float] = []
    for query in queries:
        at = time.perf_counter()
        words = query.lower().split()
        scored = [(sum(text.count(word) for word in words), name) for name, text in pieces]
        scored.sort(reverse=True)
        took.append(time.perf_counter() - at)
    return {
        "wall": time.perf_counter() - begun,
        "cpu": time.process_time() - cpu,
        "count": len(pieces),
        "indexed": indexed,
        "queries": took,
    }
