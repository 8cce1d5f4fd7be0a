"""One request to a model: reserve the worst case, send, settle by sane usage; again if it may help.

Invariants: every attempt is a step of the run and counts as a request; what is charged is never
above the reservation, and never below what the bytes that went over the wire must have cost,
whatever the server says; where it says otherwise, the attempt says so (``dispute``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict

from manyhands.agents.hearing import hear
from manyhands.agents.report import Spend
from manyhands.errors import ModelError, ModelOverloaded, StepFailed
from manyhands.ports import Model, ModelReply, ModelRequest, Price, ToolCall, Usage
from manyhands.runtime import Effect, Run

#: What a server's chat template may add to a request: its own preambles, in tokens.
TEMPLATE_TOKENS = 512
#: A token stands for at least one byte, and on average for no more than this many.
MOST_BYTES_PER_TOKEN = 16
#: Assumed where a server reports nothing: on the safe side of ordinary text (3 to 4).
ASSUMED_BYTES_PER_TOKEN = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one agent's loop that are not part of its role.

    ``attempts``: of one request. ``first_wait`` seconds before the second attempt, doubled for
    each further one up to ``cap``; a server's ``Retry-After`` goes before, up to ``max_wait``:
    one that asks for more is given up. ``parallel_calls`` run at once; ``calls_per_turn`` run at
    all. ``seconds``: of one request, ``first_token_seconds`` until a streamed one begins, and
    ``idle_seconds`` of silence within it. ``report_seconds``: where the agent's scope has a limit
    of time, so much of it (a quarter, if that is less) is kept for its report.
    """

    attempts: int = 4
    first_wait: float = 0.5
    cap: float = 30.0
    max_wait: float = 300.0
    parallel_calls: int = 4
    calls_per_turn: int = 16
    seconds: float = 300.0
    first_token_seconds: float = 120.0
    idle_seconds: float = 120.0
    report_seconds: float = 30.0


class Attempt(BaseModel):
    """What one attempt came to; a step's value, so a replay sees the same.

    Either a reply or an error (its class name). ``reported``: the server's own words. ``said``: the
    text as it came, where ``text`` is another; ``dialect``, ``repairs``, ``errors``: as in `Heard`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    charged: Spend
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish_reason: str = ""
    reasoning: str = ""
    said: str = ""
    dialect: str = ""
    repairs: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    reported: Usage | None = None
    dispute: str = ""
    error: str = ""
    message: str = ""
    retryable: bool = False
    retry_after: float | None = None
    seconds: float = 0.0
    queued_seconds: float = 0.0
    first_token_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a request can cost at least and at most, from its bytes."""

    input_bytes: int
    input_most: int
    output_most: int
    price: Price | None

    @classmethod
    def of(cls, model: Model, request: ModelRequest, message_bytes: int) -> Bounds:
        """``message_bytes``: of all encoded messages (known to the caller, so not summed again)."""
        size = message_bytes + sum(map(len, request.tools)) + len(request.response_schema or b"")
        most = size + TEMPLATE_TOKENS
        if model.context_length is not None:
            most = min(most, model.context_length)
        return cls(size, most, request.max_tokens, model.price)

    @property
    def worst(self) -> Spend:
        return self.spend(self.input_most, self.output_most)

    def cost(self) -> dict[str, int]:
        """The reservation."""
        return self.amounts(self.worst)

    def amounts(self, spend: Spend) -> dict[str, int]:
        found = {"requests": spend.requests, "tokens": spend.tokens}
        return found if self.price is None else {**found, "micro_usd": spend.micro_usd}

    def spend(self, input_tokens: int, output_tokens: int) -> Spend:
        price = self.price or Price(0.0, 0.0)
        money = input_tokens * price.input_per_million + output_tokens * price.output_per_million
        return Spend(
            requests=1,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            micro_usd=math.ceil(money),
        )

    def settle(self, usage: Usage | None, output_bytes: int) -> tuple[Spend, str]:
        """What to charge for a reply, and how the server's figures were out of bounds ('': not)."""
        if usage is None:
            return self.spend(
                min(self.input_most, self.input_bytes // ASSUMED_BYTES_PER_TOKEN + 1),
                min(self.output_most, output_bytes // ASSUMED_BYTES_PER_TOKEN + 1),
            ), "the server reported no usage: assumed from the bytes"
        least = min(self.input_most, self.input_bytes // MOST_BYTES_PER_TOKEN)
        put = min(max(usage.input_tokens, least), self.input_most)
        least = min(self.output_most, output_bytes // MOST_BYTES_PER_TOKEN)
        got = min(max(usage.output_tokens, least), self.output_most)
        if usage.input_tokens + usage.output_tokens > self.worst.tokens:
            put, got = self.input_most, self.output_most  # as the budget books it (`_claimed`)
        wrong = [
            f"{what} {said} reported, {taken} charged"
            for what, said, taken in (
                ("input", usage.input_tokens, put),
                ("output", usage.output_tokens, got),
            )
            if said != taken
        ]
        return self.spend(put, got), "; ".join(wrong)


class Shown:
    """What somebody watches of the attempts at one request.

    ``on_text`` gets the pieces of a reply as they come; ``on_void`` is called when those that it
    got since the last whole reply are of none: an attempt failed or was given up in mid-stream.
    The next attempt begins from the reply's first word.
    """

    def __init__(
        self,
        on_text: Callable[[str], None] | None = None,
        on_void: Callable[[], None] | None = None,
    ) -> None:
        self._on_text = on_text
        self._on_void = on_void
        self._pieces = 0

    @property
    def on_text(self) -> Callable[[str], None] | None:
        return None if self._on_text is None else self._piece

    def _piece(self, text: str) -> None:
        assert self._on_text is not None
        self._pieces += 1
        self._on_text(text)

    def end(self, *, void: bool) -> None:
        """The attempt is over, and came to a reply or not."""
        if void and self._pieces and self._on_void is not None:
            self._on_void()
        self._pieces = 0


async def ask(
    run: Run,
    key: str,
    model: Model,
    request: ModelRequest,
    *,
    bounds: Bounds,
    fingerprint: str,
    limits: Limits,
    tools: Mapping[str, Mapping[str, Any]],
    spent: Callable[[Spend, Usage | None], None],
    shown: Shown | None = None,
    time: Callable[[], float | None] = lambda: None,
) -> Attempt:
    """The last attempt at ``request``, which decides; steps are ``key/1``, ``key/2``, …

    ``fingerprint`` stands for the request in the journal; ``tools`` (name -> JSON schema) is what a
    call in its text is read by; ``time``: seconds that an attempt may take; ``spent`` is told what
    every attempt was charged, and what the server says. Raises `BudgetExceeded` where the worst
    case does not fit, and `StepFailed` for what is not the model's fault: an interrupt, or the end
    of a scope's time.
    """
    shown = shown or Shown()
    number = 0
    while True:
        number += 1
        try:
            attempt: Attempt = await run.step(
                f"{key}/{number}",
                partial(_send, model, request, bounds, tools, shown.on_text),
                fingerprint,
                effect=Effect.IDEMPOTENT,
                returns=Attempt,
                cost=bounds.cost(),
                usage=lambda a: _claimed(bounds, a),
                timeout=time(),
            )
        except StepFailed:
            spent(bounds.worst, None)
            shown.end(void=True)
            raise
        spent(attempt.charged, attempt.reported)
        shown.end(void=bool(attempt.error))
        wait = _wait(attempt, number, limits)
        if wait is None:
            return attempt
        await run.sleep(f"{key}/{number}/wait", wait)


async def _send(
    model: Model,
    request: ModelRequest,
    bounds: Bounds,
    tools: Mapping[str, Mapping[str, Any]],
    on_text: Callable[[str], None] | None,
    _fingerprint: str,
) -> Attempt:
    try:
        reply = await model.request(request, on_text)
    except ModelError as error:
        return Attempt(
            model=model.name,
            charged=bounds.worst if error.may_have_spent else bounds.spend(0, 0),
            error=type(error).__name__,
            message=str(error),
            retryable=error.retryable,
            retry_after=error.retry_after if isinstance(error, ModelOverloaded) else None,
        )
    charged, dispute = bounds.settle(reply.usage, _size(reply))
    heard = hear(reply, tools)
    return Attempt(
        model=model.name,
        charged=charged,
        text=heard.text,
        calls=heard.calls,
        finish_reason=reply.finish_reason,
        reasoning=heard.reasoning,
        said=heard.said,
        dialect=heard.dialect,
        repairs=heard.repairs,
        errors=heard.errors,
        reported=reply.usage,
        dispute=dispute,
        seconds=reply.seconds,
        queued_seconds=reply.queued_seconds,
        first_token_seconds=reply.first_token_seconds,
    )


def _size(reply: ModelReply) -> int:
    """Characters, which are no more than the bytes."""
    said = len(reply.text) + len(reply.reasoning)
    return said + sum(len(c.name) + len(c.arguments) for c in reply.tool_calls)


def _claimed(bounds: Bounds, attempt: Attempt) -> dict[str, int]:
    """What is charged; a total above the reservation is passed on, so that the runtime notes it."""
    amounts = bounds.amounts(attempt.charged)
    if attempt.reported is not None:
        said = attempt.reported.input_tokens + attempt.reported.output_tokens
        if said > bounds.input_most + bounds.output_most:
            amounts["tokens"] = said
    return amounts


def _wait(attempt: Attempt, number: int, limits: Limits) -> float | None:
    """Seconds until the next attempt; None: there is none. No jitter: a replay waits the same."""
    if not attempt.error or not attempt.retryable or number >= limits.attempts:
        return None
    if attempt.retry_after is not None:
        return attempt.retry_after if attempt.retry_after <= limits.max_wait else None
    return min(limits.cap, limits.first_wait * 2 ** (number - 1))
