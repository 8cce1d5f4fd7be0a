"""The end of a campaign in words: every piece of advice has its number, and no text acts."""

from __future__ import annotations

from manyhands.teams.lab.outlook import Campaign, advice, end_markdown, interaction_text
from manyhands.teams.lab.records import (
    Ablated,
    Ablation,
    Experiment,
    Factorial,
    GateDecision,
    Hypothesis,
    Master,
    Verdict,
)
from manyhands.teams.lab.schema import SettingRange

MASTER = Master(commit="m", experiment="e1", version=1, reference={}, noise_sd=1.0)


def ended(ident: str, verdict: Verdict, gain: float = 1.0, **change: object) -> Experiment:
    told = {"promoted": "promoted", "inconclusive": "inconclusive"}.get(verdict, "not_better")
    decision = GateDecision.model_validate(
        {"verdict": told, "pairs": 28, "looks": 9, "gain": gain, "low": None, "high": None,
         "p_value": 0.2, "alpha": 0.05, "reason": ""}
    )  # fmt: skip
    fields = {"id": "h1", "title": f"change {ident}", "rationale": "", "kind": "setting",
              "parent": "m"}  # fmt: skip
    return Experiment(
        id=ident,
        hypothesis=Hypothesis.model_validate(fields | change),
        candidate="c",
        parent="m",
        verdict=verdict,
        decision=decision,
    )


def campaign(*experiments: Experiment, **more: object) -> Campaign:
    fields = {"ablation": Ablation(master="m"), "factorials": (), "ranges": {}, "reason": ""}
    return Campaign(experiments, MASTER, **(fields | more))  # type: ignore[arg-type]


def pair(interaction: float, low: float, high: float) -> Factorial:
    return Factorial(
        first="e1", second="e2", titles=("one", "two"), kind="promoted", seeds=10,
        interaction=interaction, low=low, high=high,
    )  # fmt: skip


def test_an_undecided_gain_is_advised_with_the_pairs_that_it_takes() -> None:
    (told,) = advice(campaign(ended("e3", Verdict.INCONCLUSIVE, 0.7)))
    assert "e3" in told
    assert "about 36 pairs" in told
    assert advice(campaign(ended("e3", Verdict.INCONCLUSIVE, -0.7))) == []


def test_a_setting_that_won_at_the_end_of_its_range_wants_a_wider_one() -> None:
    ranges = {"RATE": SettingRange(low=0.0, high=1.0), "DEPTH": SettingRange(low=1, high=9)}
    won = ended("e3", Verdict.PROMOTED, setting="RATE", value=1.0)
    told = advice(campaign(won, ranges=ranges))
    assert any("RATE" in text and "high end" in text for text in told)
    assert any("Never tried: DEPTH" in text for text in told)
    dropped = Ablated(experiment="e3", title="", fate="dropped", why="")
    gone = Ablation(master="m", lines=(dropped,))
    assert not any("end" in t for t in advice(campaign(won, ranges=ranges, ablation=gone)))


def test_interactions_are_told_by_their_evidence() -> None:
    helps, hinders, nothing = pair(2, 1, 3), pair(-2, -3, -1), pair(0.1, -1, 1)
    assert "help each other" in interaction_text(helps)
    assert "stand in each other's way" in interaction_text(hinders)
    assert "no evidence" in interaction_text(nothing)
    told = advice(campaign(factorials=(helps, hinders, nothing)))
    assert len(told) == 2
    assert "together" in told[0]
    assert "same work" in told[1]


def test_titles_are_inert_in_the_report() -> None:
    hostile = "**x** <b>\n# y\x1b[31m"
    line = Ablated(experiment="e1", title=hostile, fate="undecided", why=hostile, gains=(1.0,))
    found = campaign(
        ended("e9", Verdict.INCONCLUSIVE, 0.7, title=hostile),
        ablation=Ablation(master="m", lines=(line,)),
    )
    text = "\n".join(end_markdown(found))
    assert "\x1b" not in text
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "\n# y" not in text


def test_while_the_rounds_go_on_there_is_nothing_of_the_end() -> None:
    assert end_markdown(campaign(ablation=None)) == []
