"""Any order of asking, answering, failing, cancelling and waiting: no limit is passed, nobody is
starved, nothing leaks, and whoever waits is served in the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manyhands.adapters.models.limiter import LimitedModel
from manyhands.errors import ModelError, ModelOverloaded, ModelTimeout, ModelUnreachable
from manyhands.ports import ModelReply, ModelRequest, Usage
from manyhands.testing import ManualClock

AGENTS = "abc"
LONGEST_REST = 100.0


@dataclass(eq=False)
class One:
    """A request from its asking to its end; ``sent`` is None while it waits."""

    agent: str
    tokens: int
    task: asyncio.Task[ModelReply] | None = None
    sent: float | None = None
    answer: asyncio.Future[ModelReply] | None = None
    counted: float = 0.0
    passed: Counter[str] = field(default_factory=Counter)

    @property
    def leaving(self) -> bool:
        return self.task is not None and (self.task.done() or self.task.cancelling() > 0)


class Limiter(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock(0.0)
        self.ones: list[One] = []
        self.history: list[One] = []
        self.rests_until = -1.0

    # The endpoint: what reaches it is checked on arrival.

    name, price, context_length = "held", None, None

    async def close(self) -> None: ...

    async def request(self, request: ModelRequest, on_text: Any = None) -> ModelReply:
        one = next(o for o in self.ones if o.task is asyncio.current_task())
        now = self.clock.time()
        assert now > self.rests_until - 1e-3, "sent while the endpoint rests"
        self.check_window(one, now)
        for other in self.waiting():
            if other.agent != one.agent:
                other.passed[one.agent] += 1
                assert self.first_of(other.agent).passed[one.agent] <= 1, "an agent was passed over"
        mine = [o for o in self.waiting() if o.agent == one.agent]
        assert mine[0] is one, "an agent's requests overtook each other"
        for other in mine[1:]:  # their turn comes after the others have had theirs
            other.passed.clear()
        one.sent, one.counted = now, one.tokens
        self.history.append(one)
        one.answer = self.loop.create_future()
        return await one.answer

    def first_of(self, agent: str) -> One:
        return next(o for o in self.waiting() if o.agent == agent)

    def check_window(self, one: One, now: float) -> None:
        recent = [o for o in self.history if o.sent is not None and o.sent > now - 60 + 1e-3]
        if self.requests is not None:
            assert len(recent) + 1 <= self.requests, "too many requests in a minute"
        taken = sum(o.counted for o in recent)
        if self.tokens is not None and taken:
            assert taken + one.tokens <= self.tokens, "too many tokens in a minute"

    # Steps.

    def turn(self, work: Coroutine[Any, Any, None] | None = None) -> None:
        async def settle_down() -> None:
            if work is not None:
                await work
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(settle_down())
        for one in [o for o in self.ones if o.task is not None and o.task.done()]:
            self.ones.remove(one)
            error = None if one.task.cancelled() else one.task.exception()
            if error is not None and not isinstance(error, ModelError):
                raise error  # what `request` has found
            if one.sent is None and error is not None:
                assert isinstance(error, ModelOverloaded)
                assert self.clock.time() < self.rests_until + 1e-3, "refused without a reason"

    @initialize(
        concurrency=st.integers(1, 4),
        requests=st.none() | st.integers(1, 6),
        tokens=st.none() | st.integers(1, 40),
    )
    def make(self, concurrency: int, requests: int | None, tokens: int | None) -> None:
        self.concurrency, self.requests, self.tokens = concurrency, requests, tokens
        self.model = LimitedModel(
            self,
            concurrency=concurrency,
            requests_per_minute=requests,
            tokens_per_minute=tokens,
            longest_rest=LONGEST_REST,
            now=self.clock.time,
            sleep=self.clock.sleep,
        )

    @rule(agent=st.sampled_from(AGENTS), tokens=st.integers(0, 60), count=st.integers(1, 4))
    def ask(self, agent: str, tokens: int, count: int) -> None:
        for _ in range(count):
            one = One(agent, tokens)
            self.ones.append(one)
            request = ModelRequest((), max_tokens=tokens, agent=agent)
            one.task = self.loop.create_task(self.model.request(request))
        self.turn()

    def sent(self) -> list[One]:
        return [o for o in self.ones if o.answer is not None and not o.answer.done()]

    def waiting(self) -> list[One]:
        """Without those who are on their way out."""
        return [o for o in self.ones if o.sent is None and not o.leaving]

    @precondition(lambda self: self.sent())
    @rule(data=st.data(), used=st.none() | st.integers(0, 10**6))
    def answer(self, data: Any, used: int | None) -> None:
        one = data.draw(st.sampled_from(self.sent()))
        usage = None if used is None else Usage(used, 0)
        one.counted = 0 if used is None else min(used, 512 + one.tokens)
        one.answer.set_result(ModelReply("", (), "stop", usage, b"", 1.0))
        self.turn()

    @precondition(lambda self: self.sent())
    @rule(
        data=st.data(),
        error=st.builds(ModelTimeout, st.just("slow"))
        | st.builds(ModelUnreachable, st.just("gone"))
        | st.builds(
            lambda seconds: ModelOverloaded("busy", retry_after=seconds),
            st.none() | st.floats(0, 200, allow_subnormal=False),
        ),
    )
    def fail(self, data: Any, error: ModelError) -> None:
        one = data.draw(st.sampled_from(self.sent()))
        one.counted = one.tokens if error.may_have_spent else 0
        if isinstance(error, ModelOverloaded) and error.retry_after is not None:
            rest = min(error.retry_after, LONGEST_REST)
            self.rests_until = max(self.rests_until, self.clock.time() + rest)
        one.answer.set_exception(error)
        task = one.task
        self.turn()
        assert task.exception() is error

    @precondition(lambda self: self.ones)
    @rule(data=st.data(), answer_first=st.booleans())
    def cancel(self, data: Any, answer_first: bool) -> None:
        """Also in the very moment in which its turn comes."""
        one = data.draw(st.sampled_from((answer_first and self.waiting()) or self.ones))
        others = [o for o in self.sent() if o is not one]
        steps = 0
        if answer_first and others:
            other = data.draw(st.sampled_from(others))
            other.counted = 0
            other.answer.set_result(ModelReply("", (), "stop", Usage(0, 0), b"", 1.0))
            steps = data.draw(st.integers(0, 3))

        async def some_steps_later() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)
            one.task.cancel()

        task, done = one.task, one.task.done()
        self.turn(some_steps_later())
        assert task.cancelled() or done

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 7.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        end = self.clock.time() + seconds
        while (left := end - self.clock.time()) > 0:
            # To the very moment of the next one: who wakes acts before time goes on.
            due = min((d.at for d in self.clock._due), default=end)
            self.turn(self.clock.advance(min(left, max(due - self.clock.time(), 1e-9))))

    # What must hold.

    @invariant()
    def the_counts_are_right(self) -> None:
        if hasattr(self, "model"):
            assert self.model.in_flight == len(self.sent()) <= self.concurrency
            assert self.model.waiting == len(self.waiting())
            assert 1 <= self.model.allowed <= self.concurrency

    @invariant()
    def who_waits_waits_for_something(self) -> None:
        if self.waiting() and not self.sent():
            assert self.clock.sleeping == 1, "somebody waits, and nothing will wake him"

    def teardown(self) -> None:
        for _ in range(len(self.ones)):  # at most a minute and a rest for each
            if not self.ones:
                break
            for one in self.sent():
                one.counted = 0
                one.answer.set_result(ModelReply("", (), "stop", Usage(0, 0), b"", 1.0))
            self.turn()
            self.wait(max(61.0, LONGEST_REST + 1))
        assert not self.waiting(), "somebody was never served"
        for one in self.ones:
            one.task.cancel()
        self.turn()
        assert not self.clock.sleeping
        self.loop.close()


# Shrinking a schedule takes minutes, and would end in the test's time limit.
Limiter.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
TestLimiter = Limiter.TestCase
