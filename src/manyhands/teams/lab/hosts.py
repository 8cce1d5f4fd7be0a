"""What ran on which kind of machine, and where programs measure otherwise than elsewhere.

Invariant: what is known here grows at places that a replay passes in the same order, and not while
runs go on side by side.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from manyhands.teams.lab.pruning import LATEST, Rungs, Watcher
from manyhands.teams.lab.records import LedgerRow, Measurement, Phase

#: The same programs may be so many standard errors apart in two places.
APART = 4.0
#: From fewer runs in a place, or fewer replicates in all, nothing is said.
FEWEST, FREEDOM = 3, 12


@dataclass(frozen=True, slots=True)
class Curves:
    """What is known when a training is begun, of which it may be ended: curves of the master's
    runs, and of screenings. ``host``: the one kind of machine that there is. Empty: it may not."""

    master: tuple[Rungs, ...] = ()
    others: tuple[Rungs, ...] = ()
    host: str = ""
    prunes: bool = False

    def watcher(self) -> Watcher:
        return Watcher(self.master, self.others, prunes=self.prunes)


@dataclass(slots=True)
class Hosts:
    """What ran where. ``since``: runs on each kind since the last one of a master; ``curves``: by
    program and kind; ``screened``: those of screenings, oldest first."""

    metrics: dict[tuple[str, str, int], float] = field(
        default_factory=dict[tuple[str, str, int], float]
    )
    curves: dict[tuple[str, str], list[Rungs]] = field(
        default_factory=dict[tuple[str, str], list[Rungs]]
    )
    screened: list[Rungs] = field(default_factory=list[Rungs])
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
            if m.rungs:
                self.curves.setdefault((m.candidate, m.host), []).append(m.rungs)
                if m.phase is Phase.SCREEN:
                    self.screened.append(m.rungs)
            if m.metric is not None:
                self.metrics[m.candidate, m.host, m.seed] = m.metric

    @property
    def several(self) -> bool:
        return len(self.slots) > 1

    @property
    def only(self) -> str:
        """The one kind of machine that there is ('': none is known, or several are)."""
        return next(iter(self.slots)) if len(self.slots) == 1 else ""

    def known(self, master: str) -> Curves:
        """For a screening that begins now. Its kind of machine is not known yet: where there are
        several, their curves are not told apart, and nothing is ended for falling behind."""
        mine = [] if self.several else [r for (c, _), r in self.curves.items() if c == master]
        flat = tuple(rungs for curves in mine for rungs in curves)
        return Curves(flat, tuple(self.screened[-LATEST:]), self.only, prunes=True)

    def metric(self, commit: str, like: Measurement) -> float | None:
        """What ``commit`` measured with the same seed on the same kind of machine."""
        return self.metrics.get((commit, like.host, like.seed))


# -------------------------------------------------------------------- reading a ledger


@dataclass(frozen=True, slots=True)
class Apart:
    """In one ``place`` the same programs measure otherwise than in the others, by ``offset`` in the
    metric's unit; ``errors``: by how many standard errors."""

    place: str
    offset: float
    errors: float


def offsets(rows: Sequence[LedgerRow]) -> Iterator[Apart]:
    """Kinds of machines, and slots of one kind, on which programs measure otherwise.

    Each program that ran in a place and elsewhere gives one difference of means; they are averaged
    with the inverses of their variances as weights.
    """
    kinds = defaultdict[str, list[LedgerRow]](list)
    for row in rows:
        if row.metric is not None and row.started_at:
            kinds[row.host].append(row)
    yield from _apart([(r.host or "unknown machines", r) for same in kinds.values() for r in same])
    for host, same in kinds.items():
        yield from _apart([(f"slot {r.slot}{' of ' * bool(host)}{host}", r) for r in same])


def _apart(placed: Sequence[tuple[str, LedgerRow]]) -> Iterator[Apart]:
    places = list(dict.fromkeys(place for place, _ in placed))
    programs = defaultdict[str, dict[str, list[float]]](lambda: defaultdict(list))
    for place, row in placed:
        programs[row.candidate][place].append(row.metric or 0.0)
    if len(places) < 2:
        return
    noise = _spread([v for cells in programs.values() for v in cells.values()])
    for place in places:
        found = _difference(programs.values(), place)
        if found is None or noise is None:
            continue
        offset, error = found[0], noise * found[1]
        if error > 0 and abs(offset) > APART * error:
            yield Apart(place, offset, abs(offset) / error)
            if len(places) == 2:  # the other one says the same
                return


def _difference(
    programs: Iterable[dict[str, list[float]]], place: str
) -> tuple[float, float] | None:
    """Of the place and the others: the mean difference, and its standard error in units of the
    noise of one run. None for too little to say."""
    weights = total = 0.0
    count = 0
    for cells in programs:
        here = cells.get(place, [])
        others = [v for other, values in cells.items() if other != place for v in values]
        if here and others:
            weight = 1 / (1 / len(here) + 1 / len(others))
            weights += weight
            total += weight * (fmean(here) - fmean(others))
            count += min(len(here), len(others))
    return None if count < FEWEST else (total / weights, weights**-0.5)


def _spread(groups: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation of one run, within programs and places. None: too few runs to say."""
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum((v - fmean(group)) ** 2 for group in groups for v in group)
    return (squares / freedom) ** 0.5 if freedom >= FREEDOM else None


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
