"""What only many experiments show: the same program again, idle slots, cost out of line, a plateau.

Invariant: each is a fact of the ledger with its numbers; nothing is changed because of it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from manyhands.teams.lab.ledger import duration, finite
from manyhands.teams.lab.memory import fingerprint
from manyhands.teams.lab.records import Anomaly, Experiment, LedgerRow, Master, Verdict

#: One program under so many names is no accident.
AGAIN = 3
#: Slots that are busy for a smaller share of the time than this are said, from so many runs on.
BUSY, RUNS = 0.5, 12
#: A run that takes, or costs, so many times the median of the study's runs is said, and at least so
#: many seconds, or dollars, more.
DEAR, SECONDS, USD = 3.0, 10.0, 0.01
#: So many experiments without a promotion are a plateau.
LEVEL = 8

_ORIGINAL = re.compile(r"\be\d{4,}\b")


def shotgun(experiments: Sequence[Experiment]) -> Iterator[Anomaly]:
    """One program proposed again and again."""
    again: dict[str, list[str]] = defaultdict(list)
    for experiment in experiments:
        if experiment.rule == "duplicate":
            original = _ORIGINAL.search(experiment.comment)
            again[original[0] if original else fingerprint(experiment.hypothesis)].append(
                experiment.id
            )
    for original, copies in again.items():
        if len(copies) >= AGAIN:
            text = f"the program of {original} was proposed {len(copies)} times more: "
            yield _found("replicate-shotgun", text + _listed(copies), copies[-1])


def idle_slots(rows: Sequence[LedgerRow], slots: int) -> Iterator[Anomaly]:
    """How busy the slots were, from the first run's start to the last one's end."""
    ran = [r for r in rows if r.started_at and r.duration > 0]
    if len(ran) < RUNS or slots < 2:
        return
    began, ended = min(r.started_at for r in ran), max(r.started_at + r.duration for r in ran)
    busy = sum(r.duration for r in ran) / max((ended - began) * slots, 1e-9)
    if busy < BUSY:
        text = (
            f"{slots} slots were busy {busy:.0%} of {duration(ended - began)}: they wait for the "
            "slowest run of a round, or for those who plan"
        )
        yield _found("slower-than-slots", text)


def dear_runs(rows: Sequence[LedgerRow]) -> Iterator[Anomaly]:
    """Experiments whose runs take, or cost, several times what the study's runs do."""
    ran = [r for r in rows if r.duration > 0]
    if len(ran) < RUNS:
        return
    yield from _dear(ran, "took", lambda row: row.duration, SECONDS, duration)
    yield from _dear(ran, "cost", lambda row: row.cost_usd, USD, lambda usd: f"${usd:.4g}")


def _dear(
    ran: Sequence[LedgerRow],
    what: str,
    of: Callable[[LedgerRow], float],
    least: float,
    shown: Callable[[float], str],
) -> Iterator[Anomaly]:
    usual = median(map(of, ran))
    worst: dict[str, float] = {}
    for row in ran:
        if of(row) > max(DEAR * usual, usual + least):
            worst[row.experiment] = max(worst.get(row.experiment, 0.0), of(row))
    for experiment, value in worst.items():
        text = f"a run of {experiment} {what} {shown(value)}; half of the runs {shown(usual)}"
        yield _found("cost-out-of-line", f"{text} or less", experiment)


def plateau(experiments: Sequence[Experiment], masters: Sequence[Master]) -> Iterator[Anomaly]:
    """Many experiments since the last promotion, and what the best of them showed."""
    since: list[Experiment] = []
    for experiment in reversed(experiments):
        if experiment.verdict is Verdict.PROMOTED:
            break
        if experiment.screen_gain is not None or experiment.decision is not None:
            since.append(experiment)
    if len(since) < LEVEL or not masters:
        return
    sd = masters[-1].noise_sd
    best = max(since, key=lambda e: finite(e.screen_gain) or float("-inf"))
    highs = [e.decision.high for e in since if e.decision and e.decision.high is not None]
    gain = finite(best.screen_gain)
    shown = f"the best screening, {best.id}, showed {gain:.4g}" if gain is not None else ""
    shown += f" ({gain / sd:.1f} sd)" if gain is not None and sd > 0 else ""
    text = f"{len(since)} experiments since {masters[-1].experiment} without a promotion; {shown}"
    if highs:
        text += f"; {len(highs)} were confirmed, none can gain more than {max(highs):.4g}"
    yield _found("plateau", text, best.id)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _found(kind: str, text: str, experiment: str = "") -> Anomaly:
    return Anomaly(kind=kind, text=text, experiment=experiment)
