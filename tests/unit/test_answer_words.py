"""Numbers, polarity, contradictions and the parts of a question, as tables of cases."""

from fractions import Fraction

import pytest

from manyhands.teams.answer.claims import Finding
from manyhands.teams.answer.contradictions import contradictions, denied
from manyhands.teams.answer.numbers_in_text import Quantity, quantities
from manyhands.teams.answer.parts import (
    independent_parts,
    parts_of,
    unaddressed,
    wants_decision,
)
from manyhands.teams.answer.polarity import clash
from manyhands.teams.answer.wording import read


def _first(text: str) -> Quantity:
    reading = read(text)
    return next(
        q for q in quantities(reading.tokens, reading.plain) if not q.weak or len(text) < 12
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("4,812", "4812"),
        ("$750 million", "$750m"),
        ("1.5 hours", "90 minutes"),
        ("3.25%", "3.25 percent"),
        ("half", "50%"),
        ("two thirds", "two thirds"),
        ("nineteen", "19"),
        ("thirty-eight", "38"),
        ("2.1 kg", "2.1 kilograms"),
        ("version 4.0", "version 4"),
        ("60 seconds", "60"),
        ("40k", "40,000"),
    ],
)
def test_equal_quantities(one: str, other: str) -> None:
    assert _first(one).equals(_first(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("4,812", "4,821"),
        ("30 seconds", "30 minutes"),
        ("8 TB", "8 GB"),
        ("version 3.1", "version 3.10"),
        ("-180", "180"),
        ("€20 million", "$20 million"),
        ("1.2 billion", "1.2 million"),
    ],
)
def test_different_quantities(one: str, other: str) -> None:
    assert not _first(one).equals(_first(other))


def test_a_range_has_the_unit_on_both_ends() -> None:
    reading = read("between 2 and 8 °C, 10–20 items")
    found = quantities(reading.tokens, reading.plain)
    assert [q.dimension for q in found[:2]] == ["temperature", "temperature"]
    assert [q.raw for q in found] == [Fraction(n) for n in (2, 8, 10, 20)]


@pytest.mark.parametrize(
    ("claim", "evidence"),
    [
        ("The flag is supported.", "The flag is not supported."),
        ("The flag is unsupported.", "The flag is supported."),
        ("Sales increased in May.", "Sales decreased in May."),
        ("Parsing runs before linking.", "Parsing runs after linking."),
        ("Reads are faster than writes.", "Writes are faster than reads."),
        ("Caching is enabled by default.", "Caching is disabled by default."),
        ("Retries are required.", "Retries are optional."),
        ("The upload may exceed 5 files.", "The upload may not exceed 5 files."),
        ("It is not true that the cache is shared.", "The cache is shared."),
    ],
)
def test_opposites_clash(claim: str, evidence: str) -> None:
    assert clash(claim, [evidence])


@pytest.mark.parametrize(
    ("claim", "evidence"),
    [
        ("The flag is unsupported.", "The flag is not supported."),
        ("Sales did not decrease.", "Sales increased."),
        ("Linking runs after parsing.", "Parsing runs before linking."),
        ("Writes are slower than reads.", "Reads are faster than writes."),
        ("At most five files may be uploaded.", "No more than 5 files may be uploaded."),
        ("It is fast.", "It is not only fast but small."),
        ("Nobody may enter.", "Entering is forbidden."),
        ("The file is not written.", "The file is never written, but the log is."),
        ("Der Schalter ist nicht da.", "Der Schalter ist da."),
    ],
)
def test_the_same_in_other_words_does_not_clash(claim: str, evidence: str) -> None:
    assert clash(claim, [evidence]) is None


def _findings(*texts: str) -> tuple[Finding, ...]:
    return tuple(Finding(text=text) for text in texts)


def test_workers_contradict_each_other_in_a_number_or_in_polarity() -> None:
    found = contradictions(
        {
            "a": _findings("The default timeout is 30 seconds.", "Sessions are shared by threads."),
            "b": _findings("The default timeout is 60 seconds.", "Tea grows in Assam."),
            "c": _findings("Sessions are not shared by threads.", "The timeout is 30 seconds."),
        }
    )
    assert {(c.workers, c.about) for c in found} == {
        (("a", "b"), "number"),
        (("a", "c"), "polarity"),
        (("b", "c"), "number"),
    }


def test_one_worker_is_not_set_against_itself() -> None:
    same = _findings("The limit is 5 files.", "The limit is 6 files.")
    assert contradictions({"a": same}) == ()


def test_what_a_report_denied_is_found_in_the_draft() -> None:
    (conflict,) = denied(
        _findings("Compression is supported by the gateway."),
        {"w1": _findings("Compression is not supported by the gateway.")},
    )
    assert conflict.workers == ("draft", "w1")


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("Compare FastAPI, Flask and Django for a small API", ("FastAPI", "Flask", "Django")),
        ("Redis vs Memcached for sessions", ("Redis", "Memcached")),
        ("What is the capital of France?", ("What is the capital of France",)),
        (
            "Why is the sky blue? How do rainbows form?",
            ("Why is the sky blue", "How do rainbows form"),
        ),
        ("1. What does it cost?\n2. Who pays for it?", ("What does it cost", "Who pays for it")),
        ("What is WAL and how does it work?", ("What is WAL", "how does it work")),
    ],
)
def test_the_parts_of_a_question(question: str, parts: tuple[str, ...]) -> None:
    assert parts_of(question) == parts


def test_what_is_not_addressed_is_named() -> None:
    question = "Compare FastAPI, Flask and Django for a small API"
    assert unaddressed(question, "FastAPI is fast; Django brings an ORM.") == ("Flask",)
    assert unaddressed(question, "FastAPI, Flask and Django all do.") == ()


def test_a_decision_and_independence() -> None:
    assert wants_decision("Which database should we choose?")
    assert not wants_decision("How does a database store rows?")
    assert independent_parts("Why is the sky blue? How do rainbows form?") == 2
    assert independent_parts("What is WAL and how does it work?") == 1
