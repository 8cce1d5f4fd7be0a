"""Into what parts a question falls, whether it asks for a choice, what an answer leaves out."""

import pytest

from manyhands.teams.answer.parts import (
    independent_parts,
    parts_of,
    unaddressed,
    wants_decision,
)

#: A question, its parts, how many can be worked on at once, whether it asks for a choice.
QUESTIONS = [
    ("How do I read a CSV file in Python?", ["How do I read a CSV file in Python"], 1, False),
    ("What is WAL and how does it work?", ["What is WAL", "how does it work"], 1, False),
    ("Why is the sky blue?", ["Why is the sky blue"], 1, False),
    ("Redis vs Memcached for sessions", ["Redis", "Memcached"], 2, False),
    ("Flask vs. Django vs. FastAPI", ["Flask", "Django", "FastAPI"], 3, False),
    ("Compare Kafka and RabbitMQ for event sourcing", ["Kafka", "RabbitMQ"], 2, False),
    ("Compare SQLite with Postgres", ["SQLite", "Postgres"], 2, False),
    (
        "What are the differences between threads, processes and coroutines?",
        ["threads", "processes", "coroutines"],
        3,
        False,
    ),
    (
        "What is the difference between a list and a tuple in Python?",
        ["a list", "a tuple"],
        2,
        False,
    ),
    ("Which is better, Vim or Emacs?", ["Which is better, Vim or Emacs"], 1, True),
    ("Should I use UUIDs as primary keys?", ["Should I use UUIDs as primary keys"], 1, True),
    ("Which database should we choose?", ["Which database should we choose"], 1, True),
    ("Which port does Redis listen on?", ["Which port does Redis listen on"], 1, False),
    ("Which of the two came first?", ["Which of the two came first"], 1, False),
    ("In which year was Python released?", ["In which year was Python released"], 1, False),
    ("What should a commit message contain?", ["What should a commit message contain"], 1, False),
    ("What happens if I should lose my key?", ["What happens if I should lose my key"], 1, False),
    ("What do you recommend for caching?", ["What do you recommend for caching"], 1, True),
    ("Is Rust worth learning?", ["Is Rust worth learning"], 1, True),
    ("How do I select a row in pandas?", ["How do I select a row in pandas"], 1, False),
    ("How do I pick a random element?", ["How do I pick a random element"], 1, False),
    ("Help me decide between Go and Rust", ["Go", "Rust"], 2, True),
    (
        "Why is the sky blue? How do rainbows form?",
        ["Why is the sky blue", "How do rainbows form"],
        2,
        False,
    ),
    (
        "What is a B-tree? Why do databases use it?",
        ["What is a B-tree", "Why do databases use it"],
        1,
        False,
    ),
    (
        "Who wrote Dune and when was Hyperion published?",
        ["Who wrote Dune", "when was Hyperion published"],
        2,
        False,
    ),
    (
        "1. What does it cost?\n2. Who pays for it?",
        ["What does it cost", "Who pays for it"],
        1,
        False,
    ),
    (
        "Answer these:\n- How long does a passport last?\n- What does a visa cost?",
        ["How long does a passport last", "What does a visa cost"],
        2,
        False,
    ),
    (
        "Explain (a) what a mutex is (b) what a semaphore is (c) when to use a spinlock",
        ["what a mutex is", "what a semaphore is", "when to use a spinlock"],
        3,
        False,
    ),
    ("What does `a and b` evaluate to?", ["What does `a and b` evaluate to"], 1, False),
    (
        "What does `if x is None or what is y` do?",
        ["What does `if x is None or what is y` do"],
        1,
        False,
    ),
    (
        "Why does this fail?\n```python\nx = [1, 2]. How = 3\nprint(x)?\n```",
        ["Why does this fail"],
        1,
        False,
    ),
    (
        "I have a list of 1,000 items. How do I sort it?",
        ["I have a list of 1,000 items. How do I sort it"],
        1,
        False,
    ),
    (
        "We run Postgres 14. Should we upgrade to 16?",
        ["We run Postgres 14. Should we upgrade to 16"],
        1,
        True,
    ),
    (
        "How many days are there between 3 May and 4 June?",
        ["How many days are there between 3 May and 4 June"],
        1,
        False,
    ),
    (
        "What happened in Berlin between 1945 and 1949?",
        ["What happened in Berlin between 1945 and 1949"],
        1,
        False,
    ),
    ("How do I connect Django to Postgres?", ["How do I connect Django to Postgres"], 1, False),
    ("What is Python 3.12 and when was it released?",
     ["What is Python 3.12", "when was it released"], 1, False),
    ("How does TLS work and what are its weaknesses?",
     ["How does TLS work", "what are its weaknesses"], 1, False),
    ("List the members of the EU and NATO.", ["List the members of the EU and NATO"], 1, False),
    ("What are salt and pepper used for?", ["What are salt and pepper used for"], 1, False),
    ("Compare the cost, speed and safety of trains and planes.",
     ["the cost", "speed", "safety of trains", "planes"], 4, False),
    ("How do I know whether a number is prime?",
     ["How do I know whether a number is prime"], 1, False),
]  # fmt: skip


@pytest.mark.parametrize(("question", "parts", "independent", "decision"), QUESTIONS)
def test_a_question_falls_into_parts(
    question: str, parts: list[str], independent: int, decision: bool
) -> None:
    assert list(parts_of(question)) == parts
    assert independent_parts(question) == independent
    assert wants_decision(question) is decision


#: An answer that speaks of every part, if in other words.
ADDRESSED = [
    ("How long does a passport last?", "It is valid for ten years."),
    ("Why is the sky blue? How do rainbows form?", "Air scatters blue light most; drops of rain"
     " bend sunlight into the colours of a rainbow."),
    ("What is WAL and how does it work?", "A write-ahead log: changes are appended to it first."),
    ("Redis vs Memcached for sessions", "Redis persists sessions; memcached does not."),
    ("Who wrote Dune and when was Hyperion published?",
     "Frank Herbert is the author of Dune. Hyperion came out in 1989."),
    ("What does a visa cost and how long is it valid?", "The fee is 80 euros. It lasts 90 days."),
    ("Compare SQLite with Postgres", "SQLite is embedded, PostgreSQL a server."),
    ("Which port does Redis listen on?", "6379."),
    ("Should I use UUIDs as primary keys?", "Yes, if several machines create rows."),
    ("What are the differences between threads and processes?",
     "A thread shares memory; each process has its own."),
    ("How do I sort a list, and how do I reverse it?", "Call sorted(); pass reverse=True."),
    ("Compare FastAPI, Flask and Django", "FastAPI, Flask and Django are frameworks."),
]  # fmt: skip

#: An answer that leaves out what is named.
LEFT_OUT = [
    ("Compare FastAPI, Flask and Django for an API", "FastAPI is fast; Django has an ORM.",
     ("Flask",)),
    ("Redis vs Memcached for sessions", "Redis persists sessions.", ("Memcached",)),
    ("What are the differences between threads, processes and coroutines?",
     "Threads share memory, processes do not.", ("coroutines",)),
    ("Who wrote Dune and when was Hyperion published?", "Frank Herbert wrote Dune.",
     ("when was Hyperion published",)),
    ("Why is the sky blue? How do rainbows form?", "The sky is blue since air scatters light.",
     ("How do rainbows form",)),
    ("Compare SQLite with Postgres", "SQLite is embedded.", ("Postgres",)),
    ("Compare Kafka and RabbitMQ for event sourcing", "Kafka keeps a log of events.",
     ("RabbitMQ",)),
    ("1. How long does a passport last?\n2. What does a visa cost?", "A passport lasts ten years.",
     ("What does a visa cost",)),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer"), ADDRESSED)
def test_an_answer_in_other_words_is_no_reason_to_complain(question: str, answer: str) -> None:
    assert unaddressed(question, answer) == ()


@pytest.mark.parametrize(("question", "answer", "missing"), LEFT_OUT)
def test_what_is_left_out_is_named(question: str, answer: str, missing: tuple[str, ...]) -> None:
    assert unaddressed(question, answer) == missing
