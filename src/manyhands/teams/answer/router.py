"""One agent or a team: rules first, a model only where they are unsure.

A team takes about three times the tokens of one agent (measured on published systems: 3 to 15
times), so it has to be worth it: independent parts, or a second look. Where nothing speaks for it,
one agent answers.
"""

from __future__ import annotations

import re

from manyhands.runtime import Effect, Run
from manyhands.teams.answer.case import Case
from manyhands.teams.answer.parts import independent_parts
from manyhands.teams.answer.records import Route, RouteAnswer, Way

#: What a team needs at least: the worst case of a request is reserved, for several agents at once.
LEAST_TOKENS, LEAST_REQUESTS = 60_000, 12
#: A question of one part and no more words than this is for one agent.
SHORT = 25
#: So many independent parts are worth a team, whatever else.
MANY = 3

_VERIFY = re.compile(
    r"\b(verify|verif(ied|ication)|double[- ]check|fact[- ]check|cross[- ]check|make sure|"
    r"critical|with evidence)\b",
    re.IGNORECASE,
)


async def choose(run: Run, case: Case) -> Route:
    """The route, with its reason."""
    limits = await run.step(
        "budget-left",
        lambda: {unit: run.remaining(unit) for unit in ("tokens", "requests")},
        effect=Effect.PURE,
    )
    route = by_rule(case.order.question, case.order.route, limits["tokens"], limits["requests"])
    return route or await _by_model(run, case)


def by_rule(question: str, wanted: str, tokens: int | None, requests: int | None) -> Route | None:
    """None: the rules are unsure. ``tokens``, ``requests``: what is left of a budget."""
    if wanted != "auto":
        return Route(way=Way(wanted), reason="asked for", by="order")
    for left, least, unit in (
        (tokens, LEAST_TOKENS, "tokens"),
        (requests, LEAST_REQUESTS, "requests"),
    ):
        if left is not None and left < least:
            told = f"a budget of {left} {unit} is too small for a team, which takes {least}"
            return Route(way=Way.SINGLE, reason=told, by="rule:budget")
    parts = independent_parts(question)
    if parts >= MANY:
        told = f"{parts} parts that can be looked into at once"
        return Route(way=Way.TEAM, reason=told, by="rule:independent-parts")
    if _VERIFY.search(question):
        return Route(way=Way.TEAM, reason="the question asks to be verified", by="rule:verify")
    if parts <= 1 and len(question.split()) <= SHORT:
        told = "a short question of one part: more agents would cost more and find the same"
        return Route(way=Way.SINGLE, reason=told, by="rule:short")
    return None


async def _by_model(run: Run, case: Case) -> Route:
    report = await case.ask(run, "router", f"The question:\n{case.question}", RouteAnswer)
    if report.value is None:
        told = f"the router gave no answer ({report.ending}); one agent is the cheaper mistake"
        return Route(way=Way.SINGLE, reason=told, by="rule:unsure")
    return Route(way=report.value.way, reason=report.value.reason, by=report.author)
