"""Our own replies as steps: what kind of step a reply is, and what it took.

Invariant: a reply is the same step live and read from the journal.
"""

from __future__ import annotations

from manyhands.agents.checks import ANSWER, FINISH
from manyhands.agents.report import Ending
from manyhands.agents.request import Attempt
from manyhands.agents.stepcheck.records import Kind

#: Endings of a reply that holds no answer, accepted or not.
_STOPPED = frozenset(
    {
        *(Ending.UNANSWERED, Ending.QUESTION, Ending.REFUSED, Ending.EMPTY, Ending.CUT),
        *(Ending.BAD_CALL, Ending.LOOP, Ending.TOOLS, Ending.FILTERED),
    }
)


def kind_of(attempt: Attempt, fault: str) -> Kind:
    """``fault``: the ending that the turn loop gave the reply ('': none)."""
    calls = attempt.calls
    if len(calls) == 1 and calls[0].name in (ANSWER, FINISH):
        return Kind.REPORT
    return Kind.MODEL if calls or fault in _STOPPED else Kind.REPORT


def tokens_of(attempt: Attempt) -> int:
    reported = attempt.reported
    return reported.output_tokens if reported is not None else attempt.charged.output_tokens
