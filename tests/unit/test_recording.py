"""A recording, its replay, and where both differ."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyhands.adapters.models.recording import Recording, RecordingModel
from manyhands.adapters.models.recording_replay import Replay, ReplayModel
from manyhands.errors import (
    ModelError,
    ModelMalformed,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
    RecordingError,
    ReplayDiverged,
)
from manyhands.ports import Model, ModelReply, ModelRequest, Price, ToolCall, Usage
from manyhands.testing import ManualClock

KEY = "sk-a-key-of-somebody-0123456789"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name) if "KEY" in name or "TOKEN" in name else None


End = ModelReply | ModelError


class Said:
    """A model that answers by a function of the request; with pieces where somebody watches."""

    def __init__(self, answer: Callable[[ModelRequest], End], *, name: str = "said") -> None:
        self.name = name
        self.price: Price | None = Price(0.5, 2)
        self.context_length: int | None = 4096
        self.asked = 0
        self._answer = answer

    async def request(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        self.asked += 1
        end = self._answer(request)
        await asyncio.sleep(0)
        if on_text is not None:
            text = end.text if isinstance(end, ModelReply) else "a piece"
            for at in range(0, len(text), 4):
                on_text(text[at : at + 4])
        if isinstance(end, ModelError):
            raise end
        return end

    async def close(self) -> None: ...


def message(text: str, role: str = "user") -> bytes:
    return json.dumps({"role": role, "content": text}, ensure_ascii=False).encode()


def ask(*texts: str, agent: str = "a", **fields: Any) -> ModelRequest:
    messages = tuple(message(t, "system" if i == 0 else "user") for i, t in enumerate(texts))
    return ModelRequest(messages, agent=agent, **fields)


def reply(text: str = "ok", **fields: Any) -> ModelReply:
    return ModelReply(text, (), "stop", Usage(3, 4, 1), b"{}", 1.5, **fields)


def in_order(*ends: End) -> Callable[[ModelRequest], End]:
    left = iter(ends)
    return lambda _: next(left)


def record(file: Path, model: Model, *requests: ModelRequest, **settings: Any) -> list[End]:
    """Ask one after the other, and record it."""

    async def work() -> list[End]:
        async with Recording(file, **settings) as recording:
            recorded = recording.model("m", lambda: model)
            return [await end_of(recorded, request) for request in requests]

    return asyncio.run(work())


def replay(file: Path, *requests: ModelRequest) -> list[End]:
    model = Replay(file).model("m")
    return asyncio.run(all_of(model, requests))


async def all_of(model: Model, requests: Any) -> list[End]:
    return [await end_of(model, request) for request in requests]


async def end_of(model: Model, request: ModelRequest) -> End:
    try:
        return await model.request(request)
    except ModelError as error:
        return error


def told(error: ModelError) -> tuple[Any, ...]:
    asked = error.retry_after if isinstance(error, ModelOverloaded) else None
    return (type(error), error.what, error.next, error.retryable, error.may_have_spent, asked)


# -------------------------------------------------------------------- what comes back


RICH = ModelReply(
    text='Grüße, 世界 🌍\n"quoted" \\ \u2028 end',
    tool_calls=(ToolCall("id-1", "look", '{"at": "ü"}'), ToolCall("", "go", "{broken")),
    finish_reason="tool_calls",
    usage=None,
    raw=b'\xff\xfe{"raw": 1}\n\n',
    seconds=0.1 + 0.2,
    first_token_seconds=1 / 3,
    reasoning="Let me think: <tool_call>",
    queued_seconds=7.25,
)


def test_a_reply_comes_back_to_the_last_bit(file: Path) -> None:
    request = ask("S", "U", tools=(b'{"function":{"name":"look"}}',), response_schema=b"{}", seed=1)
    model = Said(in_order(RICH, reply()))
    assert record(file, model, request, ask("S", "U")) == [RICH, reply()]
    assert replay(file, request, ask("S", "U")) == [RICH, reply()]
    assert model.asked == 2


def test_the_pieces_come_back_as_they_came(file: Path) -> None:
    live: list[str] = []
    again: list[str] = []
    whole: list[str] = []

    async def work() -> None:
        async with Recording(file) as recording:
            model = recording.model("m", lambda: Said(lambda _: RICH))
            assert await model.request(ask("S", "U"), live.append) == RICH
            await model.request(ask("S", "V"))
        model = Replay(file).model("m")
        assert await model.request(ask("S", "U"), again.append) == RICH
        await model.request(ask("S", "V"), whole.append)

    asyncio.run(work())
    assert live == again
    assert len(live) > 3
    assert whole == [RICH.text], "nobody watched then, and somebody does now"


def odd_error() -> ModelError:
    error = ModelUnreachable("cut in mid-stream", next="read the server's log")
    error.may_have_spent = True
    return error


ERRORS: list[ModelError] = [
    ModelOverloaded("full", retry_after=7.5, next="wait"),
    ModelOverloaded("full"),
    ModelRefused("no"),
    ModelTimeout("late", next="hurry"),
    ModelMalformed("<html>"),
    odd_error(),
]


def test_errors_come_back_by_class_and_fields_with_what_was_shown_before_them(file: Path) -> None:
    shown: list[str] = []

    async def work() -> list[ModelError]:
        async with Recording(file) as recording:
            model = recording.model("m", lambda: Said(in_order(*ERRORS)))
            for _ in ERRORS:
                with pytest.raises(ModelError):
                    await model.request(ask("S", "U"), shown.append)
        model = Replay(file).model("m")
        found: list[ModelError] = []
        for _ in ERRORS:
            with pytest.raises(ModelError) as caught:
                await model.request(ask("S", "U"), shown.append)
            found.append(caught.value)
        return found

    assert [told(e) for e in asyncio.run(work())] == [told(e) for e in ERRORS]
    assert shown == ["a pi", "ece"] * len(ERRORS) * 2


def test_what_a_model_is_comes_back_as_it_was_known_before_and_after_it_answered(
    file: Path,
) -> None:
    class Late(Said):
        async def request(self, request: ModelRequest, on_text: Any = None) -> ModelReply:
            found = await super().request(request, on_text)
            self.context_length = 2048
            return found

    record(file, Late(lambda _: reply(), name="x"), ask("S"))

    async def work() -> None:
        model = Replay(file).model("m")
        assert (model.name, model.price, model.context_length) == ("x", Price(0.5, 2), 4096)
        await model.request(ask("S"))
        assert model.context_length == 2048

    asyncio.run(work())


TEXT = st.text(st.characters(codec=None), max_size=40)  # lone surrogates too


@given(
    text=TEXT,
    calls=st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=3),
    raw=st.binary(max_size=40),
    usage=st.none() | st.builds(Usage, *[st.integers(0, 2**53)] * 3),
    seconds=st.floats(0, 1e6),
    messages=st.lists(st.binary(max_size=40), min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 9), max_size=6),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_reply_to_any_request(
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    calls: list[tuple[str, str, str]],
    raw: bytes,
    usage: Usage | None,
    seconds: float,
    messages: list[bytes],
    sizes: list[int],
) -> None:
    """But for halves of surrogate pairs, which no server can send and no journal keeps."""
    file = tmp_path_factory.mktemp("any") / "run.jsonl"
    made = tuple(ToolCall(*map(joined, each)) for each in calls)
    live = ModelReply(joined(text), made, "stop", usage, raw, seconds)
    request = ModelRequest(tuple(messages), agent=joined(text)[:5])

    class Cut(Said):
        async def request(self, request: ModelRequest, on_text: Any = None) -> ModelReply:
            rest = live.text
            for size in [*sizes, len(rest)]:
                on_text(rest[:size])
                rest = rest[size:]
            return live

    async def work() -> None:
        first: list[str] = []
        second: list[str] = []
        async with Recording(file) as recording:
            await recording.model("m", lambda: Cut(lambda _: live)).request(request, first.append)
        found = await Replay(file).model("m").request(request, second.append)
        assert found == live
        assert second == [piece for piece in first if piece]

    asyncio.run(work())


def joined(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# -------------------------------------------------------------------- matching


def test_agents_that_interleave_in_another_order_hear_the_same(file: Path) -> None:
    """Each answer depends on what the agent heard before it, and on which it was."""

    def answer(request: ModelRequest) -> ModelReply:
        return reply(f"{request.agent}:{len(request.messages)}")

    async def agent(model: Model, name: str, chance: random.Random) -> list[str]:
        messages, heard = [message("the same for all", "system")], list[str]()
        for _ in range(6):
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            found = await model.request(ModelRequest(tuple(messages), agent=name))
            heard.append(found.text)
            messages.append(message(found.text, "assistant"))
        return heard

    async def all_agents(model: Model, seed: int) -> list[list[str]]:
        chance = random.Random(seed)
        return await asyncio.gather(*(agent(model, f"a{n}", chance) for n in range(8)))

    async def work() -> None:
        async with Recording(file) as recording:
            live = await all_agents(recording.model("m", lambda: Said(answer)), 1)
        for seed in (1, 2, 3):
            replayed = Replay(file)
            assert await all_agents(replayed.model("m"), seed) == live
            assert replayed.unused() == ()

    asyncio.run(work())


def test_what_one_agent_asks_twice_is_answered_in_order_and_no_third_time(file: Path) -> None:
    ends = [reply("one"), ModelTimeout("late"), reply("two")]
    record(file, Said(in_order(*ends, reply("b"))), *[ask("S")] * 3, ask("S", agent="b"))
    found = replay(file, ask("S", agent="b"), *[ask("S")] * 3)
    assert [e.text if isinstance(e, ModelReply) else e.what for e in found] == [
        "b",
        "one",
        "late",
        "two",
    ]
    with pytest.raises(ReplayDiverged, match="recorded 3 times, and is asked once more"):
        replay(file, *[ask("S")] * 4)


def test_what_one_agent_asks_at_once_is_told_apart_by_the_order_of_asking(file: Path) -> None:
    """The second is answered first; it is still the second."""
    gates = [asyncio.Event(), asyncio.Event()]

    class Slow(Said):
        async def request(self, request: ModelRequest, on_text: Any = None) -> ModelReply:
            self.asked += 1
            number = self.asked
            if number == 1:
                await gates[0].wait()
            else:
                gates[0].set()
            return reply(f"answer {number}")

    async def both(model: Model) -> list[str]:
        replies = await asyncio.gather(*(model.request(ask("S")) for _ in range(2)))
        return [each.text for each in replies]

    async def work() -> None:
        async with Recording(file) as recording:
            live = await both(recording.model("m", lambda: Slow(lambda _: reply())))
        assert await both(Replay(file).model("m")) == live == ["answer 1", "answer 2"]

    asyncio.run(work())


def test_who_watches_and_how_long_it_may_take_does_not_matter(file: Path) -> None:
    record(file, Said(lambda _: reply()), ask("S", seconds=5, first_token_seconds=1))
    assert replay(file, ask("S", seconds=300)) == [reply()]


def test_two_models_are_told_apart(file: Path) -> None:
    async def work() -> None:
        async with Recording(file) as recording:
            for label in ("x", "y"):
                model = recording.model(label, lambda label=label: Said(lambda _: reply(label)))
                await model.request(ask("S"))
        replayed = Replay(file)
        assert (await replayed.model("y").request(ask("S"))).text == "y"
        with pytest.raises(RecordingError, match="no model 'z'; it has: 'x', 'y'"):
            replayed.model("z")
        with pytest.raises(ReplayDiverged, match="recorded 1 time, and is asked once more"):
            await replayed.model("y").request(ask("S"))

    asyncio.run(work())


def test_what_was_not_asked_for_is_known_in_the_end(file: Path) -> None:
    record(file, Said(lambda _: reply()), ask("S"), ask("S", "U"), ask("S", agent="b"))
    replayed = Replay(file)
    asyncio.run(all_of(replayed.model("m"), [ask("S")]))
    assert [str(each) for each in replayed.unused()] == [
        "request 2 of agent 'a' to m (an answer)",
        "request 1 of agent 'b' to m (an answer)",
    ]
    assert replayed.divergences == []


# -------------------------------------------------------------------- divergence


def diverge(file: Path, *requests: ModelRequest) -> str:
    replayed = Replay(file)
    with pytest.raises(ReplayDiverged) as caught:
        asyncio.run(all_of(replayed.model("m"), requests))
    assert replayed.divergences == [caught.value]
    assert caught.value.next
    assert len(str(caught.value)) < 1500
    return caught.value.what


LONG = "x" * 5000


def test_a_message_that_differs_is_named_with_its_place_and_the_difference(file: Path) -> None:
    first = ask("You plan.", "Do it.")
    second = ask("You plan.", "Do it.", f"{LONG} propose 2 things.\nThen stop. {LONG}")
    record(file, Said(lambda _: reply()), first, second)
    other = ask("You plan.", "Do it.", f"{LONG} propose 3 things.\nThen stop. {LONG}")
    what = diverge(file, first, other)
    assert "request 2 of agent 'a' was not recorded. The closest is its request 2:" in what
    assert "message 2 (user) differs:" in what
    assert "recorded: …" in what
    assert "propose 2 things.\\nThen stop. x" in what
    assert "propose 3 things.\\nThen stop. x" in what


def test_the_first_message_that_differs_is_the_one_that_is_shown(file: Path) -> None:
    requests = [ask("You plan.", *"abc"[:n]) for n in range(4)]
    record(file, Said(lambda _: reply()), *requests)
    what = diverge(file, *requests[:2], ask("You replan.", "a", "b"))
    assert "request 3 of agent 'a'" in what
    assert "its request 3:" in what
    assert "message 0 (system) differs:" in what
    assert "message 1" not in what


@pytest.mark.parametrize(
    ("asked", "lines"),
    [
        (
            ask("S", "U", "more"),
            ["message 2 (user) is asked and was not recorded:", "asked:    more", "2 messages"],
        ),
        (ask("S"), ["message 1 (user) was recorded and is not asked:", "recorded: U"]),
        (ask("S", "U", max_tokens=9), ["max_tokens: 2048 recorded, 9 asked"]),
        (ask("S", "U", temperature=0.5), ["temperature: None recorded, 0.5 asked"]),
        (ask("S", "U", tool_choice="f"), ["tool_choice: None recorded, f asked"]),
        (ask("S", "U", response_schema=b'{"a":1}'), ["response_schema differs:", '{\\"a\\":1}']),
    ],
)
def test_every_other_difference(file: Path, asked: ModelRequest, lines: list[str]) -> None:
    record(file, Said(lambda _: reply()), ask("S", "U"))
    what = diverge(file, asked)
    assert all(line in what for line in lines), what


def tool(name: str, more: str = "") -> bytes:
    return json.dumps({"type": "function", "function": {"name": name, "d": more}}).encode()


def test_tools_that_differ_are_named(file: Path) -> None:
    record(file, Said(lambda _: reply()), ask("S", tools=(tool("a"), tool("b"), tool("c"))))
    what = diverge(file, ask("S", tools=(tool("a"), tool("c", "new"), tool("d"))))
    assert "tools not asked: b" in what
    assert "tools not recorded: d" in what
    assert "tools changed: c" in what
    what = diverge(file, ask("S", tools=(tool("b"), tool("a"), tool("c"))))
    assert "tools in another order: a, b, c recorded, b, a, c asked" in what


def test_messages_that_say_the_same_and_differ_otherwise(file: Path) -> None:
    def called(name: str) -> ModelRequest:
        told = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "f": name}]}
        return ModelRequest((message("S"), json.dumps(told).encode()), agent="a")

    record(file, Said(lambda _: reply()), called("look"))
    what = diverge(file, called("leave"))
    assert "message 1 (assistant) differs:" in what
    assert "look" in what
    assert "leave" in what


def test_an_agent_that_was_not_recorded(file: Path) -> None:
    agents = ("team/planner", "team/worker/1", "team/worker/2")
    record(file, Said(lambda _: reply()), *(ask("S", agent=agent) for agent in agents))
    what = diverge(file, ask("S", agent="team/worker/3"))
    assert "request 1 of agent 'team/worker/3' to 'm' was not recorded" in what
    assert "'team/worker/1'" in what
    assert "(3 in all)" in what


def test_messages_that_are_no_json_are_shown_as_they_are(file: Path) -> None:
    record(file, Said(lambda _: reply()), ModelRequest((b"\xffone",), agent="a"))
    what = diverge(file, ModelRequest((b"[]two",), agent="a"))
    assert "message 0 (no role) differs:" in what
    assert "one" in what
    assert "two" in what


# -------------------------------------------------------------------- time


def test_it_answers_at_once_or_at_the_pace_that_is_asked_for(file: Path) -> None:
    record(file, Said(lambda _: reply()), ask("S"))
    clock = ManualClock(0.0, jump=True)

    async def work(pace: float) -> float:
        before = clock.time()
        await Replay(file, pace=pace, sleep=clock.sleep).model("m").request(ask("S"))
        return clock.time() - before

    assert asyncio.run(work(0)) == 0
    assert asyncio.run(work(2)) == 3


def test_a_request_that_was_given_up_waits_to_be_given_up_again(file: Path) -> None:
    class Hangs(Said):
        async def request(self, request: ModelRequest, on_text: Any = None) -> ModelReply:
            await asyncio.sleep(3600)
            raise AssertionError

    async def give_up(model: Model) -> None:
        task = asyncio.create_task(model.request(ask("S", seconds=60)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    async def work() -> None:
        async with Recording(file) as recording:
            await give_up(recording.model("m", lambda: Hangs(lambda _: reply())))
        await give_up(Replay(file).model("m"))
        clock = ManualClock(0.0, jump=True)
        replayed = Replay(file, sleep=clock.sleep)
        with pytest.raises(ReplayDiverged, match=r"gave it up after 0\.0 s"):
            await replayed.model("m").request(ask("S", seconds=60))
        assert clock.time() == 60

    asyncio.run(work())


# -------------------------------------------------------------------- the file


def conversation(turns: int) -> Iterator[ModelRequest]:
    messages = [message("S" * 2000, "system")]
    for turn in range(turns):
        messages = [*messages, message(f"turn {turn} " + "y" * 300)]
        yield ModelRequest(tuple(messages), tools=(tool("look", "z" * 1000),), agent="a")


def test_a_long_conversation_is_stored_once(tmp_path: Path) -> None:
    sizes: list[int] = []
    for turns in (100, 200):
        path = tmp_path / f"{turns}.jsonl"
        record(path, Said(lambda _: reply()), *conversation(turns))
        sizes.append(path.stat().st_size)
        assert len(replay(path, *conversation(turns))) == turns
    assert sizes[1] < 2.1 * sizes[0]
    assert sizes[1] / 200 < 1500, "300 of message, and its pair"


def test_what_agents_share_is_stored_once(file: Path) -> None:
    requests = [ask("S" * 10_000, f"U{n}", agent=f"a{n}") for n in range(20)]
    record(file, Said(lambda _: reply()), *requests)
    assert file.read_bytes().count(b"S" * 10_000) == 1


def test_a_last_line_torn_at_any_place_costs_that_line_only(file: Path, tmp_path: Path) -> None:
    requests = [ask("S", f"U{n}") for n in range(3)]
    record(file, Said(lambda r: reply(f"{len(r.messages)}")), *requests)
    whole = file.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    torn = tmp_path / "torn.jsonl"
    for at in range(last, len(whole)):
        torn.write_bytes(whole[:at])
        replayed = Replay(torn)
        complete = at >= len(whole) - 1  # but for its line end
        assert replayed.torn == (0 if complete or at == last else 1)
        assert len(replayed.unused()) == (3 if complete else 2)


def test_a_recording_goes_on_after_a_torn_line(file: Path) -> None:
    requests = [ask("S", f"U{n}") for n in range(3)]
    record(file, Said(lambda _: reply("first")), *requests)
    file.write_bytes(file.read_bytes()[:-40])
    record(file, Said(lambda _: reply("second")), requests[2])
    replayed = Replay(file)
    assert replayed.torn == 1
    found = asyncio.run(all_of(replayed.model("m"), requests))
    assert [each.text for each in found if isinstance(each, ModelReply)] == [
        "first",
        "first",
        "second",
    ]


def test_what_a_resumed_run_asked_again_is_what_counts(file: Path) -> None:
    """The first answer was on its way to the journal when the process died. Errors that it had
    met before stay: a resumed run does not ask for these again."""
    busy = ModelOverloaded("busy", retry_after=1)
    record(file, Said(in_order(reply("one"), busy, reply("lost"))), ask("S"), *[ask("S", "U")] * 2)
    record(file, Said(in_order(reply("kept"), reply("end"))), ask("S", "U"), ask("S", "V"))
    found = replay(file, ask("S"), ask("S", "U"), ask("S", "U"), ask("S", "V"))
    assert [each.text if isinstance(each, ModelReply) else each.what for each in found] == [
        "one",
        "busy",
        "kept",
        "end",
    ]


def test_parts_are_not_written_again_by_a_later_session(file: Path) -> None:
    for _ in range(3):
        record(file, Said(lambda _: reply()), ask("S" * 5000))
    assert file.read_bytes().count(b"S" * 5000) == 1


def test_a_recording_is_of_one_run(file: Path) -> None:
    with_run(file, "r1")
    with_run(file, "r1")
    with pytest.raises(RecordingError, match="is of run r1, not r2"):
        with_run(file, "r2")
    assert Replay(file).about == {"run": "r1"}


def with_run(file: Path, run: str) -> None:
    recording = Recording(file)
    try:
        recording.note(run=run)
    finally:
        recording.close()


def test_it_is_its_owners_alone(file: Path) -> None:
    before = os.umask(0)
    try:
        record(file, Said(lambda _: reply()))
        assert file.stat().st_mode & 0o777 == 0o600
        file.chmod(0o644)
        record(file, Said(lambda _: reply()))
        assert file.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_one_process_at_a_time(file: Path) -> None:
    first = Recording(file)
    with pytest.raises(RecordingError, match="another process"):
        Recording(file)
    first.close()
    first.close()
    Recording(file).close()


@pytest.mark.parametrize(
    "content", [b"{}\n", b"hello\n", b'{"line":"part","hash":"x","text":"y"}\n', b"[1]\n", b"\n"]
)
def test_another_kind_of_file_is_left_alone(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    for attempt in (lambda: Recording(file), lambda: Replay(file)):
        with pytest.raises(RecordingError, match="not a recording"):
            attempt()
    assert file.read_bytes() == content


def test_a_recording_of_a_newer_version(file: Path) -> None:
    record(file, Said(lambda _: reply()))
    file.write_bytes(file.read_bytes().replace(b'"schema":1', b'"schema":2'))
    with pytest.raises(RecordingError, match="schema 2"):
        Replay(file)


@pytest.mark.parametrize("harm", [b"", b"{\n", b'{"line":"pair"}\n'])
def test_damage_in_the_middle_is_refused(file: Path, harm: bytes) -> None:
    record(file, Said(lambda _: reply()), ask("S"), ask("S", "U"))
    lines = file.read_bytes().splitlines(keepends=True)
    for at in range(1, len(lines) - 1):
        file.write_bytes(b"".join([*lines[:at], harm or lines[at][:-9] + b"\n", *lines[at + 1 :]]))
        with pytest.raises(RecordingError, match=f"line {at + 1} is damaged"):
            Replay(file)


def test_a_part_that_was_changed_is_found(file: Path) -> None:
    record(file, Said(lambda _: reply()), ask("S", "Hello"), ask("S", "Hello", "U"))
    lines = file.read_bytes().splitlines(keepends=True)
    without = [line for line in lines if b"Hello" not in line]
    file.write_bytes(b"".join(without))
    with pytest.raises(RecordingError, match=r"part .* is missing"):
        Replay(file)
    file.write_bytes(b"".join(lines).replace(b'"keep":2', b'"keep":1'))
    with pytest.raises(RecordingError, match="request 2 of agent 'a' does not fit its hash"):
        Replay(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        Replay(tmp_path / "no.jsonl")
    with pytest.raises(RecordingError, match="No such file"):
        Recording(tmp_path / "no" / "run.jsonl")


def test_a_full_disk_ends_the_request_and_leaves_a_whole_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(file, Said(lambda _: reply()), ask("S"))

    def full(descriptor: int, data: bytes) -> int:
        if b"pair" in bytes(data):
            raise OSError(28, "No space left on device")
        return write(descriptor, bytes(data)[:7])  # short writes are gone on with

    write = os.write
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RecordingError, match="No space left"):
        record(file, Said(lambda _: reply()), ask("S", "U"))
    monkeypatch.undo()
    assert len(Replay(file).unused()) == 1
    record(file, Said(lambda _: reply()), ask("S", "U"))
    assert len(Replay(file).unused()) == 2


def test_what_they_are_called(file: Path) -> None:
    recording = Recording(file)
    assert "RecordingModel" in repr(RecordingModel(Said(lambda _: reply()), recording))
    recording.close()
    assert "ReplayModel" in repr(ReplayModel(Replay(file), "said"))


# -------------------------------------------------------------------- secrets


HALVES = (KEY[:11], KEY[11:])


@pytest.mark.parametrize("by", ["environment", "argument"])
def test_no_secret_is_in_the_file_and_the_replay_fits_all_the_same(
    file: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    given: dict[str, Any] = {}
    if by == "environment":
        monkeypatch.setenv("SOME_API_KEY", KEY)
    else:
        given = {"secrets": [KEY]}
    arguments = json.dumps({"key": KEY})
    ends = [
        ModelReply(
            f"It is {KEY}.",
            (ToolCall(KEY, KEY, arguments),),
            "stop",
            None,
            b"data: " + HALVES[0].encode() + b"\n\ndata: " + HALVES[1].encode(),
            1.0,
            reasoning=f"{KEY}?",
        ),
        ModelReply("fine", (), "stop", None, b"\xff" + KEY.encode(), 1.0),
        ModelRefused(f"wrong key {KEY}", next=f"not {KEY}"),
    ]
    requests = [ask("S", f"My key is {KEY}", "n" * n, tools=(tool(KEY),)) for n in range(3)]
    shown: list[str] = []

    async def work() -> None:
        async with Recording(file, **given) as recording:
            recording.note(by=KEY)
            model = recording.model("m", lambda: Said(in_order(*ends)))
            for request in requests[:2]:
                await model.request(request, shown.append)
            with pytest.raises(ModelRefused):
                await model.request(requests[2], shown.append)
        replayed = Replay(file, **given).model("m")
        found = [await end_of(replayed, request) for request in requests]
        first = found[0]
        assert isinstance(first, ModelReply)
        assert (first.text, first.raw) == ("It is ***.", b"***")
        assert json.loads(first.tool_calls[0].arguments) == {"key": "***"}
        with pytest.raises(ReplayDiverged) as caught:
            await replayed.request(ask("S", f"My other key is {KEY}"))
        assert KEY not in str(caught.value)

    asyncio.run(work())
    held = file.read_bytes()
    assert KEY.encode() not in held
    assert all(half.encode() not in held for half in HALVES)
    assert KEY in "".join(shown), "who watches live sees what the model said"
