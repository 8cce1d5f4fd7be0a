"""When an agent's work is done, and how it is pushed on until then: data in the role's file.

Invariant: a reply that neither acts nor answers is named for what it is, and what follows is
bounded by numbers that a user can read beside the role's instructions.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from manyhands.agents.report import Ending


class Questions(StrEnum):
    """Who answers when an agent asks in place of acting.

    ``decide``: nobody; it is told to decide. ``person``: the run waits for one, across restarts.
    """

    DECIDE = "decide"
    PERSON = "person"


class Completion(BaseModel):
    """The completion contract of a role.

    ``requires``: tools that must have worked at least once before an answer is accepted.
    ``finish``: the answer is handed in with the tool ``finish``; without, a typed one is with
    ``answer``, and a plain one is its first text. ``nudges``: replies in a row without progress
    that are answered by a push; then the next model of the chain has its turn, then a partial
    report is asked for (0: it ends at the first). ``repairs``: answers in a row that do not fit
    their type, shown back. ``repeats``: how often a circle of up to five turns with the same
    results is a loop.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    requires: tuple[str, ...] = ()
    finish: bool = False
    nudges: int = Field(default=5, ge=0)
    repairs: int = Field(default=2, ge=0)
    repeats: int = Field(default=3, ge=2)
    questions: Questions = Questions.DECIDE

    def missing(self, used: Collection[str]) -> tuple[str, ...]:
        """Of the required tools, those that have not worked yet."""
        return tuple(name for name in self.requires if name not in used)


_REFUSAL = re.compile(
    r"\W*(i['’]m sorry,? (but )?i|i (can(no|['’])t|am unable to|am not able to|won['’]t)"
    r"( help| assist| comply| do that| continue))",
    re.IGNORECASE,
)


def stopped_by(text: str) -> Ending:
    """What a reply is that holds neither a call nor an answer: a refusal, a question to a person,
    or a stop before the work is done."""
    if _REFUSAL.match(text):
        return Ending.REFUSED
    last = text.strip().splitlines()[-1].rstrip(" *_`\"')") if text.strip() else ""
    return Ending.QUESTION if last.endswith(("?", "？", "؟")) else Ending.UNANSWERED
