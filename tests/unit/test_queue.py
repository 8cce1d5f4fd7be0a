"""The queue: ranked by expected gain per run, and nothing in it that is there already."""

from __future__ import annotations

from manyhands.teams.lab.memory import in_force, keep, worth
from manyhands.teams.lab.preflight import grounds
from manyhands.teams.lab.queue import novelty, ranked
from manyhands.teams.lab.records import Experiment, Hypothesis, Master, Note, Verdict
from manyhands.teams.lab.schema import Promotion
from manyhands.teams.lab.study import Study, load_study
from tests.studies import HERE

STUDY: Study = load_study(HERE / "landscape")


def hypothesis(ident: str, gain: float | None, cost: float = 1.0) -> Hypothesis:
    return Hypothesis(
        id=ident, title=ident, rationale="", kind="structural", parent="m0",
        expected_gain=gain, expected_cost=cost,
    )  # fmt: skip


def test_what_gains_more_per_run_comes_first() -> None:
    proposed = [
        hypothesis("h1", None),
        hypothesis("h2", 1.0),
        hypothesis("h3", 3.0),
        hypothesis("h4", -2.0),
        hypothesis("h5", 3.0, cost=10.0),
    ]
    found = ranked(proposed, Promotion(), noise_sd=1.0)
    assert [h.id for h in found] == ["h1", "h2", "h3", "h4", "h5"]
    by_rank = sorted(found, key=lambda h: h.rank)
    assert [h.id for h in by_rank] == ["h3", "h2", "h5", "h1", "h4"]
    assert sorted(found, key=worth) == by_rank


def test_a_cost_is_of_the_screening_and_of_a_likely_confirmation() -> None:
    hopeless, likely = ranked(
        [hypothesis("h1", -5.0), hypothesis("h2", 5.0)], Promotion(), noise_sd=1.0
    )
    assert hopeless.expected_cost < 1.2
    assert 12 < likely.expected_cost < 15
    (unknown,) = ranked([hypothesis("h1", None)], Promotion(), noise_sd=0.0)
    assert unknown.expected_cost > 1


def test_the_reason_for_not_a_duplicate_names_the_program() -> None:
    assert "aaaaaaaaaaaa is none of the 2 tried" in novelty("a" * 64, {"b": "e1", "c": "e2"}).why
    repeated = novelty("b", {"b": "e1"})
    assert repeated.of == "e1"
    assert "is that of e1" in repeated.why


# ---------------------------------------------------------------- what notes rest on


def master(text: str, commit: str = "m1") -> Master:
    files = {"train.py": text}
    return Master(
        commit=commit, experiment="e1", version=1, reference={}, noise_sd=1.0,
        **grounds(STUDY, files),
    )  # fmt: skip


def noted(verdict: Verdict, parent: Master, **more: object) -> Note:
    change = {"setting": "A", "value": 1, "kind": "setting", "parent": parent.commit}
    experiment = Experiment.model_validate(
        {
            "id": "e2",
            "hypothesis": {"id": "h2", "title": "A", "rationale": ""} | change,
            "candidate": "c",
            "parent": parent.commit,
            "verdict": verdict,
        }
        | more
    )
    (note,) = keep(experiment, (), (), noise_sd=1.0, parent=parent)
    return note


def test_a_clear_loss_holds_until_code_or_a_choice_changes() -> None:
    text = 'A = 0\nKIND = "sgd"\n\n\ndef go():\n    return A\n'
    note = noted(Verdict.NOT_BETTER, master(text), screen_gain=-50.0)
    for later, holds in (
        (text.replace("A = 0", "A = 7"), True),
        (text.replace("def go", "# A comment.\ndef go"), True),
        (text.replace("sgd", "adam"), False),
        (text.replace("return A", "return A + 1"), False),
    ):
        assert bool(in_force([note], master(later, "m2"))) is holds, later


def test_a_loss_that_may_be_noise_holds_for_the_very_program_and_comes_back_with_it() -> None:
    note = noted(Verdict.NOT_BETTER, master("A = 0\nB = 0\n"), screen_gain=-1.0)
    assert not in_force([note], master("A = 0\nB = 1\n", "m2"))
    assert in_force([note], master("A = 0\nB = 0  # as it was\n", "m3"))


def test_a_crash_rests_on_the_structure() -> None:
    note = noted(Verdict.CRASHED, master("A = 0\nKIND = 'a'\n"))
    assert in_force([note], master("A = 3\nKIND = 'a'\n", "m2"))
    assert not in_force([note], master("A = 0\nKIND = 'b'\n", "m2"))


def test_files_that_cannot_be_read_stand_for_themselves() -> None:
    assert grounds(STUDY, {"train.py": "A = ("}) != grounds(STUDY, {"train.py": "A = (("})
