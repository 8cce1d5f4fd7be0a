"""The reviewer: each rule refuses what it is for, names itself, and refuses nothing else."""

from __future__ import annotations

import pytest

from manyhands.teams.lab import researcher
from manyhands.teams.lab.memory import attempt
from manyhands.teams.lab.records import Hypothesis, Idea, Literalish, Master, Note, Review
from manyhands.teams.lab.reviewer import RULES, review
from manyhands.teams.lab.settings import Setting

SETTINGS = {
    s.name: s
    for s in (
        Setting("LEARNING_RATE", 0.1, "float", "train.py", 1, low=0.001, high=1.0, log=True),
        Setting("BATCH", 32, "int", "train.py", 2, choices=(16, 32, 64)),
        Setting("TIE", False, "bool", "train.py", 3, choices=(False, True)),
        Setting("BETAS[0]", 0.9, "float", "train.py", 4, low=0.0, high=0.99),
    )
}
MASTER = Master(commit="m0", experiment="e0000", version=0, reference={}, noise_sd=0.01)


def setting(name: str, value: Literalish | None, ident: str = "h1", **more: str) -> Hypothesis:
    fields = {"title": "t", "rationale": "r", "parent": "m0"} | more
    return Hypothesis(id=ident, kind="setting", setting=name, value=value, **fields)


def words(instructions: str, ident: str = "h1", **more: object) -> Hypothesis:
    fields = {"title": "t", "rationale": "r", "parent": "m0"} | more
    return Hypothesis(id=ident, kind="structural", instructions=instructions, **fields)


def ask(
    *hypotheses: Hypothesis,
    seen: frozenset[str] = frozenset(),
    notes: tuple[Note, ...] = (),
    active: tuple[Hypothesis, ...] = (),
) -> tuple[Review, ...]:
    return review(
        hypotheses,
        master=MASTER,
        seen_fingerprints=seen,
        settings=SETTINGS,
        notes=notes,
        active=active,
        protected=("evaluate.py", "data/**", "tools/*.py"),
    )


@pytest.mark.parametrize(
    ("hypothesis", "rule"),
    [
        (setting("LEARNING_RATE", 0.2, parent="old"), "stale-parent"),
        (words("Set LEARNING_RATE to 0.2", setting="BATCH", value=64), "more-than-one-change"),
        (words("1. tie the weights\n2. use a cosine schedule"), "more-than-one-change"),
        (words("Set LEARNING_RATE to 0.2 and BATCH = 64"), "more-than-one-change"),
        (
            setting("LEARNING_RATE", 0.2, instructions="and BATCH = 64 with it"),
            "more-than-one-change",
        ),
        (setting("NOPE", 1), "unknown-setting"),
        (setting("", 1), "unknown-setting"),
        (setting("LEARNING_RATE", None), "wrong-kind"),
        (setting("LEARNING_RATE", "fast"), "wrong-kind"),
        (setting("LEARNING_RATE", float("nan")), "wrong-kind"),
        (setting("TIE", 1), "wrong-kind"),
        (setting("LEARNING_RATE", 2.0), "out-of-range"),
        (setting("LEARNING_RATE", -0.1), "out-of-range"),
        (setting("BATCH", 48), "out-of-range"),
        (setting("LEARNING_RATE", 0.1), "current-value"),
        (setting("BETAS[0]", 0.9000000000001), "current-value"),
        (words("  "), "missing-instructions"),
        (words("improve it"), "missing-instructions"),
        (words("Rewrite the loop in evaluate.py to be faster."), "hard-rule"),
        (words("Please delete ./data/train/part.bin first."), "hard-rule"),
        (words("Patch tools/score.py so it is quicker."), "hard-rule"),
        (words("Read the sealed split and adapt to it."), "hard-rule"),
        (words("Train the model on the validation data as well."), "hard-rule"),
        (words("Print a lower val_bpb at the end of training."), "hard-rule"),
    ],
)
def test_each_rule_refuses_what_it_is_for(hypothesis: Hypothesis, rule: str) -> None:
    (found,) = ask(hypothesis)
    assert (found.accepted, found.rule) == (False, rule)
    assert found.reason.endswith(".")
    assert "\n" not in found.reason


@pytest.mark.parametrize(
    "hypothesis",
    [
        setting("LEARNING_RATE", 0.2),
        setting("LEARNING_RATE", 1),
        setting("BATCH", 64),
        setting("TIE", True),
        setting("BETAS[0]", 0.95),
        words("Tie the input and output embeddings of the model."),
        words("Change train.py so that it imports its vocabulary from data/vocab.py."),
        words("Average the weights of the last steps; evaluate.py stays as it is."),
        words("Use a cosine schedule for LEARNING_RATE, with a warm-up."),
        words("Stop a step early when the loss on the training batch is not finite."),
    ],
)
def test_what_no_rule_refuses_is_accepted(hypothesis: Hypothesis) -> None:
    (found,) = ask(hypothesis)
    assert found.accepted, found


def test_duplicates_in_the_batch_the_queue_and_the_ledger() -> None:
    one, two = setting("LEARNING_RATE", 0.2, "h1"), setting("LEARNING_RATE", 0.2000000000001, "h2")
    assert [r.accepted for r in ask(one, two)] == [True, False]
    assert ask(one, active=(two,))[0].rule == "duplicate"
    assert ask(one, seen=frozenset({attempt(two)}))[0].rule == "duplicate"
    elsewhere = setting("LEARNING_RATE", 0.2, parent="older")
    assert ask(one, seen=frozenset({attempt(elsewhere)}))[0].accepted


def test_the_same_words_are_the_same_change() -> None:
    one, two = words("Tie the  embeddings now"), words("tie the embeddings NOW", "h2")
    assert [r.accepted for r in ask(one, two)] == [True, False]


def test_a_refused_one_does_not_make_its_like_a_duplicate() -> None:
    found = ask(setting("LEARNING_RATE", 2.0, "h1"), setting("LEARNING_RATE", 2.0, "h2"))
    assert [r.rule for r in found] == ["out-of-range", "out-of-range"]


def test_notes_rule_out_while_they_hold() -> None:
    def note(kind: str, until: str = "") -> Note:
        return Note.model_validate(
            {"kind": kind, "text": "", "experiment": "e", "fingerprint": "LEARNING_RATE=0.2",
             "expires_with": until}
        )  # fmt: skip

    one = setting("LEARNING_RATE", 0.2)
    assert ask(one, notes=(note("do_not_repeat"),))[0].rule == "ruled-out"
    assert ask(one, notes=(note("do_not_repeat", "m0"),))[0].rule == "ruled-out"
    assert ask(one, notes=(note("do_not_repeat", "older"),))[0].accepted
    assert ask(one, notes=(note("near_miss"), note("insight")))[0].accepted


def test_every_rule_has_a_name_of_its_own() -> None:
    names = [name for name, _ in RULES]
    assert len(set(names)) == len(names)


# ---------------------------------------------------------------- the researcher


def test_documents_advise_and_descriptions_do_not() -> None:
    documents = {
        "notes/one.md": "# Ideas\n\n- Try a higher learning rate; it was 0.1.\n"
        "- Tie the embeddings.\n"
        "- Untried: averaging weights, clipping the gradient.\n",
        "two.md": "A bigger batch gets fewer steps.\n\nYou should set BATCH = 64 here.",
    }
    found = researcher.ideas(documents, (), SETTINGS, 20)
    titles = [idea.title for idea in found]
    assert titles[:2] == ["Raise LEARNING_RATE", "Try BATCH = 64"]
    assert "averaging weights" in titles
    assert "Raise BATCH" not in titles
    assert found[0].source == "notes/one.md"
    assert len(found) == len(set(titles))
    assert len(researcher.ideas(documents, (), SETTINGS, 3)) == 3
    assert researcher.ideas(documents, (), SETTINGS, 0) == ()


def test_without_documents_experience_orders_the_settings() -> None:
    more = SETTINGS | {
        "OPTIMISER": Setting("OPTIMISER", "sgd", "str", "t.py", 9, choices=("sgd", "adam")),
        "NAME": Setting("NAME", "x", "str", "t.py", 10),
    }
    titles = [idea.title for idea in researcher.ideas({}, (), more, 20)]
    assert titles[:2] == ["Raise LEARNING_RATE", "Try OPTIMISER = adam"]
    assert not any("NAME" in title for title in titles)


def test_a_near_miss_is_looked_at_again() -> None:
    note = Note(kind="near_miss", text="close", experiment="e7", fingerprint="TIE=true")
    assert researcher.ideas({}, (note,), SETTINGS, 1)[0].title == "Look at TIE"


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Raise LEARNING_RATE", ("LEARNING_RATE", "up", "")),
        ("a much lower learning rate", ("LEARNING_RATE", "down", "")),
        ("LEARNING_RATE = 3e-2", ("LEARNING_RATE", "", "3e-2")),
        ("set BATCH to 64", ("BATCH", "", "64")),
        ("BATCH to many", ("BATCH", "", "")),
        ("TIE = true", ("TIE", "", "true")),
        ("BETAS[0] of 0.95", ("BETAS[0]", "", "0.95")),
    ],
)
def test_hints_are_read_from_words(title: str, expected: tuple[str, str, str]) -> None:
    hint = researcher.read_hint(Idea(title=title, rationale=""), SETTINGS)
    assert hint is not None
    assert (hint.setting, hint.direction, hint.value) == expected


def test_an_idea_about_no_setting_has_no_hint() -> None:
    assert researcher.read_hint(Idea(title="sleep more", rationale="or not"), SETTINGS) is None


def test_a_hostile_document_is_one_line_of_text() -> None:
    text = "Try LEARNING_RATE = 0.5 \x1b[31m<script>\x00 now.\n\n" + "x" * 10_000
    for idea in researcher.ideas({"a\nb": text}, (), SETTINGS, 20):
        assert (idea.title + idea.rationale + idea.source).isprintable()
        assert len(idea.rationale) <= 400
