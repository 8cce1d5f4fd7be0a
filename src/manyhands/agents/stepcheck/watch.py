"""Checking an agent's steps while it works, and what follows from a flag.

Invariants: a flag is a pure function of what is journaled, so a replay flags the same; where a
flag decides something, what was flagged is a step's value, so a replay with other checks decides
the same; what an agent is told of its flags is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from manyhands.agents.calls import CallResult
from manyhands.agents.flagging import OnFlag, Policy
from manyhands.agents.report import Spend
from manyhands.agents.request import Attempt, Limits
from manyhands.agents.stepcheck.checking import BROKEN, STANDARD, Checker, StepCheck
from manyhands.agents.stepcheck.judge import judged
from manyhands.agents.stepcheck.records import Result, Source
from manyhands.agents.stepcheck.replies import step_of
from manyhands.errors import RoleError
from manyhands.ports import Model, Usage
from manyhands.runtime import Effect, Run

#: The type of the record of a step's flags. Its ``data``: ``policy``, ``flags``, and what a judge
#: said.
FLAG = "agent:flag"
#: Stands for what an agent was shown since a step that was taken back: nothing but the same again.
RETRIED = "(asked again)"


@dataclass(frozen=True, slots=True)
class Watch:
    """What is checked of an agent's steps. ``tree``: the state of its workspace, as a hash; it must
    be a function of what is journaled. ``judge``: a model that looks at each flagged step, and may
    take away what would follow."""

    checks: Mapping[str, StepCheck] = field(default_factory=lambda: STANDARD)
    tree: Callable[[], str] | None = None
    judge: Model | None = None

    def fits(self, on_flag: OnFlag, where: str) -> None:
        """Raises `RoleError` where a policy names a check that is not here."""
        for name in on_flag.checks:
            if name not in self.checks:
                raise RoleError(
                    f"{where}: on_flag names {name!r}; checks: {', '.join(self.checks)}",
                    next="correct or remove the name",
                )


@dataclass(frozen=True, slots=True)
class Told:
    """What follows from the flags of one step. ``message``: for whoever is to hear of it."""

    policy: Policy
    message: str


class Watching:
    """One agent that is watched (``watch`` None: it is not, and nothing of it is kept)."""

    def __init__(
        self,
        watch: Watch | None,
        scope: Run,
        role: str,
        tools: Sequence[str],
        on_flag: OnFlag,
        limits: Limits,
        spent: Callable[[Spend, Usage | None], None],
    ) -> None:
        """``spent`` is told what the judge's requests were charged."""
        self._limits = limits
        self._spent = spent
        self._watch = watch
        self._scope = scope
        self._role = role
        self._on_flag = on_flag
        known: dict[str, Mapping[str, Any]] = {name: {} for name in tools}
        checks: Mapping[str, StepCheck] = {} if watch is None else watch.checks
        self._checker = Checker(checks, {scope.path: Source(role, known)})
        self._steps = 0
        self._given: list[str] = []
        self._told = 0

    def hear(self, text: str) -> None:
        """The agent is shown this with its next request."""
        if self._watch is not None:
            self._given.append(text)

    async def see(
        self, key: str, attempt: Attempt, results: Sequence[CallResult] = (), fault: str = ""
    ) -> Told | None:
        """Check the step; journal its flags. None: nothing follows. ``fault``: what the turn loop
        found wrong with it, which it tells the model itself."""
        if self._watch is None:
            return None
        given, self._given = self._given, []
        index, self._steps = self._steps, self._steps + 1
        step = step_of(
            attempt,
            agent=self._scope.path,
            role=self._role,
            index=index,
            at=self._scope.key(key),
            results=_results(attempt, results),
            given=given,
            fault=fault,
            tree=self._watch.tree() if self._watch.tree is not None else "",
        )
        found = self._checker.see(step)
        flags = [flag.to_json() for flag in found]
        judge = self._watch.judge
        if self._on_flag.decides or (judge is not None and flags):
            flags = cast(
                list[dict[str, Any]],
                await self._scope.step(f"{key}/flags", lambda: flags, effect=Effect.PURE),
            )
        if not flags:
            return None
        policy = _policy(flags, self._on_flag)
        told_already = policy in (Policy.NUDGE, Policy.RETRY) and bool(fault)
        if policy is not Policy.NOTE and (told_already or self._told >= self._on_flag.most):
            policy = Policy.NOTE
        about: dict[str, Any] = {}
        if judge is not None:
            about["judge"] = await judged(
                self._scope, key, judge, step, flags, limits=self._limits, spent=self._spent
            )
            policy = Policy.NOTE if about["judge"].get("broken") is False else policy
        await self._scope.record(f"{key}/flag", FLAG, {"policy": policy, "flags": flags, **about})
        if policy is Policy.NOTE:
            return None
        self._told += 1
        if policy is Policy.RETRY:
            self._given.append(RETRIED)
        return Told(policy, _message(flags, self._on_flag))


def _results(attempt: Attempt, results: Sequence[CallResult]) -> list[Result]:
    """Of the calls that the reply made as such; a call by a schema over the tools is none."""
    pairs = zip(attempt.calls, results, strict=False)
    return [Result(r.tool, r.text, r.ok and r.ran, call.id, not r.ran) for call, r in pairs]


def _policy(flags: Sequence[Mapping[str, Any]], on_flag: OnFlag) -> Policy:
    names = [flag["check"] for flag in flags if flag["check"] != BROKEN]
    return on_flag.of(names) if names else Policy.NOTE


def _message(flags: Sequence[Mapping[str, Any]], on_flag: OnFlag) -> str:
    """Only what a policy is for; what is merely noted is not said."""
    lines = ["Your last step looks wrong to a check that no model made; it may be mistaken:"]
    for flag in flags:
        if _policy([flag], on_flag) is not Policy.NOTE:
            lines.append(f"- {flag['check']}: {flag['reason']}")
    lines.append("Look into it: correct it, or say in one sentence why it is right, and go on.")
    return "\n".join(lines)
