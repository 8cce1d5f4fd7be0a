"""The gate in front of an endpoint: a request passes when a slot is free, the minute's limits leave
room, the endpoint is not resting, and it is its turn.

Invariants: no more are inside than are allowed; what passes does so in the order of `Turns`, so
nothing overtakes a large request that waits for room; while the endpoint rests, nobody passes; who
is cancelled while waiting, or in the moment of passing, takes nothing with him.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from manyhands.adapters.models.limiter_queue import Turns, Waiter
from manyhands.adapters.models.limiter_window import Entry, Window
from manyhands.errors import ModelOverloaded

#: The rest after an overload without a ``Retry-After``; doubled by each further one, up to a cap.
#: The same as the turn loop's own waits, which therefore end when the rest does.
FIRST_REST = 0.5
LONGEST_REST = 30.0
#: Moments this close are the same: sums of seconds are rounded.
_TICK = 1e-6


@dataclass(slots=True, eq=False)
class Pass:
    """One request inside. ``queued``: the seconds that it waited at the gate."""

    loop: asyncio.AbstractEventLoop
    at: float
    queued: float
    requests: Entry
    tokens: Entry


class Gate:
    """``concurrency`` inside at once; ``requests`` and ``tokens`` in a minute (None: no limit).

    ``longest_rest``: seconds. An endpoint that asks for more is not waited for: whoever waits, and
    whoever comes until that time is over, gets its error at once; after ``longest_rest`` seconds
    one may try all the same. ``now``, ``sleep``: the clock.
    """

    def __init__(
        self,
        concurrency: int,
        requests: float | None,
        tokens: float | None,
        longest_rest: float,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._concurrency = concurrency
        self._allowed = float(concurrency)
        self._requests = Window(requests)
        self._tokens = Window(tokens)
        self._longest_rest = longest_rest
        self._now = now
        self._sleep = sleep
        self._turns: Turns[Pass] = Turns()
        self._inside = 0
        self._overloads = 0
        self._overloaded_at = float("-inf")
        self._rests_until = float("-inf")
        self._refusal: tuple[ModelOverloaded, float] | None = None
        self._timer: tuple[float, asyncio.Task[None]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def waiting(self) -> int:
        return len(self._turns)

    @property
    def inside(self) -> int:
        return self._inside

    @property
    def allowed(self) -> int:
        """How many may be inside at once just now: less than ``concurrency`` after overloads."""
        return int(self._allowed)

    @property
    def rests(self) -> float:
        """Seconds for which nobody passes."""
        return max(0.0, self._rests_until - self._now())

    # ---------------------------------------------------------------- in and out

    async def enter(self, agent: str, tokens: float) -> Pass:
        """Wait for a turn. Raises `ModelOverloaded` where the endpoint asks for too long a rest."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin_anew(loop)
        begun = self._now()
        self._refuse(begun)
        if not self._turns and self._ready_at(tokens, begun) <= begun + _TICK:
            return self._let_in(tokens, begun, loop)
        waiter: Waiter[Pass] = Waiter(agent, tokens, loop.create_future())
        self._turns.add(waiter)
        self._serve()
        try:
            found = await waiter.turn
        except asyncio.CancelledError:
            self._leave_queue(waiter)
            raise
        found.queued = found.at - begun
        return found

    def leave(self, one: Pass, tokens: float | None) -> None:
        """It is over, and used ``tokens`` (None: that is not known, and its estimate stands)."""
        if one.loop is not self._loop:  # that one is over, and the gate has begun anew
            return
        self._inside -= 1
        if tokens is not None:
            self._tokens.correct(one.tokens, tokens)
        self._serve()

    def _let_in(self, tokens: float, now: float, loop: asyncio.AbstractEventLoop) -> Pass:
        self._inside += 1
        return Pass(loop, now, 0.0, self._requests.take(1, now), self._tokens.take(tokens, now))

    def _ready_at(self, tokens: float, now: float) -> float:
        """When the next one may pass as far as is known now; infinity: when another one leaves."""
        if self._inside >= self.allowed:
            return float("inf")
        return max(
            self._rests_until,
            self._requests.ready_at(1, now),
            self._tokens.ready_at(tokens, now),
        )

    def _serve(self) -> None:
        """Let in whoever may pass; see to it that the next one is let in when it may."""
        at = float("inf")
        while (waiter := self._turns.next) is not None:
            now = self._now()
            at = self._ready_at(waiter.tokens, now)
            if at > now + _TICK:
                break
            turn = self._turns.pop().turn
            turn.set_result(self._let_in(waiter.tokens, now, turn.get_loop()))
        self._set_timer(at if self._turns else float("inf"))

    def _leave_queue(self, waiter: Waiter[Pass]) -> None:
        if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
            one = waiter.turn.result()
            self._requests.forget(one.requests)
            self._tokens.forget(one.tokens)
            self._inside -= 1
            self._turns.give_back(waiter.agent)
        self._turns.remove(waiter)
        self._serve()

    def _begin_anew(self, loop: asyncio.AbstractEventLoop) -> None:
        """What belonged to an event loop that is over is over. The limits go on."""
        self._loop = loop
        self._turns.clear()
        self._inside = 0
        self._timer = None

    # ---------------------------------------------------------------- time

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            if self._timer[0] == at:
                return
            self._timer[1].cancel()
            self._timer = None
        if at != float("inf"):
            self._timer = (at, asyncio.ensure_future(self._serve_at(at)))

    async def _serve_at(self, at: float) -> None:
        await self._sleep(max(0.0, at - self._now()))
        self._timer = None
        self._serve()

    # ---------------------------------------------------------------- how the endpoint is

    def went_well(self, one: Pass) -> None:
        """An answer. Each raises what is allowed inside, by one for as many as are."""
        if one.at > self._overloaded_at:
            self._overloads = 0
        self._allowed = min(self._concurrency, self._allowed + 1 / self._allowed)

    def overloaded(self, one: Pass, error: ModelOverloaded) -> None:
        """The endpoint is too busy for ``one``: it rests, counted from now, and gets less at once.

        Those that went out together come back together: they count as one overload.
        """
        now = self._now()
        if one.at > self._overloaded_at:
            self._overloaded_at = now
            self._overloads += 1
            self._allowed = max(1.0, self._allowed / 2)
            if error.retry_after is None:
                rest = FIRST_REST * 2.0 ** min(self._overloads - 1, 30)
                self._rest(now + min(LONGEST_REST, rest))
        if error.retry_after is None:
            return
        self._rest(now + min(self._longest_rest, error.retry_after))
        if error.retry_after > self._longest_rest:
            self._refusal = (error, now + error.retry_after)
            for waiter in self._turns.clear():
                waiter.turn.set_exception(self._refused(error, error.retry_after))

    def _rest(self, until: float) -> None:
        self._rests_until = max(self._rests_until, until)

    def _refuse(self, now: float) -> None:
        if self._refusal is None:
            return
        if now + _TICK >= self._rests_until:
            self._refusal = None
            return
        error, until = self._refusal
        raise self._refused(error, until - now)

    def _refused(self, error: ModelOverloaded, left: float) -> ModelOverloaded:
        return ModelOverloaded(
            f"not sent: the endpoint asked for {left:.0f} s more of rest, and at most "
            f"{self._longest_rest:g} s are waited for. It said: {error.what}",
            retry_after=left,
            next="wait that long, or use another endpoint",
        )
