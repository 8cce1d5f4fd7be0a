"""Our own replies as steps.

Invariant: a reply is the same step live and read from the journal.
"""

from __future__ import annotations

from collections.abc import Sequence

from manyhands.agents.checks import ANSWER, FINISH
from manyhands.agents.report import Ending
from manyhands.agents.request import Attempt
from manyhands.agents.stepcheck.records import Call, Kind, Result, Step

#: Endings of a reply that holds no answer, accepted or not.
_STOPPED = frozenset(
    {
        *(Ending.UNANSWERED, Ending.QUESTION, Ending.REFUSED, Ending.EMPTY, Ending.CUT),
        *(Ending.BAD_CALL, Ending.LOOP, Ending.TOOLS, Ending.FILTERED),
    }
)


def step_of(
    attempt: Attempt,
    *,
    agent: str,
    role: str,
    index: int,
    at: str,
    results: Sequence[Result],
    given: Sequence[str],
    fault: str,
    tree: str,
) -> Step:
    """``fault``: the ending that the turn loop gave the reply ('': none)."""
    reported = attempt.reported
    return Step(
        agent=agent,
        role=role,
        index=index,
        text=attempt.text,
        kind=kind_of(attempt, fault),
        at=at,
        calls=tuple(Call(c.name, c.arguments, c.id) for c in attempt.calls),
        results=tuple(results),
        given=tuple(given),
        finish_reason=attempt.finish_reason,
        fault=fault,
        tokens=(reported or attempt.charged).output_tokens,
        seconds=attempt.seconds,
        tree=tree,
    )


def kind_of(attempt: Attempt, fault: str) -> Kind:
    calls = attempt.calls
    if len(calls) == 1 and calls[0].name in (ANSWER, FINISH):
        return Kind.REPORT
    return Kind.MODEL if calls or fault in _STOPPED else Kind.REPORT
