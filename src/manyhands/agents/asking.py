"""An agent's requests: to which model of its chain, with what of its context, in which form.

Invariants: a request that is too long is sent again with less; one that its model cannot answer
goes to the next model of the chain; both are journaled, and bounded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from manyhands.agents.checks import Faulty, Output
from manyhands.agents.choice import Choice
from manyhands.agents.compaction import summing_up
from manyhands.agents.context import Context
from manyhands.agents.deadline import Deadline
from manyhands.agents.encoding import delimit
from manyhands.agents.report import Ending, Spend
from manyhands.agents.request import (
    TEMPLATE_TOKENS,
    Attempt,
    Bounds,
    Limits,
    Shown,
    ask,
)
from manyhands.agents.role import Role
from manyhands.agents.tools import Toolbox
from manyhands.errors import BudgetExceeded, ModelContextFull, StepFailed, ToolError
from manyhands.ports import Model, ModelRequest, Usage
from manyhands.runtime import Run

#: Tokens are at least about this long in what fills a context (code, logs, JSON).
_BYTES_PER_TOKEN = 3
#: How often one turn's request is sent anew, with less context or to another model.
_MOST_AGAIN = 12
TIME_OVER = "Your time is over."
#: A summary of turns that are left out: tokens that may be said, bytes that are kept of it; and
#: bytes that are summed up at once where the model's context is not known.
_SUMMARY_TOKENS, _SUMMARY_BYTES, _SUMMED_BYTES = 700, 3_000, 120_000
HARNESS = "harness"
#: Tokens that a report needs at least.
_LEAST_REPLY = 256


class Asking:
    """``model``: the one of the chain that is asked now; ``filler``: the one that spoke last, and
    ``origin`` the key of that request.

    ``usage``: of all its requests; ``reported``: tokens as the servers say. ``choice``: set once
    tool calls have given way to a schema.
    """

    def __init__(
        self,
        scope: Run,
        role: Role,
        chain: tuple[Model, ...],
        toolbox: Toolbox,
        output: Output[Any] | None,
        context: Context,
        limits: Limits,
        shown: Shown,
        time: Deadline,
    ) -> None:
        self._time = time
        self._scope = scope
        self._role = role
        self._toolbox = toolbox
        self._output = output
        self._context = context
        self._limits = limits
        self._shown = shown
        self.chain = chain
        self.model = chain[0]
        self.filler = self.model.name
        self.origin = ""
        self.usage = Spend()
        self.reported = 0
        self.fallbacks = 0
        self.choice: Choice | None = None
        self._max_tokens = role.max_tokens
        self.context_bytes = self._room(self.model)

    def begin(self, filler: str, context_bytes: int | None) -> None:
        """What the journal says of the start; another process may have other settings."""
        self.filler, self.context_bytes = filler, context_bytes

    def _room(self, model: Model) -> int | None:
        length = model.context_length
        if length is None:
            return None
        return max(length - self._role.max_tokens, length // 4) * _BYTES_PER_TOKEN

    async def request(self, key: str, *, final: bool = False) -> Attempt | Faulty:
        """The model's reply, or the chain's last error; or that it was given up on our side.

        ``final``: the answer is asked for, and no call.
        """
        attempt = await self._send(key, final=final)
        for again in range(1, _MOST_AGAIN):
            if isinstance(attempt, Faulty) or not attempt.error:
                break
            too_long = attempt.error == ModelContextFull.__name__
            place = f"{key}/again-{again}"
            shorter = too_long and await self._shrink(place, self._context.bytes * 2 // 3)
            if not shorter and not await self.next_model(place, attempt.message):
                break
            attempt = await self._send(place, final=final)
        return attempt

    def fit_into(self, tokens: int, key: str) -> None:
        """Make the last request one whose worst case is ``tokens``, if its context can be so short.

        It reserves a token for each byte that it sends, and as many as it may get back.
        """
        room = tokens - TEMPLATE_TOKENS
        room -= len(self._output.schema) if self._output is not None else 0
        self._context.shrink(
            room - min(self._max_tokens, tokens // 3), origin=self._scope.key(key), agent=HARNESS
        )
        self._max_tokens = max(_LEAST_REPLY, min(self._max_tokens, room - self._context.bytes))

    async def _send(self, key: str, *, final: bool) -> Attempt | Faulty:
        if self.context_bytes is not None and self._context.bytes > self.context_bytes:
            await self._shrink(f"{key}/context", self.context_bytes)
        await self._context.record(f"{key}/context", {"model": self.model.name})
        self.origin = self._scope.key(f"{key}/request")
        request = self._assemble(final=final)
        try:
            attempt = await ask(
                self._scope,
                f"{key}/request",
                self.model,
                request,
                bounds=Bounds.of(self.model, request, self._context.bytes),
                fingerprint=self._context.hash,
                limits=self._limits,
                tools=self._readable(final=final),
                spent=self.spent,
                shown=self._shown,
                time=partial(self._time.left, final=final),
            )
        except StepFailed as error:
            if error.kind == "Interrupted":
                return Faulty(Ending.INTERRUPTED, f"A person interrupted you: {error.message}")
            if error.kind == "TimeoutError":
                return Faulty(Ending.TIME, TIME_OVER)
            raise
        self.filler = attempt.model
        return attempt

    async def _shrink(self, key: str, limit: int) -> bool:
        """By rule first: old results become references. Where that is not enough, old turns are
        left out, summed up by the model if the role says so."""
        origin = self._scope.key(key)
        done = self._context.shorten(limit, origin=origin, agent=HARNESS)
        summary = ""
        if self._role.compaction == "model" and self._context.bytes > limit:
            limit -= min(_SUMMARY_BYTES, limit // 4)
            summary = await self._summary(key, self._context.oldest(limit))
        left = self._context.leave_out(limit, origin=origin, agent=HARNESS, summary=summary)
        return done + left > 0

    async def _summary(self, key: str, messages: Sequence[bytes]) -> str:
        """What was in ``messages``, in the model's words ('': it could not say)."""
        if not messages:
            return ""
        request = ModelRequest(
            messages=summing_up(messages, (self.context_bytes or _SUMMED_BYTES) // 2),
            max_tokens=_SUMMARY_TOKENS,
            temperature=0.0,
            seconds=self._limits.seconds,
            first_token_seconds=self._limits.first_token_seconds,
            idle_seconds=self._limits.idle_seconds,
            agent=self._scope.path,
        )
        size = sum(map(len, request.messages))
        try:
            attempt = await ask(
                self._scope,
                f"{key}/summary",
                self.model,
                request,
                bounds=Bounds.of(self.model, request, size),
                fingerprint=hashlib.sha256(b"".join(request.messages)).hexdigest(),
                limits=self._limits,
                tools={},
                spent=self.spent,
                time=self._time.left,
            )
        except StepFailed:
            return ""
        except BudgetExceeded as error:
            if error.scope != self._scope.path:
                raise
            return ""
        text = attempt.text.strip()[:_SUMMARY_BYTES]
        if not text:
            return ""
        marked = delimit("data", text, f"{self._scope.id}/{self._scope.key(key)}/summary")
        return f"Your summary of them:\n{marked}"

    def spent(self, spend: Spend, reported: Usage | None) -> None:
        self.usage += spend
        if reported is not None:
            self.reported += reported.input_tokens + reported.output_tokens

    # ---------------------------------------------------------------- the chain

    @property
    def is_last(self) -> bool:
        return self.fallbacks + 1 >= len(self.chain)

    async def use(self, key: str, name: str) -> None:
        """Go on with the model of the chain that is called ``name``. Raises `ToolError`."""
        found = next((each for each in self.chain if each.name == name), None)
        if found is None:
            names = ", ".join(each.name for each in self.chain)
            raise ToolError(f"there is no model {name!r} in the chain: {names}")
        done = self.fallbacks + 1
        rest = tuple(each for each in self.chain[done:] if each is not found)
        self.chain = (*self.chain[:done], found, *rest)
        await self.next_model(key, "a person chose it")

    async def next_model(self, key: str, why: str) -> bool:
        """Go on with the next model of the chain; False: there is none."""
        if self.is_last:
            return False
        self.fallbacks += 1
        following = self.chain[self.fallbacks]
        about = {"from": self.model.name, "to": following.name, "why": why}
        await self._scope.record(f"{key}/fallback", "agent:fallback", about)
        self.model = following
        self.context_bytes = self._room(following)
        self.choice = None
        return True

    # ---------------------------------------------------------------- the form

    @property
    def _callable(self) -> dict[str, Mapping[str, Any]]:
        found = dict(self._toolbox.schemas)
        if self._output is not None:
            found[self._output.name] = self._output.parameters
        return found

    async def change_form(self, key: str) -> str:
        """From tool calls to a schema over the tools. What the model is told ('': no change)."""
        if self.choice is not None or not len(self._toolbox) or self._output is None:
            return ""
        self.choice = Choice(self._callable)
        await self._scope.record(f"{key}/form", "agent:form", {"form": "schema"})
        return self.choice.instructions

    def _readable(self, *, final: bool) -> Mapping[str, Mapping[str, Any]]:
        """What may be called by a reply, for calls that stand in its text."""
        if final or not len(self._toolbox) or self.choice is not None:
            return {}
        return self._callable

    def _assemble(self, *, final: bool) -> ModelRequest:
        tools, schema = self._toolbox.encoded, None
        if self._output is not None and (final or not tools):
            # A schema for the whole reply is enforced where a forced call often is not.
            tools, schema = (), self._output.schema
        elif self.choice is not None:
            tools, schema = (), self.choice.schema
        elif self._output is not None:
            tools = (*tools, self._output.tool)
        return ModelRequest(
            messages=self._context.messages(),
            tools=tools,
            max_tokens=self._max_tokens,
            temperature=self._role.temperature,
            response_schema=schema,
            tool_choice="none" if final and tools else None,
            seconds=self._limits.seconds,
            first_token_seconds=self._limits.first_token_seconds,
            idle_seconds=self._limits.idle_seconds,
            agent=self._scope.path,
        )
