"""What a team is handed for one terminal task, and what it says of its spending.

A team is a function of an `Assignment` that returns a `Spent`; ours is `evals.assigned:solve`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from manyhands.ports import Sandbox, Sandboxes, SandboxLimits


@dataclass(frozen=True, slots=True)
class Assignment:
    """``sandboxes.open(base, place=place, env=env, limits=limits)`` is the workspace; what the team
    does there counts once it calls ``land`` with the sandbox that holds its result, still open.
    The last call decides. ``folder``: for the team's journal and reports. ``seconds``: of the whole
    work, None where nobody said.
    """

    instruction: str
    sandboxes: Sandboxes
    base: Path
    place: str
    model: str
    folder: Path
    land: Callable[[Sandbox], Awaitable[None]]
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """Of all agents together. ``outcome``: in a word, as complete or partial."""

    outcome: str
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None
