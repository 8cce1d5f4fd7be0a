"""Quotes and changes of ideas that papers support."""

from __future__ import annotations

import pytest

from manyhands.teams.lab.papers import already_there, cited, where
from manyhands.teams.lab.records import Citation, FoundIdea, Idea

PASSAGES = (
    ("p#1", "# Results\n\nA **warmdown** over the last\nfifth of the steps lowered the loss."),
    ("p#2", "It held for three sizes of the model; larger ones were not tried, for regu-\nlarity."),
)


@pytest.mark.parametrize(
    ("quote", "passage"),
    [
        ("A warmdown over the last fifth of the steps lowered the loss.", "p#1"),
        ("“a WARMDOWN over the last fifth”", "p#1"),
        ("three sizes of the model; larger ones were not tried", "p#2"),
        ("not tried, for regularity", "p#2"),
        ("lowered the loss. It held for three sizes", "p#1"),
        ("A warmdown over the last half of the steps lowered the loss", None),
        ("A warmdown of the steps lowered the loss", None),
        ("warmdown … lowered the loss", None),
        ("downover the last fifth of", None),
    ],
)
def test_a_quote_is_found_word_for_word(quote: str, passage: str | None) -> None:
    assert where(quote, PASSAGES) == passage


def test_what_the_program_has_is_no_idea() -> None:
    files = {"train.py": "RATE = 0.1\nvelocity = 0.9 * velocity\n"}
    assert "train.py, line 2" in already_there("velocity", files)
    assert "train.py, line 2" in already_there("`velocity`", files)
    assert already_there("velocity_two", files) == ""
    assert "marker" in already_there("", files)
    assert "marker" in already_there("--", files)


def test_cited_ideas_become_hypotheses_and_the_rest_is_the_planners() -> None:
    citation = Citation(paper="p", passage="p#1", quote="words")
    exact = FoundIdea(
        title="t", rationale="r", kind="setting", setting="RATE", value=0.1, citation=citation
    )
    vague = Idea(title="v", rationale="r")
    made, left = cited([vague, exact, exact], "abc", 7, 1)
    assert [(h.id, h.parent, h.setting, h.value) for h in made] == [("h0007", "abc", "RATE", 0.1)]
    assert made[0].citation == citation
    assert left[0] == vague
