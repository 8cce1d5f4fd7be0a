"""What follows when a check flags a step of a role: data in the role's file.

Invariant: of several flags of a step the strictest policy counts; without a word on it a flag is
noted and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Policy(StrEnum):
    """From the mildest to the strictest.

    ``note``: the journal has it. ``nudge``: the model is told; a report that is flagged is not
    accepted. ``retry``: the step is taken out of what the model is shown, and it is asked again;
    what its calls did stays done. ``escalate``: the model is told, and the next one of the chain
    goes on. ``pause``: and the run waits for a person, across restarts.
    """

    NOTE = "note"
    NUDGE = "nudge"
    RETRY = "retry"
    ESCALATE = "escalate"
    PAUSE = "pause"


_RANK = {policy: rank for rank, policy in enumerate(Policy)}


class OnFlag(BaseModel):
    """``on_flag: nudge``, or a table of ``default``, ``most`` and policies by the check's name.

    ``most``: how often an agent's flags have consequences; those after it are noted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Policy = Policy.NOTE
    most: int = Field(default=3, ge=1)
    checks: dict[str, Policy] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"default": given}
        if not isinstance(given, dict) or "checks" in given:
            return cast(Any, given)
        found = cast(dict[str, Any], given)
        own = {key: value for key, value in found.items() if key in ("default", "most")}
        return {**own, "checks": {k: v for k, v in found.items() if k not in own}}

    @property
    def decides(self) -> bool:
        """Whether any flag can have a consequence."""
        return any(policy is not Policy.NOTE for policy in (self.default, *self.checks.values()))

    def of(self, checks: Iterable[str]) -> Policy:
        """What follows from flags of these checks."""
        return max((self.checks.get(name, self.default) for name in checks), key=_RANK.__getitem__)
