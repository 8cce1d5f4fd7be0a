"""The citation checks on citations whose truth is known, and case by case."""

import json
from collections import Counter
from pathlib import Path

import pytest

from manyhands.ports import Passage
from manyhands.teams.answer.citations import check_finding
from manyhands.teams.answer.claims import Citation, Finding, Issue, IssueKind
from tests.answer_corpus.corrupt import KINDS, corrupt

CORPUS = Path(__file__).parents[1] / "answer_corpus"
#: Of each kind and part; the development part is made of several seeds.
PER_KIND = 60
SEEDS = {"development": (7, 8, 9), "heldout": (7,)}
#: Whether a row keeps the denying words of what it cites; see the corpus's README.
LABELS = ("plain", "reworded")


def _rows(name: str) -> list[dict]:
    lines = (CORPUS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


RAW = {row["id"]: row for row in _rows("passages")}
PASSAGES = {
    id: Passage(id=id, source=id.split("#")[0], title=row["title"], text=row["text"], hash="")
    for id, row in RAW.items()
}


def _check(row: dict) -> tuple[Issue, ...]:
    finding = Finding(
        text=row["text"], citations=tuple(Citation(**citation) for citation in row["citations"])
    )
    return check_finding(finding, {c.passage: PASSAGES.get(c.passage) for c in finding.citations})


def _true(part: str, label: str) -> list[dict]:
    return [row for row in _rows(f"true_{part}") if row["label"] == label]


def _corrupted(part: str, label: str) -> list[dict]:
    """A corrupted row is plain where the true one is that it was made from."""
    true = _true(part, label)
    made = [row for seed in SEEDS[part] for row in corrupt(true, RAW, PER_KIND, seed)]
    return made + [row for row in _rows(f"subtle_{part}") if row["label"] == label]


def _refused(rows: list[dict]) -> list[dict]:
    """Those that any issue is found in, of whatever kind: one rule for the true and the false."""
    return [row for row in rows if _check(row)]


def _measure(label: str, part: str) -> tuple[float, dict[str, float]]:
    """The share of the true that is refused, and of each kind of corrupted that is caught."""
    true, corrupted = _true(part, label), _corrupted(part, label)
    refused, caught = _refused(true), _refused(corrupted)
    print(f"\n{part}, {label}: {len(refused)} of {len(true)} true refused")
    total, found = (Counter(row["kind"] for row in rows) for rows in (corrupted, caught))
    for kind in KINDS:
        print(f"  {kind:9} caught {found[kind]:3} of {total[kind]:3}")
    print(f"  all       caught {found.total():3} of {total.total():3}")
    rates = {kind: found[kind] / total[kind] for kind in KINDS}
    return len(refused) / len(true), rates | {"all": found.total() / total.total()}


def test_the_corpus_is_as_large_as_promised() -> None:
    true = [row for part in SEEDS for row in _true(part, "plain")]
    corrupted = [row for part in SEEDS for row in _corrupted(part, "plain")]
    by_hand = [row for part in SEEDS for row in _rows(f"subtle_{part}")]
    assert len(true) >= 600
    assert len(corrupted) >= 600
    assert len(by_hand) >= 140
    assert {row["kind"] for row in corrupted} == set(KINDS)
    assert {row["label"] for part in SEEDS for row in _rows(f"true_{part}")} == set(LABELS)


def test_the_parts_share_no_source() -> None:
    sources = {
        p: {c["passage"].split("#")[0] for row in _rows(f"true_{p}") for c in row["citations"]}
        for p in SEEDS
    }
    assert not sources["development"] & sources["heldout"]


# What counts as refused and as caught is the same: that there is an issue, of any kind. How far
# this holds on text that the rules have not seen: tests/answer_corpus/README.md.
@pytest.mark.parametrize(
    ("part", "refused_at_most", "caught_at_least"),
    [("development", 0.01, 0.99), ("heldout", 0.02, 0.985)],
)
def test_of_the_plain_rows_nearly_all_are_told_apart(
    part: str, refused_at_most: float, caught_at_least: float
) -> None:
    refused, caught = _measure("plain", part)
    assert refused <= refused_at_most
    assert caught["all"] >= caught_at_least
    assert caught["wrong-id"] >= 0.99
    assert caught["quote"] >= 0.99
    assert caught["number"] >= 0.97
    assert caught["negation"] >= 0.94


# What a denial becomes in other words cannot be read from the words alone: loosely bounded.
def test_of_the_reworded_rows_most_are_told_apart() -> None:
    refused, caught = _measure("reworded", "development")
    assert refused <= 0.40
    assert caught["all"] >= 0.85


# ------------------------------------------------ case by case

TEXT = (
    "The gateway keeps a connection for 30 seconds. It retries three times and then gives up. "
    "Compression is not supported. “Smart” quotes, soft\u00adhyphens and a *bold* `name` occur. "
    "The limit rose from 1,000 to 2,500 requests on 4 May 2023."
)
PASSAGE = Passage(id="gate.md#1", source="gate.md", title="Gateway", text=TEXT, hash="")


def _issues(text: str, quote: str, id: str = "gate.md#1") -> tuple[Issue, ...]:
    finding = Finding(text=text, citations=(Citation(passage=id, quote=quote),))
    return check_finding(finding, {"gate.md#1": PASSAGE, id: PASSAGE if id == PASSAGE.id else None})


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ("The gateway keeps connections for 30 s.", "keeps a connection for 30 seconds"),
        ("The gateway retries 3 times.", "It retries three times"),
        ("It retries and gives up.", "It retries … gives up"),
        ("The gateway does not support compression.", "compression is NOT supported"),
        ("Smart quotes occur.", '"Smart" quotes, softhyphens and a bold name occur'),
        ("The limit was 2500 requests from 4 May 2023.", "rose from 1,000 to 2,500 requests"),
        ("Half a minute is how long a connection is kept.", "keeps a connection for 30 seconds"),
    ],
)
def test_a_true_finding_has_no_issue(text: str, quote: str) -> None:
    assert _issues(text, quote) == ()


@pytest.mark.parametrize(
    ("text", "quote", "by", "named"),
    [
        ("It retries.", "It retries four times", "check:quote", "It retries three times"),
        ("It retries.", "the", "check:quote", "too short"),
        ("It retries.", "", "check:quote", "too short"),
        ("It retries 4 times.", "It retries three times", "check:number", "three"),
        (
            "Connections are kept 30 minutes.",
            "keeps a connection for 30 seconds",
            "check:number",
            "30",
        ),
        ("The limit rose on 4 June 2023.", "on 4 May 2023", "check:number", "may"),
        ("Compression is supported.", "Compression is not supported", "check:polarity", "not"),
        (
            "The limit fell to 2,500 requests.",
            "The limit rose from 1,000",
            "check:polarity",
            "rose",
        ),
        ("Whales sing at night.", "It retries three times", "check:coverage", "whale"),
    ],
)
def test_an_issue_says_what_the_passage_says(text: str, quote: str, by: str, named: str) -> None:
    issues = _issues(text, quote)
    assert by in {issue.by for issue in issues}
    assert any(named in issue.why.lower() or named in issue.why for issue in issues)


def test_an_unknown_passage_is_named_with_the_known_ones() -> None:
    (issue,) = _issues("It retries.", "It retries three times", "gate.md#9")
    assert "gate.md#9" in issue.why
    assert "gate.md#1" in issue.why


def test_a_finding_without_a_citation_is_unsupported() -> None:
    (issue,) = check_finding(Finding(text="It retries."), {})
    assert issue.kind is IssueKind.UNSUPPORTED


def test_a_long_passage_is_read_in_one_go() -> None:
    text = "word and no other, but 12 of them. " * 3000 + TEXT
    passage = Passage(id="long#1", source="long", title="", text=text, hash="")
    for quote in ("keeps a connection for 30 seconds", "word … gives up", "not there " * 20):
        finding = Finding(
            text="The gateway keeps a connection for 30 seconds.",
            citations=(Citation(passage="long#1", quote=quote),),
        )
        check_finding(finding, {"long#1": passage})


@pytest.mark.parametrize("text", ["答えは42です。", "Ответ не известен.", "الجواب ٤٢", "ไม่มี 5 ตัว"])
def test_other_languages_are_words_too(text: str) -> None:
    passage = Passage(id="a#1", source="a", title="", text=f"Intro. {text} End of it.", hash="")
    finding = Finding(text=text, citations=(Citation(passage="a#1", quote=text),))
    assert check_finding(finding, {"a#1": passage}) == ()
    other = Finding(text=text, citations=(Citation(passage="a#1", quote=f"{text} 乙丙丁"),))
    assert check_finding(other, {"a#1": passage})
