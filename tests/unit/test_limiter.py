"""The limiter of an endpoint, on a clock that the test turns: no test here waits."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from manyhands.adapters.models.limiter import LimitedModel
from manyhands.adapters.models.limiter_window import Window
from manyhands.agents.request import Limits
from manyhands.agents.role import Role
from manyhands.agents.turn import run_agent
from manyhands.errors import (
    ConfigError,
    ModelError,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
)
from manyhands.ports import ModelReply, ModelRequest, Price, Usage
from manyhands.runtime import Run, Runtime, Workflow
from manyhands.testing import ManualClock, ScriptedModel


@dataclass(eq=False)
class Sent:
    request: ModelRequest
    at: float
    answer: asyncio.Future[ModelReply] = field(default_factory=asyncio.Future)

    async def answered(self, usage: Usage | None = None) -> None:
        reply = ModelReply("ok", (), "stop", usage, b"", 1.0)
        self.answer.set_result(reply)
        await settle()

    async def fails(self, error: ModelError) -> None:
        self.answer.set_exception(error)
        await settle()


class Endpoint:
    """A model that keeps every request until the test answers it."""

    name = "held"
    price = Price(1, 2)
    context_length: int | None = None

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.sent: list[Sent] = []
        self.open: list[Sent] = []

    async def request(self, request: ModelRequest, on_text: Any = None) -> ModelReply:
        one = Sent(request, self._now())
        self.sent.append(one)
        self.open.append(one)
        try:
            return await one.answer
        finally:
            self.open.remove(one)

    async def close(self) -> None: ...

    @property
    def agents(self) -> list[str]:
        return [one.request.agent for one in self.sent]


class Bench:
    """A limited endpoint, its clock, and what was asked of it."""

    def __init__(self, **limits: Any) -> None:
        self.clock = ManualClock(0.0)
        self.endpoint = Endpoint(self.clock.time)
        self.model = LimitedModel(
            self.endpoint, now=self.clock.time, sleep=self.clock.sleep, **limits
        )
        self.asked: list[asyncio.Task[ModelReply]] = []

    async def ask(self, agent: str = "", size: int = 0, max_tokens: int = 0) -> asyncio.Task[Any]:
        request = ModelRequest((b"x" * size,), max_tokens=max_tokens, agent=agent)
        task = asyncio.create_task(self.model.request(request))
        self.asked.append(task)
        await settle()
        return task

    async def pass_time(self, seconds: float) -> None:
        """In quarters of a second, so that one who is woken acts at its moment."""
        end = self.clock.time() + seconds
        while (left := end - self.clock.time()) > 0:
            await self.clock.advance(min(0.25, left))
            await settle()

    async def answer_all(self) -> None:
        for one in list(self.endpoint.open):
            await one.answered()

    @property
    def times(self) -> list[float]:
        return [one.at for one in self.endpoint.sent]

    def at_rest(self) -> bool:
        """Nothing of anybody is left: no waiter, no slot, no timer."""
        gone = self.model.waiting == self.model.in_flight == self.clock.sleeping == 0
        return gone and not self.model._gate._turns._queues


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def failure_of(task: asyncio.Task[Any]) -> BaseException:
    await asyncio.wait([task])
    error = task.exception()
    assert error is not None
    return error


# -------------------------------------------------------------------- concurrency and turns


async def test_no_more_at_once_than_allowed_and_whoever_leaves_lets_the_next_one_in() -> None:
    bench = Bench(concurrency=3)
    for _ in range(5):
        await bench.ask()
    assert (bench.model.in_flight, bench.model.waiting) == (3, 2)
    await bench.endpoint.open[1].answered()
    assert (bench.model.in_flight, bench.model.waiting) == (3, 1)
    await bench.endpoint.open[0].fails(ModelRefused("no"))
    assert (bench.model.in_flight, bench.model.waiting) == (3, 0)
    await bench.answer_all()
    assert bench.at_rest()


async def test_an_agent_with_a_hundred_requests_does_not_starve_another() -> None:
    bench = Bench(concurrency=2)
    for _ in range(100):
        await bench.ask("greedy")
    for agent in ("b", "c", "b"):
        await bench.ask(agent)
    while bench.endpoint.open:
        await bench.endpoint.open[0].answered()
    order = bench.endpoint.agents[2:]
    assert order[:6] == ["greedy", "b", "c", "greedy", "b", "greedy"]
    assert set(order[6:]) == {"greedy"}


async def test_one_agents_requests_go_out_in_their_order() -> None:
    bench = Bench(concurrency=1)
    for size in range(12):
        await bench.ask(f"agent {size % 3}", size=size)
    while bench.endpoint.open:
        await bench.endpoint.open[0].answered()
    sizes = [len(one.request.messages[0]) for one in bench.endpoint.sent]
    for agent in range(3):
        assert [s for s in sizes if s % 3 == agent] == list(range(agent, 12, 3))


async def test_one_who_gives_up_passes_on_its_place() -> None:
    bench = Bench(concurrency=1)
    await bench.ask("a")
    second, third = await bench.ask("b"), await bench.ask("c")
    second.cancel()
    await settle()
    assert second.cancelled()
    assert bench.model.waiting == 1
    await bench.endpoint.open[0].answered()
    assert bench.endpoint.agents == ["a", "c"]
    await bench.answer_all()
    assert third.done()
    assert bench.at_rest()


async def test_one_who_is_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    bench = Bench(concurrency=1, requests_per_minute=10, tokens_per_minute=100)
    await bench.ask("a", max_tokens=10)
    second = await bench.ask("b", max_tokens=80)
    await bench.ask("c", max_tokens=80)
    bench.endpoint.open[0].answer.set_result(ModelReply("", (), "stop", Usage(0, 10), b"", 1.0))
    await asyncio.sleep(0)
    assert bench.model.waiting == 1, "its turn has come"
    assert bench.endpoint.agents == ["a"], "it has not run yet"
    second.cancel()
    await settle()
    assert second.cancelled()
    assert bench.endpoint.agents == ["a", "c"], "neither its slot nor its tokens are kept"
    await bench.answer_all()
    assert bench.at_rest()


async def test_an_agent_whose_turn_came_to_nothing_is_still_the_next() -> None:
    bench = Bench(concurrency=1)
    await bench.ask("a")
    given_up = await bench.ask("b")
    for agent in ("b", "c"):
        await bench.ask(agent)
    bench.endpoint.open[0].answer.set_result(ModelReply("", (), "stop", None, b"", 1.0))
    await asyncio.sleep(0)
    assert bench.model.waiting == 2, "the turn of b has come"
    given_up.cancel()
    await settle()
    assert bench.endpoint.agents == ["a", "b"]
    assert not bench.endpoint.sent[1].answer.done()
    await bench.answer_all()
    assert bench.endpoint.agents == ["a", "b", "c"]


async def test_a_request_cancelled_in_flight_gives_its_slot_back() -> None:
    bench = Bench(concurrency=1)
    first = await bench.ask("a")
    await bench.ask("b")
    first.cancel()
    await settle()
    assert bench.endpoint.agents == ["a", "b"]
    await bench.answer_all()
    assert bench.at_rest()


async def test_how_long_it_waited_is_in_the_reply_and_not_in_its_seconds() -> None:
    bench = Bench(concurrency=1)
    first, second = await bench.ask(), await bench.ask()
    await bench.pass_time(7)
    await bench.answer_all()
    await bench.answer_all()
    assert first.result().queued_seconds == 0
    assert second.result().queued_seconds == 7
    assert second.result().seconds == 1.0


async def test_what_it_says_of_the_model_is_the_models_own() -> None:
    model = Bench().model
    assert (model.name, model.price, model.context_length) == ("held", Price(1, 2), None)
    assert "Endpoint" in repr(model)


@pytest.mark.parametrize(
    "limits", [{"concurrency": 0}, {"requests_per_minute": 0}, {"tokens_per_minute": -1.0}]
)
def test_limits_that_let_nothing_through_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(limits))):
        LimitedModel(ScriptedModel([]), **limits)


def test_it_goes_on_in_another_event_loop() -> None:
    model = LimitedModel(ScriptedModel(lambda _: "ok", delay=0.001), concurrency=1)

    async def once(count: int) -> None:
        requests = [model.request(ModelRequest((b"{}",))) for _ in range(count)]
        await asyncio.gather(*requests)

    async def cut_off() -> None:
        tasks = [asyncio.create_task(once(1)) for _ in range(3)]
        await settle()
        assert model.waiting
        del tasks

    asyncio.run(cut_off())
    asyncio.run(once(3))
    assert (model.waiting, model.in_flight) == (0, 0)


# -------------------------------------------------------------------- the minute


async def test_requests_in_any_minute() -> None:
    bench = Bench(requests_per_minute=3)
    for _ in range(2):
        await bench.ask()
    await bench.pass_time(40)
    for _ in range(5):
        await bench.ask()
    await bench.answer_all()
    assert bench.times == [0, 0, 40]
    await bench.pass_time(19.5)
    assert bench.times == [0, 0, 40]
    await bench.pass_time(0.5)
    assert bench.times == [0, 0, 40, 60, 60]
    await bench.answer_all()
    await bench.pass_time(200)
    assert bench.times == [0, 0, 40, 60, 60, 100, 120]
    await bench.answer_all()
    assert bench.at_rest()


async def test_less_than_one_request_a_minute() -> None:
    bench = Bench(requests_per_minute=0.25)
    for _ in range(3):
        await bench.ask()
    await bench.pass_time(600)
    assert bench.times == [0, 240, 480]


async def test_tokens_are_held_at_an_estimate_and_put_right_by_what_was_used() -> None:
    bench = Bench(tokens_per_minute=1000)
    await bench.ask(size=300, max_tokens=500)  # 100 + 500
    await bench.ask(size=300, max_tokens=500)
    assert bench.model.waiting == 1
    await bench.endpoint.open[0].answered(Usage(80, 320))  # 400 are left of it: 600 fit again
    assert bench.times == [0, 0]
    await bench.ask(max_tokens=1)
    assert bench.model.waiting == 1
    await bench.pass_time(60)
    assert bench.times == [0, 0, 60]


async def test_tokens_of_an_answer_that_does_not_say_them_are_counted_from_its_bytes() -> None:
    bench = Bench(tokens_per_minute=1000)
    await bench.ask(size=3 * 600, max_tokens=400)
    await bench.endpoint.open[0].answered(None)
    await bench.ask(max_tokens=400)
    assert bench.times == [0, 0]
    await bench.ask(max_tokens=1)
    assert bench.model.waiting == 1


async def test_a_usage_that_cannot_be_true_does_not_close_the_endpoint() -> None:
    bench = Bench(tokens_per_minute=10_000)
    await bench.ask(size=100, max_tokens=100)
    await bench.endpoint.open[0].answered(Usage(10**9, 10**9))
    await bench.ask(max_tokens=9_000)
    assert bench.times == [0, 0]


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (ModelRefused("no"), False),
        (ModelUnreachable("refused"), False),
        (ModelTimeout("slow"), True),
    ],
)
async def test_what_a_failed_request_may_have_cost_is_kept(error: ModelError, kept: bool) -> None:
    bench = Bench(tokens_per_minute=1000)
    await bench.ask(max_tokens=900)
    await bench.endpoint.open[0].fails(error)
    await bench.ask(max_tokens=900)
    assert len(bench.endpoint.sent) == (1 if kept else 2)


async def test_a_request_larger_than_the_whole_limit_goes_alone() -> None:
    bench = Bench(tokens_per_minute=1000)
    await bench.ask("small", max_tokens=10)
    await bench.ask("huge", max_tokens=50_000)
    await bench.ask("small", max_tokens=10)
    assert bench.endpoint.agents == ["small"], "nothing overtakes it"
    await bench.endpoint.open[0].answered(Usage(1, 1))
    await bench.pass_time(60)
    assert bench.endpoint.agents == ["small", "huge"]
    await bench.pass_time(59)
    assert bench.endpoint.agents == ["small", "huge"]
    await bench.pass_time(1)
    assert bench.endpoint.agents == ["small", "huge", "small"]


def test_a_window_that_nothing_fits_says_when_it_does() -> None:
    window = Window(10)
    first = window.take(6, 0.0)
    window.take(4, 5.0)
    assert window.ready_at(3, 6.0) == 60
    assert window.ready_at(7, 6.0) == 65
    assert window.ready_at(99, 6.0) == 65
    window.correct(first, 1)
    assert window.ready_at(5, 6.0) == 6
    assert window.ready_at(10, 66.0) == 66
    window.correct(first, 100)  # it has left the window
    assert window.ready_at(10, 66.0) == 66


# -------------------------------------------------------------------- rest


async def test_nobody_sends_before_a_retry_after_is_over() -> None:
    bench = Bench(concurrency=8)
    first, other = await bench.ask("a"), await bench.ask("b")
    await bench.pass_time(2)
    await bench.endpoint.open[0].fails(ModelOverloaded("busy", retry_after=10))
    assert isinstance(await failure_of(first), ModelOverloaded)
    for agent in ("a", "c"):
        await bench.ask(agent)
    await bench.endpoint.open[0].answered()
    assert other.done(), "what is under way goes on"
    assert bench.model.rests == 10
    await bench.pass_time(9.9)
    assert bench.times == [0, 0]
    await bench.pass_time(0.1)
    assert bench.times == [0, 0, 12, 12]
    assert bench.model.rests == 0


async def test_a_shorter_rest_does_not_end_a_longer_one() -> None:
    bench = Bench()
    await bench.ask()
    await bench.ask()
    await bench.endpoint.open[0].fails(ModelOverloaded("busy", retry_after=10))
    await bench.endpoint.open[0].fails(ModelOverloaded("busy", retry_after=1))
    assert bench.model.rests == 10


async def test_a_rest_that_is_too_long_is_passed_on_to_all_and_tried_again_later() -> None:
    bench = Bench(concurrency=1, longest_rest=300)
    first, waiting = await bench.ask("a"), await bench.ask("b")
    await bench.endpoint.open[0].fails(ModelOverloaded("quota used up", retry_after=3600))
    late = await bench.ask("c")
    for task in (first, waiting, late):
        error = await failure_of(task)
        assert isinstance(error, ModelOverloaded)
        assert error.retry_after == 3600
        assert "quota used up" in str(error)
    assert len(bench.endpoint.sent) == 1
    await bench.pass_time(299)
    error = await failure_of(await bench.ask("d"))
    assert isinstance(error, ModelOverloaded)
    assert error.retry_after == 3301
    assert error.next
    await bench.pass_time(1)
    again = await bench.ask("e")
    await bench.answer_all()
    assert again.result().text == "ok"
    assert bench.at_rest()


async def test_without_a_retry_after_the_rest_grows_and_ends_with_a_good_answer() -> None:
    bench = Bench()
    rests: list[float] = []
    for _ in range(9):
        await bench.ask()
        await bench.endpoint.open[0].fails(ModelOverloaded("busy"))
        rests.append(bench.model.rests)
        await bench.pass_time(bench.model.rests)
    assert rests == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    await bench.ask()
    await bench.answer_all()
    await bench.ask()
    await bench.endpoint.open[0].fails(ModelOverloaded("busy"))
    assert bench.model.rests == 0.5


async def test_overloads_of_requests_that_went_out_together_count_as_one() -> None:
    bench = Bench(concurrency=16)
    for _ in range(16):
        await bench.ask()
    for one in list(bench.endpoint.open):
        await bench.pass_time(0.01)
        await one.fails(ModelOverloaded("busy"))
    assert bench.model.rests == pytest.approx(0.5 - 0.15)
    assert bench.model.allowed == 8


async def test_a_late_good_answer_does_not_end_the_growth() -> None:
    bench = Bench()
    slow = await bench.ask()
    for _ in range(2):
        await bench.ask()
        await bench.endpoint.open[1].fails(ModelOverloaded("busy"))
        await bench.pass_time(1)
    await bench.endpoint.open[0].answered()  # sent before any overload
    assert slow.done()
    await bench.ask()
    await bench.endpoint.open[0].fails(ModelOverloaded("busy"))
    assert bench.model.rests == 2


async def test_one_who_gives_up_during_a_rest_leaves_no_timer() -> None:
    bench = Bench()
    await bench.ask()
    await bench.endpoint.open[0].fails(ModelOverloaded("busy", retry_after=10))
    task = await bench.ask()
    assert bench.clock.sleeping == 1
    task.cancel()
    await settle()
    assert bench.at_rest()


# -------------------------------------------------------------------- with the turn loop


@pytest.mark.parametrize(("retry_after", "waited"), [(7.0, 7.0), (None, 0.5)])
async def test_the_waits_of_the_turn_loop_and_of_the_limiter_are_one(
    tmp_path: Path, retry_after: float | None, waited: float
) -> None:
    """The loop sleeps for as long as the endpoint rests; its retry then goes straight through."""
    clock = ManualClock(0.0, jump=True)
    script = ScriptedModel([ModelOverloaded("busy", retry_after=retry_after), "done"])
    model = LimitedModel(script, now=clock.time, sleep=clock.sleep)

    async def work(run: Run, _: None) -> str:
        return (await run_agent(run, Role("a", "", "x"), "Hello.", model=model)).text

    async with Runtime.open(tmp_path / "j.db", clock=clock) as runtime:
        assert await runtime.run(Workflow("w", work)) == "done"
    assert clock.time() == pytest.approx(waited, abs=1e-6)


async def test_an_endpoint_that_takes_two_at_once_serves_forty_agents_that_were_told_sixteen() -> (
    None
):
    """Each gives up after four attempts, as the turn loop does. Without what the limiter learns
    from an overload, most would."""
    limits = Limits()

    async def failed(limited: bool) -> int:
        clock, chance = ManualClock(0.0), random.Random(1)
        at_once = 0

        class Small(ScriptedModel):
            async def request(self, request: ModelRequest, on_text: Any = None) -> ModelReply:
                nonlocal at_once
                if at_once == 2:
                    raise ModelOverloaded("two at once")
                at_once += 1
                try:
                    await clock.sleep(chance.uniform(0.5, 1.5))
                finally:
                    at_once -= 1
                return ModelReply("ok", (), "stop", Usage(1, 1), b"", 1.0)

        model: Any = Small([])
        if limited:
            model = LimitedModel(model, concurrency=16, now=clock.time, sleep=clock.sleep)

        async def agent(name: str) -> bool:
            for attempt in range(limits.attempts):
                with contextlib.suppress(ModelOverloaded):
                    await model.request(ModelRequest((b"{}",), agent=name))
                    return True
                await clock.sleep(min(limits.cap, limits.first_wait * 2**attempt))
            return False

        tasks = [asyncio.create_task(agent(str(n))) for n in range(40)]
        while not all(task.done() for task in tasks):
            await clock.advance(0.05)
            await settle()
        return sum(not task.result() for task in tasks)

    assert await failed(limited=True) == 0
    assert await failed(limited=False) > 20
