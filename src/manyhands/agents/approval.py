"""What an agent may do only once a person has said yes: data in its role's file.

Invariant: what waits for a person waits in the journal, across restarts, whoever asks and wherever
the answer comes from; until there is one nothing of it is begun.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from manyhands.agents.report import Spend
from manyhands.runtime import Run

#: The record of what waits for a decision; the wait has the key of it, with ``/decision``.
ASKED = "agent:approval"


class Approval(BaseModel):
    """``approval: [bash, "write*"]``, or a table of ``tools``, ``usd`` and ``tokens``.

    ``tools``: patterns of names, each call of which is asked for. ``usd``, ``tokens``: whenever the
    agent (with those below it) has spent so much more, it asks before its next request.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tools: tuple[str, ...] = ()
    usd: float | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"tools": [given]}
        return {"tools": cast(Any, given)} if isinstance(given, list) else given

    def asks(self, tool: str) -> bool:
        return any(fnmatchcase(tool, pattern) for pattern in self.tools)

    def due(self, before: Spend, now: Spend) -> str:
        """Why the next request is to be asked for; ``before``: at the last decision ('': not)."""
        tokens, usd = now.tokens - before.tokens, (now.micro_usd - before.micro_usd) / 1e6
        if self.tokens is not None and tokens >= self.tokens:
            return f"{tokens:,} tokens since the last decision; it asks every {self.tokens:,}"
        if self.usd is not None and usd >= self.usd:
            return f"{usd:.4g} USD since the last decision; it asks every {self.usd:.4g}"
        return ""


class Decision(BaseModel):
    """A person's word. ``arguments``: those to take in the place of the call's own. ``note``: what
    the agent is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision: Literal["approve", "deny"]
    note: str = ""
    arguments: dict[str, Any] | None = None


async def decided(scope: Run, key: str, asked: dict[str, Any]) -> Decision:
    """Ask a person, and wait. ``asked``: what for. Raises `RunStopped` where a stop comes first."""
    about = {"agent": scope.path, "wait": scope.key(f"{key}/decision")}
    await scope.record(f"{key}/approval", ASKED, about, value=asked)
    found: Decision = await scope.wait(f"{key}/decision", Decision)
    return found
