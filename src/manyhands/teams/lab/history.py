"""The history of somebody's experiments, as a file holds it: ledgers and JSON lists become runs.

Invariant: every row of the file becomes a run or is named in ``problems`` with its line; a row
without a metric is a run that failed, never a number.

Read are ``results.tsv`` of karpathy/autoresearch, of burtenshaw/multiautoresearch and of this lab,
and JSON lists of ``{hash, parent_hash, val_bpb, message, created_at}``.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from manyhands.errors import ConfigError
from manyhands.teams.lab.gate import Floats

Direction = Literal["lower", "higher"]
Kind = Literal["karpathy", "multiautoresearch", "manyhands", "json"]

KARPATHY = ("commit", "val_bpb", "memory_gb", "status", "description")
MULTIAUTORESEARCH = ("parent_hash", "candidate_hash", "val_bpb", "promoted")
JSON_FIELDS = ("hash", "parent_hash", "val_bpb", "message", "created_at")

_HASH = ("candidate_hash", "candidate", "hash", "commit")
_PARENT = ("parent_hash", "parent")
_TITLE = ("message", "description", "hypothesis", "title")
_KEPT_FLAGS = ("promoted", "is_master")
_KEPT_STATUS = ("keep", "kept", "promoted")
_CRASHED = ("crash", "crashed", "failed", "error", "timeout", "timed_out", "oom")


@dataclass(frozen=True, slots=True)
class PastRun:
    """One row. ``line``: its line in a TSV, its item in a JSON list. ``value``: None if it failed.

    ``kept``: the file says that it became the master. ``phase`` and ``delta`` (the metric minus
    the master's on the same seed): known only to this lab's own ledger.
    """

    line: int
    hash: str
    parent: str
    value: float | None
    kept: bool
    title: str
    time: str
    phase: str = ""
    delta: float | None = None


@dataclass
class History:
    """``parents[i]``: the index of run i's parent, or -1. Runs are in the order of their time."""

    kind: Kind
    metric: str
    runs: list[PastRun] = field(default_factory=list[PastRun])
    problems: list[str] = field(default_factory=list[str])
    parents: list[int] = field(default_factory=list[int])


def read_history(path: Path, direction: Direction) -> History:
    """The runs in ``path``; `ConfigError` if it is none of the kinds that are read."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or error}", next="name an existing file"
        ) from error
    if not text.strip():
        raise ConfigError(f"{path} is empty", next=f"give {_expected()}")
    head = text.lstrip()[0]
    history = (
        _read_json(text, path, direction) if head in "[{" else _read_tsv(text, path, direction)
    )
    if not history.runs:
        raise ConfigError(
            f"{path} has no row that can be read ({'; '.join(history.problems[:3]) or 'no rows'})",
            next=f"give {_expected()}",
        )
    history.parents = _parents(history, direction)
    return history


def _expected() -> str:
    return (
        f"a results.tsv with the columns {', '.join(KARPATHY)}, or with "
        f"{', '.join(MULTIAUTORESEARCH)}, or a JSON list of objects with {', '.join(JSON_FIELDS)}"
    )


def _read_tsv(text: str, path: Path, direction: Direction) -> History:
    lines = text.replace("\r\n", "\n").split("\n")  # splitlines() also splits at form feeds
    start = next(at for at, line in enumerate(lines) if line.strip())
    header = [_unquoted(name).strip().lower() for name in lines[start].split("\t")]
    kind = _tsv_kind(header)
    if kind is None:
        seen = ", ".join(name[:40] for name in header[:20])
        raise ConfigError(f"{path} has the columns {seen}", next=f"give {_expected()}")
    history = History(kind, _metric_column(header))
    for at, cells in _rows(lines, start + 1, len(header)):
        if len(cells) != len(header):
            history.problems.append(
                f"line {at}: {len(cells)} columns, expected {len(header)}; read as far as it goes"
            )
        cells[len(header) - 1 :] = [" ".join(cells[len(header) - 1 :])]
        fields = dict(zip(header, map(_unquoted, cells), strict=False))
        if _first(fields, _HASH) is None or history.metric not in fields:
            history.problems.append(f"line {at}: left out, it has no commit or no metric column")
            continue
        history.runs.append(_run(fields, at, f"line {at}", history, direction))
    if kind == "karpathy":
        _chain(history)
    return history


def _tsv_kind(header: Sequence[str]) -> Kind | None:
    if "candidate_hash" in header and "verdict" in header and "phase" in header:
        return "manyhands"
    if "candidate_hash" in header and ({"promoted", "status"} & set(header)):
        return "multiautoresearch"
    if "commit" in header and "status" in header and len(header) > 2:
        return "karpathy"
    return None


def _metric_column(header: Sequence[str]) -> str:
    """``val_bpb``, or what stands in its place: both projects are used for other metrics too."""
    for name in ("val_bpb", "metric"):
        if name in header:
            return name
    before = "commit" if "commit" in header else "candidate_hash"
    after = header.index(before) + 1
    return header[after] if after < len(header) else "val_bpb"


def _rows(lines: Sequence[str], start: int, width: int) -> Iterable[tuple[int, list[str]]]:
    """(line number, cells). A quoted last cell may go on over lines that hold no tab."""
    at = start
    while at < len(lines):
        number, cells = at + 1, lines[at].split("\t")
        at += 1
        if cells == [""] or not lines[number - 1].strip():
            continue
        open_quote = len(cells) == width and cells[-1][:1] == '"' and cells[-1].count('"') % 2
        while open_quote and at < len(lines) and "\t" not in lines[at]:
            cells[-1] += " " + lines[at]
            open_quote = cells[-1].count('"') % 2
            at += 1
        yield number, cells


def _unquoted(cell: str) -> str:
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def _chain(history: History) -> None:
    """karpathy's file names no parents: a row was tried on the last one kept before it.

    Its commits are no content hashes: rows that were discarded often carry the kept commit.
    """
    master = ""
    for at, run in enumerate(history.runs):
        named = replace(run, hash=f"{run.hash}@{run.line}", parent=master)
        history.runs[at] = named
        if run.kept:
            master = named.hash


def _read_json(text: str, path: Path, direction: Direction) -> History:
    history = History("json", "val_bpb")
    for number, item in enumerate(_items(text, path, history.problems), start=1):
        where = f"item {number}"
        if not isinstance(item, dict):
            history.problems.append(f"{where}: left out, it is no object")
            continue
        fields = {str(k): v for k, v in cast(dict[Any, Any], item).items()}
        metric = "val_bpb" if "val_bpb" in fields else "metric"
        if not _first(fields, _HASH) or metric not in fields:
            seen = ", ".join(fields)[:120]
            history.problems.append(f"{where}: left out, it has the fields {seen or '(none)'}")
            continue
        history.metric = metric
        history.runs.append(_run(fields, number, where, history, direction))
    _sort_by_time(history.runs)
    return history


def _sort_by_time(runs: list[PastRun]) -> None:
    """By ``created_at`` where every run has one: unix times as numbers, others as text (ISO)."""
    if not all(run.time for run in runs):
        return
    try:
        runs.sort(key=lambda run: float(run.time))
    except ValueError:
        runs.sort(key=lambda run: run.time)


def _items(text: str, path: Path, problems: list[str]) -> list[Any]:
    """The list's items; of a list that breaks off, those before the break."""
    try:
        whole: Any = json.loads(text)
    except json.JSONDecodeError as error:
        problems.append(f"line {error.lineno}: the JSON breaks off ({error.msg})")
        return _salvaged(text)
    if not isinstance(whole, list):
        seen = (
            ", ".join(cast(dict[str, Any], whole))[:200] if isinstance(whole, dict) else "no list"
        )
        raise ConfigError(f"{path} holds a JSON object with {seen}", next=f"give {_expected()}")
    return cast(list[Any], whole)


def _salvaged(text: str) -> list[Any]:
    decoder, between, items = json.JSONDecoder(), re.compile(r"[\s,]*"), list[Any]()
    at = text.find("[") + 1
    while at > 0 and (gap := between.match(text, at)):
        try:
            item, at = decoder.raw_decode(text, gap.end())
        except ValueError:
            break
        items.append(item)
    return items


def _run(
    fields: Mapping[str, Any], line: int, where: str, history: History, direction: Direction
) -> PastRun:
    status = str(_first(fields, ("status", "exit")) or "").strip().lower()
    value = _number(fields.get(history.metric), where, history)
    if value == 0.0 and (direction == "lower" or status in _CRASHED):
        value = None  # what these ledgers write for a crash
        if status not in _CRASHED:
            history.problems.append(f"{where}: {history.metric} 0.0 is no measurement")
    flags = any(_true(fields.get(name)) for name in _KEPT_FLAGS)
    verdict = str(fields.get("verdict") or "").lower()
    return PastRun(
        line=line,
        hash=str(_first(fields, _HASH) or ""),
        parent=str(_first(fields, _PARENT) or ""),
        value=value,
        kept=flags or status in _KEPT_STATUS or verdict == "promoted",
        title=str(_first(fields, _TITLE) or ""),
        time=str(fields.get("created_at") or ""),
        phase=str(fields.get("phase") or ""),
        delta=_number(fields.get("delta"), where, history),
    )


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((fields[name] for name in names if fields.get(name) not in (None, "")), None)


def _number(cell: Any, where: str, history: History) -> float | None:
    """The finite number in ``cell``; None, and a problem if it is neither a number nor empty."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError):
        history.problems.append(f"{where}: {str(cell)[:40]!r} is no number")
        return None
    return value if math.isfinite(value) else None


def _true(cell: Any) -> bool:
    return cell is True or str(cell).strip().lower() in ("true", "1", "1.0", "yes", "promoted")


def _parents(history: History, direction: Direction) -> list[int]:
    claimed = _claimed(history.runs, direction)
    return [claimed.get(run.parent, -1) if run.parent != run.hash else -1 for run in history.runs]


def _claimed(runs: Sequence[PastRun], direction: Direction) -> dict[str, int]:
    """For each hash the run whose value stands for it: the kept one, else the best."""
    sign = 1.0 if direction == "lower" else -1.0

    def rank(run: PastRun) -> tuple[bool, float]:
        return (not run.kept, math.inf if run.value is None else sign * run.value)

    claimed: dict[str, int] = {}
    for at, run in enumerate(runs):
        held = claimed.setdefault(run.hash, at)
        if rank(run) < rank(runs[held]):
            claimed[run.hash] = at
    return claimed


def promoted(history: History, direction: Direction) -> list[int]:
    """The indices of the promotions, in the order of their time."""
    runs = history.runs
    kept = {at for at, run in enumerate(runs) if run.kept}
    if history.kind in ("karpathy", "multiautoresearch"):
        return sorted(kept)
    claimed = _claimed(runs, direction)
    if history.kind == "json" and not any(run.phase for run in runs):
        kept |= {at for at in history.parents if at >= 0}
    return sorted({claimed[runs[at].hash] for at in kept})


_AGAIN = (
    r"(?:re-?runs?|reps?|repl|repeat(?:ed)?|replica(?:te|tion)?s?|re-?submi(?:t|tted|ssion)"
    r"|re-?try|re-?test|confirm(?:ed|ation)?|again|seeds?)"
)
_APART = r"(?:^|(?<=[ \-–,;:.()\[+#]))"
_WHICH = r"[ #:=.\-]*(?:\d+(?:(?:/| of )\d+)?)?"
_MARKED_END = re.compile(rf"[ \-–,;:.+(\[]*{_APART}{_AGAIN}{_WHICH}[)\]]?[ .!]*$")
_MARKED_ASIDE = re.compile(rf" ?[(\[] ?{_AGAIN}\b[^)\]]*[)\]][ .!]*$")
_MARKED_START = re.compile(rf"^{_AGAIN}{_WHICH}(?: (?:of|for))?(?:[ :,\-–]+|$)")
_UNCHANGED = re.compile(
    r"(?:the |current |same as |identical to )*(?:master|parent|baseline|control)?"
    r"|no-?op|unchanged|a/?a(?: test)?|.*\bno (?:code )?changes?\b(?! (?:to|in)\b).*"
)


def _change(title: str) -> tuple[str, bool]:
    """(what was changed, is it marked as a re-run). '' for a re-run of the parent itself."""
    text = re.sub(r"[\s_]+", " ", title[:500].lower()).strip()
    bare = _MARKED_START.sub("", _MARKED_END.sub("", _MARKED_ASIDE.sub("", text)))
    marked = bare != text
    bare = bare.strip(" .,;:!-")
    if _UNCHANGED.fullmatch(bare) and (bare or marked):
        return "", True
    return bare, marked


@dataclass(frozen=True)
class Programs:
    """``of_run[i]``: the program that run i ran. ``values``: each program's metrics, by time.

    ``members``: the runs that gave them.
    """

    of_run: tuple[int, ...]
    members: Mapping[int, list[int]]
    values: Mapping[int, Floats]

    @classmethod
    def of(cls, history: History) -> Programs:
        runs = history.runs
        often = Counter(run.title for run in runs)
        same: dict[object, int] = {}
        leader: list[int] = list(range(len(runs)))

        def root(at: int) -> int:
            while leader[at] != at:
                leader[at] = leader[leader[at]]
                at = leader[at]
            return at

        for at, run in enumerate(runs):
            change, marked = _change(run.title)
            # Words that most rows share describe no experiment.
            telling = marked or (change and often[run.title] * 2 <= len(runs))
            keys: list[object] = [run.hash]
            if run.parent and telling:
                keys.append((run.parent, change) if change else run.parent)
            for key in keys:
                leader[root(same.setdefault(key, at))] = root(at)
        of_run = tuple(root(at) for at in range(len(runs)))
        members: dict[int, list[int]] = defaultdict(list)
        values: dict[int, list[float]] = defaultdict(list)
        for at, run in enumerate(runs):
            if run.value is not None and run.phase != "holdout":
                members[of_run[at]].append(at)
                values[of_run[at]].append(run.value)
        return cls(of_run, members, {program: np.array(v) for program, v in values.items()})

    def runs_of(self, at: int) -> Floats:
        """The metrics of all runs of the program that run ``at`` ran."""
        return self.values.get(self.of_run[at], np.zeros(0))

    def runs_until(self, at: int) -> Floats:
        """Those of them up to run ``at``."""
        values = self.runs_of(at)
        return values[: sum(i <= at for i in self.members.get(self.of_run[at], []))]
