"""One endpoint's limits, shared by all agents of the process: requests, tokens, concurrency, rest.

Invariant: every request of the process to an endpoint goes through its one `LimitedModel`. Waiting
here counts against no deadline of the request, and nothing of it is left when the waiter goes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from manyhands.adapters.models.limiter_gate import Gate
from manyhands.errors import ConfigError, ModelError, ModelOverloaded
from manyhands.ports import Model, ModelReply, ModelRequest, Price

#: Ordinary text has 3 to 4 bytes per token.
_BYTES_PER_TOKEN = 3
#: What a server's chat template may add.
_TEMPLATE_TOKENS = 512


class LimitedModel:
    """``model``, with no more asked of it than its endpoint allows, and every agent in turn.

    ``concurrency``: requests at once. ``requests_per_minute``, ``tokens_per_minute``: in any sixty
    seconds (None: no limit); a request's tokens are estimated from its bytes and its
    ``max_tokens``, and put right when the answer says what was used; one that is larger than the
    whole limit is sent alone. ``longest_rest``: how many seconds of a ``Retry-After`` are waited
    for; beyond it the error is passed on, also to those who wait.

    Waiting requests are served round robin over their ``agent``, each agent's in order. After a 429
    or 503 nothing is sent until its ``Retry-After`` is over, counted from the answer; without one,
    for half a second, doubled at each further one up to half a minute. Each such answer halves how
    many are sent at once, and every good one raises it again, up to ``concurrency``.

    ``now`` and ``sleep`` are the clock: seconds of any origin that never go back.
    """

    def __init__(
        self,
        model: Model,
        *,
        concurrency: int = 16,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        longest_rest: float = 300.0,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        for what, value in (
            ("concurrency", concurrency),
            ("requests_per_minute", requests_per_minute),
            ("tokens_per_minute", tokens_per_minute),
        ):
            if value is not None and not value > 0:
                raise ConfigError(
                    f"model {model.name}: {what} = {value}", next="give a number above 0, or none"
                )
        self._model = model
        self._count_tokens = tokens_per_minute is not None
        self._gate = Gate(
            concurrency, requests_per_minute, tokens_per_minute, longest_rest, now, sleep
        )

    def __repr__(self) -> str:
        return f"LimitedModel({self._model!r})"

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def price(self) -> Price | None:
        return self._model.price

    @property
    def context_length(self) -> int | None:
        return self._model.context_length

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return self._gate.waiting

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._gate.inside

    @property
    def allowed(self) -> int:
        """How many are sent at once just now: ``concurrency``, or less after overloads."""
        return self._gate.allowed

    @property
    def rests(self) -> float:
        """Seconds for which nothing is sent, because the endpoint asked for rest."""
        return self._gate.rests

    async def request(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """Wait for a turn, and ask. ``queued_seconds`` of the reply says how long that took."""
        estimate = self._estimate(request) if self._count_tokens else 0
        one = await self._gate.enter(request.agent, estimate)
        used: float | None = None
        try:
            reply = await self._model.request(request, on_text)
            self._gate.went_well(one)
            used = _used(request, reply) if self._count_tokens else None
        except ModelOverloaded as error:
            used = 0
            self._gate.overloaded(one, error)
            raise
        except ModelError as error:
            used = None if error.may_have_spent else 0
            raise
        finally:
            self._gate.leave(one, used)
        return replace(reply, queued_seconds=one.queued) if one.queued > 0 else reply

    async def close(self) -> None:
        await self._model.close()

    def _estimate(self, request: ModelRequest) -> int:
        most = _bytes(request) // _BYTES_PER_TOKEN + request.max_tokens
        return most if self.context_length is None else min(most, self.context_length)


def _used(request: ModelRequest, reply: ModelReply) -> int:
    """What the server says, as far as it can be true: a token is a byte or more."""
    put = _bytes(request)
    if reply.usage is not None:
        said = reply.usage.input_tokens + reply.usage.output_tokens
        return min(said, put + _TEMPLATE_TOKENS + request.max_tokens)
    said = len(reply.text) + len(reply.reasoning)
    said += sum(len(call.name) + len(call.arguments) for call in reply.tool_calls)
    return (put + said) // _BYTES_PER_TOKEN


def _bytes(request: ModelRequest) -> int:
    schema = len(request.response_schema or b"")
    return sum(map(len, request.messages)) + sum(map(len, request.tools)) + schema
