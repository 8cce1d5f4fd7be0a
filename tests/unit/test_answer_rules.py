"""What the answer team decides without a model: route, plan, what is kept of a critic, the best
draft."""

from __future__ import annotations

import pytest

from manyhands.teams.answer.claims import Finding, Issue, IssueKind
from manyhands.teams.answer.critic import weighed
from manyhands.teams.answer.records import (
    CriticAnswer,
    Draft,
    Objection,
    Part,
    Subtask,
    Verdict,
    Way,
)
from manyhands.teams.answer.router import LEAST_REQUESTS, LEAST_TOKENS, by_rule
from manyhands.teams.answer.supervisor import faults, in_order

# -------------------------------------------------------------------- router

ROUTES = [
    ("How do I set a timeout in aiohttp?", Way.SINGLE, "rule:short"),
    ("What is the default port of PostgreSQL?", Way.SINGLE, "rule:short"),
    ("Compare FastAPI, Flask and Django for a small JSON API.", Way.TEAM, "rule:independent-parts"),
    ("Fact-check that the library retries twice by default.", Way.TEAM, "rule:verify"),
]


@pytest.mark.parametrize(("question", "way", "by"), ROUTES)
def test_rules_route_what_is_plain(question: str, way: Way, by: str) -> None:
    route = by_rule(question, "auto", None, None)
    assert route is not None
    assert (route.way, route.by) == (way, by)
    assert route.reason


def test_rules_leave_to_a_model_what_is_not_plain() -> None:
    question = (
        "We run a service that reads sensor data, keeps them for a year and shows them on a page "
        "that people open about once a week; what would you keep in mind about its storage?"
    )
    assert by_rule(question, "auto", None, None) is None


@pytest.mark.parametrize(
    ("tokens", "requests", "way"),
    [
        (LEAST_TOKENS, LEAST_REQUESTS, Way.TEAM),
        (LEAST_TOKENS - 1, None, Way.SINGLE),
        (None, LEAST_REQUESTS - 1, Way.SINGLE),
    ],
)
def test_a_small_budget_is_for_one_agent(
    tokens: int | None, requests: int | None, way: Way
) -> None:
    route = by_rule(ROUTES[2][0], "auto", tokens, requests)
    assert route is not None
    assert route.way is way


@pytest.mark.parametrize("wanted", ["single", "team"])
def test_what_is_asked_for_goes_before_all_rules(wanted: str) -> None:
    route = by_rule(ROUTES[0][0], wanted, 10, 1)
    assert route is not None
    assert (route.way, route.by) == (wanted, "order")


# -------------------------------------------------------------------- supervisor


def task(id: str, question: str = "", needs: tuple[str, ...] = ()) -> Subtask:
    asked = question or f"What do the documents say of {id} and its speed?"
    return Subtask(id=id, title=id, question=asked, needs=needs)


PLANS: list[tuple[list[Subtask], str]] = [
    ([task("alpha"), task("beta")], ""),
    ([task("alpha")], "1 subtasks; allowed: 2 to 4"),
    ([task(n) for n in ("a1", "b1", "c1", "d1", "e1")], "5 subtasks"),
    ([task("alpha"), task("alpha")], "'alpha' is given twice"),
    ([task("alpha", needs=("gamma",)), task("beta")], "needs 'gamma', which is not in the plan"),
    ([task("alpha", needs=("beta",)), task("beta", needs=("alpha",))], "go in a circle"),
    ([task("alpha", needs=("alpha",)), task("beta")], "go in a circle"),
    ([task("alpha", "Why?"), task("beta")], "alpha is not specific"),
    (
        [
            task("alpha", "How fast is the parser of the library?"),
            task("beta", "The parser of the library: how fast is it?"),
        ],
        "ask the same",
    ),
    (
        [
            task("alpha", "How fast is the parser of the library in Rust?"),
            task("beta", "How fast is the parser of the library in Python?"),
        ],
        "",
    ),
]


@pytest.mark.parametrize(("subtasks", "said"), PLANS)
def test_a_plan_is_checked(subtasks: list[Subtask], said: str) -> None:
    told = "; ".join(faults(subtasks))
    assert said in told if said else not told


def test_subtasks_come_after_what_they_need() -> None:
    plan = [task("c", needs=("b",)), task("a"), task("b", needs=("a",))]
    assert [each.id for each in in_order(plan)] == ["a", "b", "c"]


# -------------------------------------------------------------------- critic


def draft(*issues: Issue) -> Draft:
    findings = (Finding(text="Flask is small."), Finding(text="Django is large."))
    part = Part(subtask="a", title="A", findings=findings)
    return Draft(number=1, parts=(part,), by="combiner", issues=issues)


def objection(span: str, kind: IssueKind = IssueKind.VAGUE) -> Objection:
    return Objection(kind=kind, span=span, why="It is so.")


@pytest.mark.parametrize(
    ("objections", "verdict", "aside"),
    [
        ([objection("Flask is small.")], Verdict.REVISE, 0),
        ([objection("flask   is SMALL")], Verdict.REVISE, 0),
        ([objection("Rust is fast.")], Verdict.SHIP, 1),
        ([objection("")], Verdict.SHIP, 1),
        ([objection("", IssueKind.MISSING)], Verdict.REVISE, 0),
        ([], Verdict.SHIP, 0),
    ],
)
def test_an_objection_counts_where_it_names_what_is_there(
    objections: list[Objection], verdict: Verdict, aside: int
) -> None:
    said = CriticAnswer(verdict=Verdict.REVISE, issues=tuple(objections))
    critique = weighed(draft(), said, "m")
    assert critique.verdict is verdict
    assert len(critique.set_aside) == aside


def test_a_critic_that_ships_does_not_overrule_the_checks() -> None:
    found = Issue(kind=IssueKind.UNSUPPORTED, span="Flask is small.", why="no", by="check:quote")
    critique = weighed(draft(found), CriticAnswer(verdict=Verdict.SHIP), "m")
    assert critique.verdict is Verdict.REVISE
    assert critique.issues == (found,)


def test_what_the_checks_have_found_is_not_counted_twice() -> None:
    found = Issue(kind=IssueKind.VAGUE, span="Flask is small.", why="no", by="check:x")
    said = CriticAnswer(verdict=Verdict.REVISE, issues=(objection("Flask is small"),))
    assert weighed(draft(found), said, "m").issues == (found,)
