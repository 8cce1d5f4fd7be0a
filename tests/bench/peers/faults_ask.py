"""What every contestant of the failure table is handed, and what it may hand back.

Invariant: all get the same task, the same tool, the same number of turns and the same deadline of a
request; everything else is what they do by default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel

from manyhands.testing.faults_task import TASK, Lookup

__all__ = ["INSTRUCTIONS", "TASK", "TURNS", "Ask", "Found", "NotDone"]

INSTRUCTIONS = "You find numbers with the tool that you have."
TURNS = 14


class Found(BaseModel):
    """The answer of those that are given a type for it."""

    number: int


class NotDone(Exception):
    """It says itself that it did not answer."""


@dataclass(frozen=True)
class Ask:
    """``seconds``: the client's timeout. ``typed``: with `Found` as the output's type."""

    url: str
    lookup: Lookup
    seconds: float
    streamed: bool
    typed: bool

    @property
    def look(self) -> Callable[[str, int], str]:
        lookup = self.lookup

        def look(key: str, floor: int) -> str:
            """Find the number of a key.

            Args:
                key: which key
                floor: on which floor
            """
            return lookup.look(key, floor)

        return look
