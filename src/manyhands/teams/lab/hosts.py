"""What ran on which kind of machine, and where a master measures otherwise than elsewhere.

Invariant: what is known here grows at places that a replay passes in the same order, and not while
runs go on side by side.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from manyhands.teams.lab.records import LedgerRow, Master, Measurement, Verdict

#: Two means of one master may be so many standard errors apart.
APART = 4.0
#: From so few runs nothing is said of a kind of machine, or of a slot.
FEWEST = 3


@dataclass(slots=True)
class Hosts:
    """What ran where. ``since``: runs on each kind since the last one of a master."""

    metrics: dict[tuple[str, str, int], float] = field(
        default_factory=dict[tuple[str, str, int], float]
    )
    slots: dict[str, int] = field(default_factory=dict[str, int])
    since: Counter[str] = field(default_factory=Counter[str])

    def see(self, measured: Iterable[Measurement], master: str) -> None:
        for m in measured:
            if not m.started_at:  # it was cut off before it had a machine
                continue
            self.slots[m.host] = m.slot
            self.since[m.host] += 1
            if m.candidate == master:
                self.since[m.host] = 0
            if m.metric is not None:
                self.metrics[m.candidate, m.host, m.seed] = m.metric

    @property
    def several(self) -> bool:
        return len(self.slots) > 1

    def metric(self, commit: str, like: Measurement) -> float | None:
        """What ``commit`` measured with the same seed on the same kind of machine."""
        return self.metrics.get((commit, like.host, like.seed))


# -------------------------------------------------------------------- reading a ledger


@dataclass(frozen=True, slots=True)
class Apart:
    """A master measures otherwise in one ``place`` than in the others; ``errors``: by how many
    standard errors."""

    master: Master
    place: str
    here: float
    elsewhere: float
    errors: float


def offsets(rows: Sequence[LedgerRow], masters: Sequence[Master]) -> Iterator[Apart]:
    """Kinds of machines, and slots of one kind, on which a master measures otherwise."""
    for master in masters:
        mine = [r for r in rows if r.candidate == master.commit and _of_master(r)]
        if master.noise_sd <= 0:
            continue
        by_host = _grouped((r.host or "the machine", r) for r in mine)
        yield from _apart(master, by_host)
        for host, there in by_host.items():
            slots = _grouped((f"slot {r.slot} of {host}", r) for r in there if r.slot >= 0)
            yield from _apart(master, slots)


def _of_master(row: LedgerRow) -> bool:
    return row.metric is not None and row.verdict in (Verdict.BASELINE, Verdict.PROMOTED)


def _grouped(rows: Iterable[tuple[str, LedgerRow]]) -> dict[str, list[LedgerRow]]:
    found: dict[str, list[LedgerRow]] = defaultdict(list)
    for place, row in rows:
        found[place].append(row)
    return found


def _apart(master: Master, places: dict[str, list[LedgerRow]]) -> Iterator[Apart]:
    """Each place against all others: the difference of the means over its standard error, with the
    noise that the master was promoted with, or that of these runs where it is larger."""
    values = {place: [r.metric or 0.0 for r in rows] for place, rows in places.items()}
    for place, here in values.items():
        others = [v for other, found in values.items() if other != place for v in found]
        if len(here) < FEWEST or len(others) < FEWEST:
            continue
        error = (
            max(master.noise_sd, _spread(here, others)) * (1 / len(here) + 1 / len(others)) ** 0.5
        )
        away = abs(fmean(here) - fmean(others)) / error
        if away > APART:
            yield Apart(master, place, fmean(here), fmean(others), away)
            if len(values) == 2:  # the other one says the same
                return


def _spread(*groups: Sequence[float]) -> float:
    """Standard deviation within the groups, pooled."""
    squares = sum((v - fmean(group)) ** 2 for group in groups for v in group)
    return (squares / (sum(map(len, groups)) - len(groups))) ** 0.5


def changes(rows: Sequence[LedgerRow]) -> Iterator[tuple[int, str, str]]:
    """Where the kind of machine changes for the first time to each: row, kind before, kind."""
    known: dict[str, None] = {}
    before = ""
    for row in sorted(rows, key=lambda r: (r.started_at, r.row)):
        if not row.host:
            continue
        if row.host not in known and before:
            yield row.row, before, row.host
        known[row.host], before = None, row.host
