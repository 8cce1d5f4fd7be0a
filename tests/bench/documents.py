"""A library of 10,000 passages: how long it takes to index, to look over again, and to search.

The texts are the standard library's docstrings and topics, written several times over. The queries
are first sentences of them: ten words or so, as an agent asks. A scan of all texts in Python, in
the same round, is what there would be without an index.
"""

from __future__ import annotations

import statistics
from typing import Any

from tests import stdlib
from tests.bench.rounds import Contestant, Options, interleave, say
from tests.bench.rows import Row, at_most

OURS, SCAN = "DocumentLibrary", "scan in Python"


def rows(options: Options) -> list[Row]:
    passages, rounds = options.pick(10_000, 1_000), options.pick(5, 2)
    docs = options.folder / "documents"
    files = stdlib.write(docs, passages)
    asked = _queries(options.pick(60, 20))
    say(f"documents: {files} files, {len(asked)} queries, {rounds} rounds")
    contestants = {
        OURS: Contestant(OURS, "documents", "ours", {"docs": str(docs), "queries": asked}),
        SCAN: Contestant(SCAN, "documents", "scan", {"docs": str(docs), "queries": asked}),
    }

    def once(name: str, number: int) -> dict[str, Any]:
        folder = options.folder / f"documents-{number}"
        folder.mkdir(exist_ok=True)
        return contestants[name].run(folder)

    found = interleave([OURS, SCAN], rounds, once)
    return _rows(found[OURS], found[SCAN], options)


def _rows(ours: list[dict[str, Any]], scan: list[dict[str, Any]], options: Options) -> list[Row]:
    count = ours[0]["count"]
    raw = {"passages": count, "files": ours[0]["files"], "bytes": ours[0]["bytes"]}
    # For 10,000, whatever the number that the texts made.
    seconds = [each["indexed"] / each["count"] * 10_000 for each in ours]
    medians = [statistics.median(each["queries"]) for each in ours]
    worst = [max(each["queries"]) for each in ours]
    ratios = [
        statistics.median(each["queries"]) / own for own, each in zip(medians, scan, strict=True)
    ]
    # Of few passages the figures say nothing.
    goal = None if options.quick else at_most(20)
    return [
        Row("documents", "index 10,000 passages", seconds, "s", goal, raw),
        Row("documents", f"query of {count:,}, median", [s * 1e3 for s in medians], "ms", goal),
        Row("documents", f"query of {count:,}, slowest", [s * 1e3 for s in worst], "ms"),
        Row("documents", "refresh, nothing changed", [r["refreshed"] * 1e3 for r in ours], "ms"),
        Row("documents", f"{SCAN} ÷ {OURS}, a query", ratios),
    ]


def _queries(count: int) -> list[str]:
    sentences = [
        text.partition("\n\n")[2].strip().splitlines()[0] for _, text in stdlib.docstrings()
    ]
    long = [each for each in sentences if len(each.split()) >= 6]
    return long[:: max(1, len(long) // count)][:count]
