"""Anomalies that only many experiments show."""

from __future__ import annotations

from manyhands.teams.lab.hosts import changes
from manyhands.teams.lab.records import (
    Experiment,
    GateDecision,
    Hypothesis,
    LedgerRow,
    Master,
    Phase,
    Verdict,
)
from manyhands.teams.lab.trends import dear_runs, idle_slots, plateau, shotgun

MASTER = Master(commit="m", experiment="e0003", version=1, reference={1: 1.0}, noise_sd=0.5)


def experiment(n: int, verdict: Verdict = Verdict.NOT_BETTER, **fields: object) -> Experiment:
    about = Hypothesis(
        id=f"h{n:04d}", title="t", rationale="r", kind="setting", parent="m", setting="A", value=n
    )
    found = Experiment(id=f"e{n:04d}", hypothesis=about, candidate="c", parent="m", verdict=verdict)
    return found.model_copy(update=fields)


def row(n: int, **fields: object) -> LedgerRow:
    found = LedgerRow(
        row=n,
        campaign="",
        experiment=f"e{n:04d}",
        hypothesis="",
        title="",
        phase=Phase.SCREEN,
        parent="m",
        candidate="c",
        seed=1,
        worker="",
        fillers={},
        metric=1.0,
        delta=0.0,
        holdout=None,
        duration=100.0,
        cpu_seconds=1.0,
        peak_memory_mb=1.0,
        exit="ok",
        verdict=Verdict.NOT_BETTER,
        started_at=1000.0 + 50 * n,
        slot=n % 2,
    )
    return found.model_copy(update=fields)


def test_one_program_under_many_names() -> None:
    again = {"rule": "duplicate", "comment": "duplicate: the same program as in e0001"}
    some = [experiment(n, Verdict.REJECTED, **again) for n in (2, 3)]
    assert not list(shotgun([experiment(1), *some]))
    (found,) = shotgun([experiment(1), *some, experiment(4, Verdict.REJECTED, **again)])
    assert found.kind == "replicate-shotgun"
    assert "e0001 was proposed 3 times more: e0002, e0003, e0004" in found.text


def test_slots_that_wait() -> None:
    busy = [row(n) for n in range(20)]
    assert not list(idle_slots(busy, 2))
    (found,) = idle_slots([row(n, started_at=1000.0 + 200 * n) for n in range(20)], 2)
    assert found.kind == "slower-than-slots"
    assert "2 slots were busy 26% of" in found.text


def test_runs_that_take_or_cost_several_times_the_usual() -> None:
    rows = [row(n, cost_usd=1.0) for n in range(20)]
    assert not list(dear_runs(rows))
    slow, dear = row(20, duration=400.0, cost_usd=1.0), row(21, cost_usd=5.0)
    found = list(dear_runs([*rows, slow, dear]))
    assert [(a.kind, a.experiment) for a in found] == [
        ("cost-out-of-line", "e0020"),
        ("cost-out-of-line", "e0021"),
    ]
    assert "cost $5; half of the runs $1 or less" in found[1].text
    short = [row(n, duration=0.01) for n in range(20)]
    assert not list(dear_runs([*short, row(20, duration=0.9)]))  # nobody minds a second


def test_a_plateau_tells_its_evidence() -> None:
    lost = [experiment(n, screen_gain=0.1 * n) for n in range(4, 14)]
    assert not list(plateau([*lost[:5], experiment(3, Verdict.PROMOTED), *lost[5:]], [MASTER]))
    (unconfirmed,) = plateau([experiment(3, Verdict.PROMOTED), *lost], [MASTER])
    assert unconfirmed.text.endswith("e0013, showed 1.3 (2.6 sd)")
    decision = GateDecision(
        verdict="inconclusive",
        pairs=10,
        looks=2,
        gain=0.1,
        low=-0.2,
        high=0.4,
        p_value=0.3,
        alpha=0.05,
        reason="",
    )
    lost[2] = lost[2].model_copy(update={"decision": decision})
    (found,) = plateau([experiment(3, Verdict.PROMOTED), *lost], [MASTER])
    assert found.experiment == "e0013"
    assert "10 experiments since e0003" in found.text
    assert "e0013, showed 1.3 (2.6 sd); 1 were confirmed, none can gain more than 0.4" in found.text


def test_a_change_of_hardware_is_told_once() -> None:
    kinds = ["a", "a", "", "b", "a", "b"]
    rows = [row(n, host=kind) for n, kind in enumerate(kinds)]
    assert list(changes(rows)) == [(3, "a", "b")]
