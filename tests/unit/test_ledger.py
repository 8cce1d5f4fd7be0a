"""The ledger's exports: one run is one line, one value one cell, whatever an agent wrote."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from manyhands.teams.lab.ledger import (
    COLUMNS,
    KARPATHY,
    MULTIAUTORESEARCH,
    cell,
    columns_of,
    duration,
    iso_time,
    kept_rows,
    ledger_table,
    plain,
    text_table,
    to_json,
    to_tsv,
)
from manyhands.teams.lab.records import LedgerRow, Phase, Verdict

HOSTILE = '=cmd()|"x"\t<b>\n\x1b[31mred\x1b[0m\x1b]0;title\x07 \u202eevil\u2066\x00\x9b'


def row(number: int, **more: object) -> LedgerRow:
    fields: dict[str, object] = {
        "row": number, "campaign": "c", "experiment": "e0001", "hypothesis": "h0001",
        "title": "RATE 0.1 → 0.2", "phase": Phase.SCREEN, "parent": "p" * 40,
        "candidate": "abcdef0123456789", "seed": 7, "worker": "worker-e0001",
        "fillers": {"planner": "optuna-tpe", "reviewer": "rules"}, "metric": 2.5, "delta": -0.01,
        "holdout": None, "duration": 5.25, "cpu_seconds": 5.0, "peak_memory_mb": 512.0,
        "exit": "ok", "verdict": Verdict.NOT_BETTER, "created_at": 1_790_000_000.0,
    }  # fmt: skip
    return LedgerRow.model_validate(fields | more)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def test_what_the_study_ended_early_has_not_crashed() -> None:
    ended = [row(1, metric=None, exit=exit) for exit in ("pruned", "not_run", "diverged", "failed")]
    found = [read(to_tsv([each]))[0]["status"] for each in ended]
    assert found == ["discard", "discard", "crash", "crash"]


def test_the_header_starts_as_karpathys_and_holds_all_of_the_other_kind() -> None:
    header = to_tsv([]).rstrip("\n").split("\t")
    assert tuple(header[:5]) == KARPATHY
    assert set(MULTIAUTORESEARCH) <= set(header)
    assert len(header) == len(set(header)) == len(COLUMNS)
    assert to_tsv([], metric="accuracy").split("\t")[1] == "accuracy"
    for strict in (KARPATHY, MULTIAUTORESEARCH):
        assert to_tsv([], columns=strict).rstrip("\n").split("\t") == list(strict)


def test_every_field_of_a_row_is_exported() -> None:
    (line,) = read(to_tsv([row(3, holdout=2.6, slot=1, started_at=1_790_000_000.0)]))
    assert line["commit"] == "abcdef0"
    assert line["val_bpb"] == "2.5"
    assert line["memory_gb"] == "0.500"
    assert line["status"] == "discard"
    assert line["description"] == line["hypothesis"] == "RATE 0.1 → 0.2"
    assert line["run_id"] == "3"
    assert line["created_at"] == "2026-09-21T14:13:20Z"
    assert line["candidate_hash"] == "abcdef0123456789"
    assert line["fillers"] == "planner=optuna-tpe; reviewer=rules"
    assert line["promoted"] == "false"
    assert (line["holdout"], line["delta"], line["slot"], line["seed"]) == (
        "2.6",
        "-0.01",
        "1",
        "7",
    )
    assert line["peak_vram_mb"] == line["mfu_percent"] == line["job_id"] == ""


def test_a_crash_has_no_metric_and_an_unrun_row_is_no_crash() -> None:
    crash = row(1, metric=None, exit="failed", verdict=Verdict.CRASHED)
    nan = row(2, metric=math.nan, exit="no_metric", verdict=Verdict.CRASHED)
    unrun = row(3, metric=None, exit="not_run", verdict=Verdict.REJECTED, seed=-1)
    lines = read(to_tsv([crash, nan, unrun]))
    assert [line["status"] for line in lines] == ["crash", "crash", "discard"]
    assert [line["val_bpb"] for line in lines] == ["", "", ""]
    assert lines[2]["seed"] == ""


def test_kept_is_the_first_confirmation_run_and_not_the_best() -> None:
    won = {"phase": Phase.CONFIRM, "verdict": Verdict.PROMOTED, "candidate": "new"}
    rows = [
        row(1, phase=Phase.BASELINE, verdict=Verdict.BASELINE, candidate="old", metric=2.6),
        row(2, phase=Phase.BASELINE, verdict=Verdict.BASELINE, candidate="old", metric=2.4),
        row(3, phase=Phase.SCREEN, verdict=Verdict.PROMOTED, candidate="new", metric=2.0),
        row(4, phase=Phase.CONFIRM, verdict=Verdict.BASELINE, candidate="old", metric=2.5),
        row(5, metric=2.3, **won),
        row(6, metric=2.1, **won),
    ]
    assert kept_rows(rows) == {1, 5}
    assert kept_rows(list(reversed(rows))) == {1, 5}
    lines = read(to_tsv(rows))
    assert [line["promoted"] for line in lines].count("true") == 2
    assert lines[3]["description"].startswith("master, measured beside")


def test_json_holds_every_field_and_no_nan() -> None:
    (found,) = json.loads(to_json([row(1, metric=math.inf, comment=HOSTILE)]))
    assert set(found) == set(LedgerRow.model_fields)
    assert found["metric"] is None
    assert found["comment"] == HOSTILE
    assert to_json([row(1, comment=HOSTILE)]).isascii()


def test_hostile_text_stays_in_its_cell() -> None:
    text = to_tsv([row(1, title=HOSTILE, comment=HOSTILE, rule=HOSTILE, candidate=HOSTILE)])
    assert text.count("\n") == 2
    assert all(c.isprintable() or c in "\t\n" for c in text)
    (line,) = read(text)
    assert line["description"].startswith("'=cmd()")
    assert len(line) == len(COLUMNS)
    table = ledger_table([row(1, title=HOSTILE)])
    assert all(c.isprintable() or c == "\n" for c in table)


@budget(max_examples=150, deadline=None)
@given(st.text(), st.text())
def test_any_text_is_one_cell(title: str, comment: str) -> None:
    text = to_tsv([row(1, title=title, comment=comment), row(2)])
    lines = text.split("\n")
    assert len(lines) == 4
    assert {line.count("\t") for line in lines[:3]} == {len(COLUMNS) - 1}
    first, second = read(text)
    assert first["description"] == cell(title)
    assert second["run_id"] == "2"


@budget(max_examples=150, deadline=None)
@given(st.text(), st.integers(0, 30))
def test_plain_text_prints_and_fits(text: str, limit: int) -> None:
    line = plain(text, limit)
    assert line == "" or line.isprintable()
    assert not limit or len(line) <= limit
    assert plain(line) == line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07", "link"),
        ("a\r\nb\tc", "a b c"),
        ("a\u202eb\u200bc", "a b c"),
        ("naïve → 中文", "naïve → 中文"),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_the_table_is_aligned_and_no_wider_than_asked() -> None:
    rows = [row(n, title="中文" * 40 if n == 2 else "short") for n in range(1, 40)]
    table = ledger_table(rows, width=80, last=10)
    lines = table.splitlines()
    assert max(columns_of(line) for line in lines) <= 80
    assert len(lines) == 2 + 10 + 1
    assert "29 earlier rows" in lines[-1]
    assert text_table(("a", "b"), []).splitlines()[0] == "a  b"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"),
     (7500, "2 h 5 min"), (273_600, "3 d 4 h"), (-1, "0.0 s")],
)  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_times() -> None:
    assert iso_time(0) == ""
    assert iso_time(1_790_000_000.9) == "2026-09-21T14:13:20Z"
