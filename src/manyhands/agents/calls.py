"""Running what a model called, and writing calls and results into the history.

Invariants: results come in the order of the calls; every call gets exactly one result; what enters
the history is valid for any server, however broken the call was: its arguments are a JSON object,
its name is a name, its id is the only one of its kind.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, cast

from pydantic_core import to_jsonable_python

from manyhands.agents.approval import Approval, decided
from manyhands.agents.arguments import read_arguments
from manyhands.agents.deadline import Deadline
from manyhands.agents.encoding import clean, delimit, encode
from manyhands.agents.report import Report, Spend
from manyhands.agents.request import Limits
from manyhands.agents.tools import CallContext, Tool, Toolbox, cut, text_of
from manyhands.errors import (
    BudgetExceeded,
    InDoubt,
    JournalError,
    RunStopped,
    StepFailed,
    ToolError,
)
from manyhands.ports import ToolCall
from manyhands.runtime import Effect, Run

_NOTHING = Spend()
#: The type of the record of what was mended in a call: ``notes``, and ``tool`` or ``dialect``.
REPAIR = "agent:repair"


@dataclass(frozen=True, slots=True)
class CallResult:
    """``ran`` False: the call could not be run at all. ``usage``: of the agents that it ran.
    ``note``: what the harness says ahead of the result."""

    id: str
    tool: str
    text: str
    ok: bool
    ran: bool
    origin: str
    agent: str
    usage: Spend = _NOTHING
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Ready:
    tool: Tool
    arguments: dict[str, Any]


class Calls:
    """The calls of one agent, turn by turn."""

    def __init__(
        self,
        scope: Run,
        toolbox: Toolbox,
        limits: Limits,
        terminal: str,
        time: Deadline,
        approval: Approval = Approval(),  # noqa: B008 - frozen
    ) -> None:
        """``terminal``: the tool that hands in the answer ('': there is none). ``approval``: what
        a person is asked before it is run."""
        self._approval = approval
        self._time = time
        self._terminal = terminal
        self._scope = scope
        self._toolbox = toolbox
        self._limits = limits
        self._ids: set[str] = set()
        self._named: tuple[ToolCall, ...] = ()
        self._interrupted = False

    @property
    def interrupted(self) -> bool:
        """Whether a person has cut off a call of the last turn."""
        return self._interrupted

    def named(self, key: str, calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
        """The calls as the history holds them."""
        self._named = tuple(
            ToolCall(self._id(f"{key}/{i}", call.id), _name(call.name), _arguments(call.arguments))
            for i, call in enumerate(calls)
        )
        return self._named

    def again(self, named: tuple[ToolCall, ...]) -> None:
        """The next `run` is of these, as `named` gave them."""
        self._named = named

    def _id(self, key: str, given: str) -> str:
        if not re.fullmatch(r"[\w-]{1,64}", given, re.ASCII) or given in self._ids:
            given = hashlib.sha256(key.encode()).hexdigest()[:9]
        self._ids.add(given)
        return given

    async def run(
        self,
        key: str,
        calls: Sequence[ToolCall],
        given: Mapping[int, CallResult] = MappingProxyType({}),
    ) -> list[CallResult]:
        """Run them (after `named`), at most ``parallel_calls`` at once, begun in their order; but
        for those whose result is ``given``, by number.

        When one ends the run (`InDoubt`, …), the others still finish; then it is raised. When a
        person interrupts one, those that were not begun are not.
        """
        self._interrupted = False
        slots = asyncio.Semaphore(self._limits.parallel_calls)
        keys = [f"{key}/tool/{i}" for i in range(len(calls))]
        # Between a call's turn and its tool nothing is waited for: a replay has the same order.
        ready = [
            given.get(i) or await self._ready(keys[i], i, call, alone=len(calls) == 1)
            for i, call in enumerate(calls)
        ]

        async def one(i: int, call: ToolCall) -> CallResult:
            async with slots:
                return await self._one(keys[i], i, call, ready[i])

        jobs = [one(i, call) for i, call in enumerate(calls)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            raise min(failures, key=_urgency)
        return cast(list[CallResult], results)

    async def _ready(self, key: str, i: int, call: ToolCall, *, alone: bool) -> CallResult | _Ready:
        """The call as it can be run, its repairs journaled; or why it can not."""
        tool = self._toolbox.tools.get(call.name)
        origin = self._scope.key(key)
        refuse = partial(
            CallResult,
            self._named[i].id,
            call.name,
            ok=False,
            ran=False,
            origin=origin,
            agent="harness",
        )
        if i >= self._limits.calls_per_turn:
            return refuse(f"not run: at most {self._limits.calls_per_turn} calls in one turn")
        if tool is None:
            return refuse(self._unknown(call.name, alone))
        try:
            arguments, notes = tool.parse(call.arguments)
        except ToolError as error:
            return refuse(str(error))
        if notes:
            await self._scope.record(f"{key}/repair", REPAIR, {"tool": tool.name, "notes": notes})
        return _Ready(tool, arguments)

    async def _one(
        self, key: str, i: int, call: ToolCall, ready: CallResult | _Ready
    ) -> CallResult:
        if isinstance(ready, CallResult):
            return ready
        tool, arguments = ready.tool, ready.arguments
        taken = self._named[i].id
        if self._interrupted and not self._scope.begun(key):
            told = "not started: a person interrupted the turn before it could begin"
            return CallResult(taken, call.name, told, False, False, self._scope.key(key), "harness")
        note = ""
        if self._approval.asks(tool.name):
            approved = await self._approved(key, tool, taken, arguments)
            if isinstance(approved, CallResult):
                return approved
            arguments, note = approved
            # What a person changed is part of what the step was asked to do.
            if note:
                call = ToolCall(call.id, call.name, encode(arguments).decode())
        run = self._delegate if tool.effect is None else self._step
        done = await run(key, tool, call, arguments)
        return CallResult(
            taken,
            call.name,
            done.text,
            done.ok,
            True,
            self._scope.key(key),
            done.agent,
            done.usage,
            note,
        )

    async def _approved(
        self, key: str, tool: Tool, id: str, arguments: dict[str, Any]
    ) -> CallResult | tuple[dict[str, Any], str]:
        """The arguments to run it with, and what is said of them; or why it is not run."""
        asked = {"tool": tool.name, "arguments": to_jsonable_python(arguments, fallback=str)}
        refuse = partial(
            CallResult, id, tool.name, ok=False, ran=False, origin=self._scope.key(key)
        )
        try:
            said = await decided(self._scope, key, asked)
        except RunStopped as error:
            return refuse(f"not run: {error.what}", agent="harness")
        if said.decision == "deny":
            why = f": {said.note}" if said.note else ""
            return refuse(f"not run: a person said no{why}", agent="person")
        if said.arguments is None:
            return arguments, f"A person allowed it: {said.note}" if said.note else ""
        try:
            changed, _ = tool.parse(encode(said.arguments).decode())
        except ToolError as error:
            return refuse(f"not run: a person changed its arguments, and {error}", agent="person")
        told = encode(said.arguments).decode()
        return changed, f"A person changed its arguments to {told}. {said.note}".strip()

    def _unknown(self, name: str, alone: bool) -> str:
        if name == self._terminal and not alone:
            return f"not accepted: call `{name}` alone, after you have seen the other results"
        allowed = ", ".join(self._toolbox.tools) or "none"
        return f"there is no tool {name[:64]!r}; allowed: {allowed}"

    async def _step(self, key: str, tool: Tool, call: ToolCall, arguments: dict[str, Any]) -> _Done:
        scope = self._scope
        context = CallContext(scope.id, scope.path, scope.key(key), scope.idempotency_key(key))
        assert tool.effect is not None
        try:
            value = await scope.step(
                key,
                partial(_call, tool, context, arguments, scope.blob),
                call.name,
                call.arguments,
                effect=tool.effect,
                timeout=self._time.within(tool.seconds),
            )
        except StepFailed as error:
            if error.kind == "Interrupted":
                self._interrupted = True
                return _Done(self._cut_off(key, tool, error.message), False, f"tool:{tool.name}")
            return _Done(f"failed: {error.kind}: {error.message}", False, f"tool:{tool.name}")
        # A person who settles a call in doubt gives its result in any form.
        if isinstance(value, dict) and set(cast(Any, value)) == {"ok", "text"}:
            told = cast(dict[str, Any], value)
            return _Done(str(told["text"]), bool(told["ok"]), f"tool:{tool.name}")
        return _Done(text_of(value), True, "person")

    def _cut_off(self, key: str, tool: Tool, why: str) -> str:
        """What a call that a person interrupted may have done."""
        if not self._scope.started(key):
            return f"not started: {why}"
        if tool.effect is Effect.PURE:
            return f"cut off: {why}; it changes nothing, and may be called again"
        return f"cut off: {why}; whether it took effect is not known: look before you call it again"

    async def _delegate(
        self, key: str, tool: Tool, call: ToolCall, arguments: dict[str, Any]
    ) -> _Done:
        """The function's own steps are the journal; this only gives them a scope."""
        path = self._scope.key(key)
        try:
            async with self._scope.scope(key, self._time.budget()) as child:
                value = await tool.fn(child, **arguments)
        except (ToolError, StepFailed) as error:
            self._interrupted |= isinstance(error, StepFailed) and error.kind == "Interrupted"
            return _Done(str(error), False, path)
        except BudgetExceeded as error:
            if error.unit == "seconds" and error.scope == path:
                return _Done("not run to its end: your time is over", False, path)
            if error.unit != "depth":
                raise
            return _Done(f"not run: {error.what}", False, path)
        if isinstance(value, Report):
            report = cast(Report[Any], value)
            ok, path, usage = report.value is not None, report.agent, report.usage
            text = report.told()
        else:
            ok, usage, text = True, _NOTHING, clean(text_of(value))
        if len(text.encode()) > tool.result_bytes:
            text = cut(text, tool.result_bytes, await self._scope.blob(text.encode()))
        return _Done(text, ok, path, usage)


@dataclass(frozen=True, slots=True)
class _Done:
    text: str
    ok: bool
    agent: str
    usage: Spend = _NOTHING


async def _call(
    tool: Tool,
    context: CallContext,
    arguments: dict[str, Any],
    store: Callable[[bytes], Awaitable[str]],
    _name: str,
    _arguments: str,
) -> dict[str, Any]:
    try:
        text, ok = await tool.call(context, arguments), True
    except ToolError as error:
        text, ok = str(error), False
    raw = text.encode("utf-8", "replace")
    if len(raw) > tool.result_bytes:
        text = cut(text, tool.result_bytes, await store(raw))
    return {"ok": ok, "text": text}


def assistant_message(text: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
    """``calls`` as `Calls.named` gave them."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
    return message


def result_message(result: CallResult, salt: str) -> dict[str, Any]:
    """What a tool said is data; what the harness says of a call is not."""
    text = result.text
    if result.ran:
        label = "data" if result.ok else "error"
        text = delimit(label, text, f"{salt}/{result.origin}")
    text = f"{result.note}\n{text}" if result.note else text
    return {"role": "tool", "tool_call_id": result.id, "content": text}


def told_message(results: Sequence[CallResult], salt: str) -> dict[str, Any]:
    """The results as one message of a user, for a history in which calls are plain text."""
    told = [f"Result of `{r.tool}`:\n{result_message(r, salt)['content']}" for r in results]
    return {"role": "user", "content": "\n\n".join(told)}


def _urgency(error: BaseException) -> int:
    """What the run must hear of first: the journal is lost, a call is in doubt, all else."""
    if isinstance(error, JournalError):
        return 0
    return 1 if isinstance(error, InDoubt) else 2


def _name(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "unknown"


def _arguments(text: str) -> str:
    try:
        found, notes = read_arguments(text)
    except ToolError:
        return "{}"
    halves = "\\ud" in text.lower()  # an escape may stand for half of a pair, which `encode` mends
    return encode(found).decode() if notes or halves else text.strip() or "{}"
