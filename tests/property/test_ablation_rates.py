"""What the ablation promises: useless changes go, true ones stay, and the budget is never passed.

The runs are simulated; `tests.bench` prints the rates over many more campaigns.
"""

from __future__ import annotations

import pytest

from manyhands.teams.lab.gate import GateSettings, decide, holm
from manyhands.teams.lab.records import GateDecision
from manyhands.teams.lab.schema import AblationRules
from tests.studies.campaigns import end_of_campaign, rates


def test_useless_changes_are_dropped_and_true_ones_stay() -> None:
    found = rates((0.0, 2.0, 0.0, 2.0), 15)
    assert found.useless_dropped >= 0.95
    assert found.true_kept >= 0.98


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("heavy", [False, True], ids=["gaussian", "heavy-tailed"])
@pytest.mark.parametrize(
    ("gains", "kept"),
    [
        ((0.0,), None),
        ((0.0, 0.0, 0.0), None),
        ((0.0, 1.0, 1.0, 2.0), 0.95),
        ((0.0, 0.0, 2.0, 2.0, 2.0), 0.99),
    ],
    ids=["one useless", "three useless", "one of four", "two of five"],
)
def test_rates_over_many_campaigns(
    gains: tuple[float, ...], kept: float | None, heavy: bool
) -> None:
    found = rates(gains, 400, heavy=heavy)
    assert found.useless_dropped >= 0.95
    assert kept is None or found.true_kept >= kept


@pytest.mark.parametrize("runs", [0, 5, 12, 20, 60])
def test_no_budget_is_passed_and_what_it_did_not_do_for_stays(runs: int) -> None:
    ends = [end_of_campaign((0.0, 1.0, 3.0), seed, runs=runs) for seed in range(3)]
    assert all(end.runs <= runs for end in ends)
    if runs < 12:
        assert all(set(end.fates) == {"undecided"} for end in ends)
        assert not any(end.moved for end in ends)


def test_what_looks_most_needed_is_left_out_first_when_runs_are_short() -> None:
    ends = [end_of_campaign((0.0, 5.0), seed, runs=16) for seed in range(12)]
    assert all(end.fates[1] == "undecided" for end in ends)
    assert any(end.fates[0] == "dropped" for end in ends)


def test_changes_that_each_do_without_the_other_are_not_both_dropped() -> None:
    """Either alone gives the whole gain: each by itself seems unneeded, both are not."""
    both_gone = 0
    for seed in range(6):
        end = end_of_campaign((4.0, 4.0), seed, pairs={(0, 1): -4.0})
        both_gone += end.dropped == (True, True)
        assert any(end.dropped), "one of the two is not needed"
    assert both_gone == 0


def test_holm_spends_one_alpha_on_all() -> None:
    def ended(p: float, verdict: str = "promoted") -> GateDecision:
        return GateDecision.model_validate(
            {"verdict": verdict, "pairs": 8, "looks": 2, "gain": 1.0, "low": None, "high": None,
             "p_value": p, "alpha": 0.01, "reason": ""}
        )  # fmt: skip

    assert holm([ended(0.009), ended(0.02, "inconclusive"), None], 0.04) == (True, False, False)
    assert holm([ended(0.009), ended(0.014, "inconclusive"), None], 0.04) == (True, True, False)
    assert holm([ended(0.001, "not_better")], 0.04) == (False,)
    assert holm([], 0.04) == ()


def test_a_gate_at_a_smaller_alpha_needs_more_pairs() -> None:
    gains = [1.0 + 0.01 * n for n in range(12)]
    firsts = [decide(GateSettings(alpha=a), gains) for a in (0.05, 0.02, 0.005)]
    assert [d.pairs for d in firsts if d] == sorted({d.pairs for d in firsts if d})


def test_switched_off_rules_are_read() -> None:
    assert AblationRules().enabled
    with pytest.raises(ValueError, match="share"):
        AblationRules(share=0.9)
