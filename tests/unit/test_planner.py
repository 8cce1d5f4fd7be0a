"""The planner: pure, one change at a time, never the same twice, and quick to find a gain."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from manyhands.teams.lab.axes import axis_of, read_value
from manyhands.teams.lab.looks import mixed
from manyhands.teams.lab.memory import fingerprint
from manyhands.teams.lab.planner import FILLERS, Planner
from manyhands.teams.lab.records import (
    Experiment,
    GateDecision,
    Hypothesis,
    Idea,
    Literalish,
    Master,
    Note,
    Verdict,
)
from manyhands.teams.lab.samplers import Kind
from manyhands.teams.lab.settings import Setting
from manyhands.teams.lab.trials import Board

SPACE = {
    s.name: s
    for s in (
        Setting("LEARNING_RATE", 0.1, "float", "train.py", 1, low=0.001, high=1.0, log=True),
        Setting("BATCH", 32, "int", "train.py", 2, choices=(8, 16, 32, 64, 128)),
        Setting("DEPTH", 2, "int", "train.py", 3, low=1, high=8),
        Setting("DECAY", 0.0, "float", "train.py", 4, low=0.0, high=0.1),
        Setting("ACTIVATION", "tanh", "str", "train.py", 5, choices=("relu", "tanh", "gelu")),
        Setting("TIE", False, "bool", "train.py", 6, choices=(False, True)),
        Setting("SEED", 1, "int", "train.py", 7),
    )
}
MASTER = Master(commit="m0", experiment="e0000", version=0, reference={1: 2.5}, noise_sd=0.01)


def propose(n: int = 4, next_id: int = 1, *, seed: int = 1, kind: Kind = "tpe", **kwargs: object):
    given_ = {"settings": SPACE, "master": MASTER, "history": (), "ideas": ()} | kwargs
    notes = given_.pop("notes", ())
    pending = given_.pop("pending", ())
    planner = Planner(seed, kind)
    return planner.propose(
        given_["settings"],
        given_["master"],
        given_["history"],
        given_["ideas"],
        n,
        next_id,
        notes=notes,
        pending=pending,
    )


def tried(
    ident: str,
    setting: str,
    value: Literalish,
    gain: float | None,
    verdict: Verdict = Verdict.NOT_BETTER,
    *,
    parent: str = "m0",
    candidate: str = "",
    title: str = "",
) -> Experiment:
    decision = None
    if verdict in (Verdict.PROMOTED, Verdict.INCONCLUSIVE):
        assert gain is not None
        decision = GateDecision(
            verdict=verdict.value, pairs=6, looks=2, gain=gain, low=gain - 0.01, high=gain + 0.01,
            p_value=0.01, alpha=0.05, reason="",
        )  # fmt: skip
    change = Hypothesis(
        id=ident, title=title, rationale="", kind="setting", parent=parent, setting=setting,
        value=value,
    )  # fmt: skip
    return Experiment(
        id=ident, hypothesis=change, candidate=candidate or ident, parent=parent, verdict=verdict,
        screen_gain=gain, decision=decision,
    )  # fmt: skip


KINDS: tuple[Kind, ...] = ("random", "tpe", "cmaes")


def many(count: int) -> list[Experiment]:
    """Trials of two settings, drawn once: a rate of 0.02 is best, no decay helps."""
    rng = random.Random(3)
    rates = [round(math.exp(rng.uniform(math.log(0.001), 0.0)), 4) for _ in range(count)]
    return [
        tried(f"e{n:04d}", "LEARNING_RATE", rate, 0.05 * (1.6 - abs(math.log(rate / 0.02))))
        if n % 2
        else tried(f"e{n:04d}", "DECAY", round(rate / 10, 5), -rate)
        for n, rate in enumerate(rates)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 30])
def test_a_proposal_is_a_pure_function_of_its_inputs(kind: Kind, count: int) -> None:
    history = many(count)
    once = propose(6, 31, history=history, kind=kind)
    assert once == propose(6, 31, history=list(reversed(history)), kind=kind)
    assert once != propose(6, 31, history=history, kind=kind, seed=2)


def test_chance_looks_everywhere_and_at_no_idea() -> None:
    ideas = (Idea(title="Try DEPTH = 4", rationale="capacity"),)
    found = [propose(1, n, seed=n, kind="random", ideas=ideas)[0] for n in range(1, 200)]
    counts = {name: sum(h.setting == name for h in found) for name in set(SPACE) - {"SEED"}}
    assert min(counts.values()) > 15, counts
    rates = sorted(float(h.value) for h in found if h.setting == "LEARNING_RATE")
    assert rates[0] < 0.004
    assert rates[-1] > 0.3
    assert 0.01 < rates[len(rates) // 2] < 0.1, "on the setting's own scale"


def test_cmaes_looks_near_the_best_trials() -> None:
    """Of its own points, most lie nearer to the best known rate than the master does."""
    space = {name: SPACE[name] for name in ("LEARNING_RATE", "DECAY")}
    found = propose(60, 31, history=many(30), kind="cmaes", settings=space)
    mine = [h for h in found if h.source == "optuna-cmaes (cmaes)"]
    rates = [float(h.value) for h in mine if h.setting == "LEARNING_RATE"]
    assert len(rates) >= 4
    nearer = sum(abs(math.log(r / 0.02)) < math.log(0.1 / 0.02) for r in rates)
    assert nearer / len(rates) > 0.7


def test_seeds_are_the_same_in_every_process() -> None:
    assert mixed(1, "a", 2.5) == 808200862


@pytest.mark.parametrize("kind", KINDS)
def test_each_hypothesis_is_one_new_value_on_the_master(kind: Kind) -> None:
    found = propose(8, kind=kind)
    assert [h.id for h in found] == [f"h{n:04d}" for n in range(1, 9)]
    assert [h.rank for h in found] == list(range(8))
    assert len({fingerprint(h) for h in found}) == 8
    for h in found:
        setting = SPACE[h.setting]
        assert h.kind == "setting"
        assert h.parent == "m0"
        assert h.value != setting.value
        assert h.source.startswith(FILLERS[kind])
        assert type(h.value) is type(setting.value)


def test_the_first_pass_looks_at_every_setting_that_can_be_searched() -> None:
    assert {h.setting for h in propose(6)} == set(SPACE) - {"SEED"}


def test_ideas_come_first_and_may_name_way_and_value() -> None:
    ideas = (
        Idea(title="Lower LEARNING_RATE", rationale="it diverges"),
        Idea(title="Try DEPTH = 4", rationale="capacity"),
        Idea(title="Fly to the moon", rationale="why not"),
    )
    first, second, *_ = propose(4, ideas=ideas)
    assert (first.setting, first.value) == ("DEPTH", 4)
    assert second.setting == "LEARNING_RATE"
    assert isinstance(second.value, float)
    assert second.value < 0.1


def test_what_was_tried_queued_refused_or_ruled_out_is_not_proposed() -> None:
    history = [
        tried("e0001", "TIE", True, -0.03),
        tried("e0002", "ACTIVATION", "relu", None, Verdict.REJECTED),
    ]
    pending = [tried("h9", "ACTIVATION", "gelu", None).hypothesis]
    notes = [Note(kind="do_not_repeat", text="", experiment="e", fingerprint="DEPTH=4")]
    found = propose(60, history=history, pending=pending, notes=notes)
    marks = [fingerprint(h) for h in found]
    assert len(set(marks)) == len(marks)
    assert not {"TIE=true", "ACTIVATION='relu'", "ACTIVATION='gelu'", "DEPTH=4"} & set(marks)
    assert not any(h.value == SPACE[h.setting].value for h in found)


def test_an_expired_note_rules_nothing_out() -> None:
    note = Note(
        kind="do_not_repeat", text="", experiment="e", fingerprint="TIE=true", expires_with="old"
    )
    assert "TIE=true" in {fingerprint(h) for h in propose(6, notes=[note])}


def test_an_exhausted_space_gives_fewer_and_an_empty_one_none() -> None:
    tiny = {"TIE": SPACE["TIE"]}
    assert len(propose(5, settings=tiny)) == 1
    assert propose(5, settings=tiny, history=[tried("e1", "TIE", True, -0.1)]) == ()
    assert propose(5, settings={"SEED": SPACE["SEED"]}) == ()
    assert propose(0) == ()


def test_a_choice_that_lost_is_looked_at_again_on_a_new_master() -> None:
    history = [tried("e0001", "TIE", True, -0.5), tried("e0002", "DECAY", 0.02, -0.5)]
    space = {name: SPACE[name] for name in ("TIE", "DECAY")}
    master = MASTER.model_copy(update={"commit": "m1"})
    found = propose(20, 3, settings=space, master=master, history=history)
    assert ("TIE", True) in {(h.setting, h.value) for h in found}
    assert ("DECAY", 0.02) not in {(h.setting, h.value) for h in found}


def test_after_a_promotion_the_same_step_is_taken_again() -> None:
    won = tried(
        "e0001", "LEARNING_RATE", 0.3, 0.2, Verdict.PROMOTED, candidate="m1",
        title="LEARNING_RATE 0.1 → 0.3",
    )  # fmt: skip
    master = MASTER.model_copy(update={"commit": "m1", "version": 1})
    space = SPACE | {"LEARNING_RATE": replace(SPACE["LEARNING_RATE"], value=0.3)}
    first = propose(1, 2, settings=space, master=master, history=[won])[0]
    assert first.setting == "LEARNING_RATE"
    assert isinstance(first.value, float)
    assert first.value == pytest.approx(0.9, rel=0.01)


def test_a_steep_loss_turns_the_step_around_at_once() -> None:
    first = propose(1, 2, history=[tried("e0001", "BATCH", 64, -0.5)])[0]
    assert (first.setting, first.value) == ("BATCH", 16)
    crashed = propose(1, 2, history=[tried("e0001", "DEPTH", 4, None, Verdict.CRASHED)])[0]
    assert (crashed.setting, crashed.value) == ("DEPTH", 1)


def test_gains_are_carried_over_to_the_present_master() -> None:
    history = [
        tried("e0001", "DEPTH", 4, 0.10),
        tried("e0002", "DEPTH", 3, 0.30, Verdict.PROMOTED, candidate="m1"),
        tried("e0003", "DECAY", 0.02, 0.05),
    ]
    master = MASTER.model_copy(update={"commit": "m1"})
    space = SPACE | {"DEPTH": replace(SPACE["DEPTH"], value=3)}
    points = {p.axis.name: p for p in Board.of(space, master, history[::2], (), ()).points}
    assert points["DEPTH"].gain == pytest.approx(0.10)
    points = {p.value: p for p in Board.of(space, master, history, (), ()).points}
    assert points[4].gain == pytest.approx(-0.20)
    assert points[3].gain == pytest.approx(0.0)
    assert points[0.02].gain == pytest.approx(0.05)


def test_a_confirmation_that_was_given_up_counts_as_a_failure() -> None:
    refusal = GateDecision(
        verdict="not_better", pairs=1, looks=0, gain=0.0, low=None, high=None, p_value=1.0,
        alpha=0.05, reason="its run with seed 7 ended as failed",
    )  # fmt: skip
    gave_up = tried("e1", "DEPTH", 4, 0.4).model_copy(update={"decision": refusal})
    assert Board.of(SPACE, MASTER, [gave_up], (), ()).points[0].gain is None


def test_expected_gain_is_known_only_near_trials() -> None:
    history = [tried("e0001", "LEARNING_RATE", 0.3, 0.05, Verdict.INCONCLUSIVE)]
    found = {h.setting: h.expected_gain for h in propose(7, 2, history=history)}
    assert found["DECAY"] is None
    assert found["LEARNING_RATE"] is not None
    assert found["LEARNING_RATE"] > 0


def test_tpe_takes_part_once_there_are_trials() -> None:
    rng = random.Random(3)
    values = [round(math.exp(rng.uniform(math.log(0.001), 0.0)), 4) for _ in range(30)]
    history = [
        tried(f"e{n:04d}", "LEARNING_RATE", v, -abs(math.log(v / 0.02)))
        for n, v in enumerate(values)
    ]
    found = propose(9, 31, history=history)
    assert sum("(tpe)" in h.source for h in found) == 3


@budget(max_examples=60, deadline=None)
@given(
    low=st.floats(1e-6, 1e3), factor=st.floats(1.01, 1e4), at=st.floats(0, 1), log=st.booleans(),
    step=st.floats(-1.5, 1.5), whole=st.booleans(),
)  # fmt: skip
def test_a_step_never_leaves_the_range(
    low: float, factor: float, at: float, log: bool, step: float, whole: bool
) -> None:
    high = low * factor
    value: float | int = low + at * (high - low)
    if whole:
        low, high = math.ceil(low), math.floor(high)
        value = min(max(round(value), int(low)), int(high))
    setting = Setting(
        "X", value, "int" if whole else "float", "f.py", 1, low=low, high=high, log=log
    )
    axis = axis_of(setting)
    if axis is None:
        assert not low < high
        return
    found = axis.stepped(step)
    assert axis.low <= found <= axis.high
    assert isinstance(found, int) == whole
    assert 0.0 <= axis.place(found) <= 1.0


def test_values_are_read_as_the_setting_would_take_them() -> None:
    rate, act = axis_of(SPACE["LEARNING_RATE"]), axis_of(SPACE["ACTIVATION"])
    assert rate is not None
    assert act is not None
    assert read_value(rate, "3e-2") == 0.03
    assert read_value(rate, "7") is None
    assert read_value(rate, "many") is None
    assert read_value(act, "GELU") == "gelu"


def test_it_finds_gains_faster_than_chance() -> None:
    """Three settings far from their best, two that do not matter; fifteen experiments each."""
    best = {"LEARNING_RATE": 0.01, "BATCH": 8, "DEPTH": 6}
    axes = {name: axis_of(setting) for name, setting in SPACE.items()}

    def loss(values: dict[str, Literalish]) -> float:
        return sum(
            (axis.place(values[n]) - axis.place(b)) ** 2
            for n, b in best.items()
            if (axis := axes[n]) is not None
        )

    def run(seed: int, planned: bool) -> float:
        rng = random.Random(seed)
        values = {name: s.value for name, s in SPACE.items()}
        start, commit, history = loss(values), "m0", []
        for n in range(1, 16):
            space = {name: replace(s, value=values[name]) for name, s in SPACE.items()}
            if planned:
                master = MASTER.model_copy(update={"commit": commit})
                h = propose(1, n, seed=seed, settings=space, master=master, history=history)[0]
                name, value, title = h.setting, h.value, h.title
            else:
                axis = rng.choice([a for a in axes.values() if a])
                name, title = axis.name, ""
                value = rng.choice(axis.options) if axis.options else axis.at(rng.random())
            assert value is not None
            gain = loss(values) - loss(values | {name: value})
            verdict = Verdict.PROMOTED if gain > 0.01 else Verdict.NOT_BETTER
            e = tried(f"e{n:04d}", name, value, gain, verdict, parent=commit, title=title)
            history.append(e)
            if verdict is Verdict.PROMOTED:
                values[name], commit = value, e.candidate
        return loss(values) / start

    seeds = range(6)
    planned = sum(run(seed, True) for seed in seeds) / len(seeds)
    chance = sum(run(seed, False) for seed in seeds) / len(seeds)
    assert planned < 0.6 * chance
    assert planned < 0.3
