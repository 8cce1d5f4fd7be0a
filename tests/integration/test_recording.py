"""Runs that are recorded against a real server and replayed without one; and keys that leak."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import BaseModel, SecretStr

from manyhands.adapters.models.limiter import LimitedModel
from manyhands.adapters.models.openai_compatible import OpenAICompatibleModel
from manyhands.adapters.models.recording import Recording
from manyhands.adapters.models.recording_replay import Replay
from manyhands.agents.request import Limits
from manyhands.agents.role import Role
from manyhands.agents.tools import Toolbox, tool
from manyhands.agents.turn import run_agent
from manyhands.errors import ModelMalformed, ModelOverloaded, ModelUnreachable, StepFailed
from manyhands.ports import Model, ModelRequest
from manyhands.runtime import (
    Effect,
    Event,
    Run,
    Runtime,
    SkippingClock,
    Workflow,
)
from manyhands.testing import (
    ChatServer,
    Conversation,
    CrashPoint,
    ManualClock,
    Reply,
    ScriptedModel,
    Victims,
    crash_points,
)

KEY = "sk-never-to-be-seen-0123456789"
AGENTS = 4
LIMITS = Limits(first_wait=0.01, cap=0.02)


class Finding(BaseModel):
    what: str


@tool(effect=Effect.IDEMPOTENT)
async def look(at: str) -> str:
    """Look at something."""
    await asyncio.sleep(0)
    return f"{at} is there"


FINDER = Role("finder", "", "Find what is asked for.", tools=("look",), max_tokens=100)


def team(model: Model, role: Role, screens: dict[str, list[str]]) -> Workflow:
    """Agents at once, each watched by somebody; a reporter reads what they found."""

    async def agent(run: Run, number: int) -> str:
        screen = screens.setdefault(str(number), [])
        report = await run_agent(
            run,
            role,
            f"Number {number}.",
            model=model,
            output=Finding,
            toolbox=Toolbox.of(look),
            limits=LIMITS,
            on_text=screen.append,
            on_void=lambda: screen.append("(void)"),
        )
        return report.require().what

    async def work(run: Run, _: None) -> dict[str, Any]:
        found = await run.map("agent", agent, range(AGENTS), key_of=str)
        told = await run_agent(
            run,
            Role("reporter", "", "Report."),
            "Found: " + "; ".join(found),
            model=model,
            limits=LIMITS,
        )
        return told.model_dump(mode="json")

    return Workflow("team", work)


def script(request: ModelRequest) -> Reply:
    """Three turns with a word or two, and an answer; with errors on the way for some."""
    talk = Conversation.of(request)
    if talk.role == "reporter":
        return Reply(text=f"All of it: {talk.task}")
    lot = sum(talk.task.encode()) + talk.spoken
    fails = {
        0: (ModelOverloaded("busy", retry_after=0.05), ModelOverloaded("still busy")),
        1: (ModelUnreachable("cut"),),
        2: (ModelMalformed("html"),),
    }.get(lot % 5, ())
    if talk.spoken < 3:
        made = (("look", json.dumps({"at": f"place {talk.spoken} ü"})),)
        return Reply(text=f"I look at place {talk.spoken}.", calls=made, fails=fails)
    return Reply(answer={"what": f"it ({talk.task})"}, fails=fails)


@asynccontextmanager
async def endpoint(url: str, **settings: Any) -> AsyncGenerator[Model]:
    """Its rests take no time here."""
    inner, clock = OpenAICompatibleModel("tiny", url, **settings), ManualClock(jump=True)
    yield LimitedModel(inner, concurrency=4, now=clock.time, sleep=clock.sleep)
    await inner.close()


async def events_of(
    journal: Path, model: Model, role: Role = FINDER, **settings: Any
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What a run leaves in its journal, but for when and by which process."""
    screens: dict[str, list[str]] = {}
    async with Runtime.open(journal, **settings) as runtime:
        await runtime.run(team(model, role, screens), run_id="r")
        events = {f"{e.type} {e.key}": told(runtime, e) for e in runtime.journal.events("r")}
        blobs = runtime.journal.read("SELECT hash, content FROM blobs")
    return {**events, "blobs": sorted(blobs)}, screens


def told(runtime: Runtime, event: Event) -> Any:
    data = {k: v for k, v in event.data.items() if k not in ("pid", "wake_at")}
    return data, runtime.journal.value(event)


# -------------------------------------------------------------------- one run, twice


async def test_a_run_is_replayed_byte_for_byte_with_no_server(tmp_path: Path) -> None:
    """Agents at once, errors and retries, streamed text: the same journal, the same screens."""
    file = tmp_path / "run.jsonl"
    served = ScriptedModel(script)
    async with ChatServer(served) as server, endpoint(server.url) as model, Recording(file) as tape:
        live, seen = await events_of(tmp_path / "a.db", tape.model("tiny", lambda: model))
    assert len(served.requests) > 4 * AGENTS + 1, "some were asked again"
    replayed = Replay(file)
    again, shown = await events_of(tmp_path / "b.db", replayed.model("tiny"), clock=SkippingClock())
    assert again == live
    assert shown == seen
    assert all("".join(screen).startswith("I look at place 0.") for screen in seen.values())
    assert replayed.unused() == ()
    assert replayed.divergences == []
    assert len(served.requests) == len(file.read_text().split('"line":"pair"')) - 1


async def test_a_changed_role_file_is_named_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    served = ScriptedModel(script)
    async with ChatServer(served) as server, endpoint(server.url) as model, Recording(file) as tape:
        await events_of(tmp_path / "a.db", tape.model("tiny", lambda: model))
    changed = replace(FINDER, instructions="Find quickly what is asked for.")
    replayed = Replay(file)
    with pytest.raises(StepFailed) as caught:
        await events_of(tmp_path / "b.db", replayed.model("tiny"), changed, clock=SkippingClock())
    assert caught.value.kind == "ReplayDiverged"
    message = str(caught.value)
    assert "request 1 of agent 'agent/0/finder' was not recorded" in message
    assert "message 0 (system) differs:" in message
    assert "recorded: Role: finder\\n\\nFind what is asked for." in message
    assert "asked:    Role: finder\\n\\nFind quickly what is asked for." in message
    assert len(replayed.divergences) == AGENTS
    assert len(replayed.unused()) == len(served.requests)


# -------------------------------------------------------------------- kill -9


def program(on_boundary: Callable[[str, int], None], journal: str, file: str, url: str) -> Any:
    """What is killed and started again: begun or resumed, recorded, or (without a URL) replayed."""

    async def main() -> Any:
        screens: dict[str, list[str]] = {}

        async def go(model: Model, clock: SkippingClock) -> Any:
            flow = team(model, FINDER, screens)
            async with Runtime.open(
                journal, workflows=[flow], on_boundary=on_boundary, clock=clock
            ) as runtime:
                known = any(info.run_id == "r" for info in runtime.runs())
                handle = await (runtime.resume("r") if known else runtime.start(flow, run_id="r"))
                return (await handle.result())["text"]

        if not url:
            replayed = Replay(file)
            text = await go(replayed.model("tiny"), SkippingClock())
            return [text, [str(each) for each in replayed.unused()]]
        async with endpoint(url) as model, Recording(file) as tape:
            return await go(tape.model("tiny", lambda: model), SkippingClock())

    return asyncio.run(main())


async def test_a_recording_survives_kill_9_anywhere_and_the_resumed_run_is_replayed_whole(
    tmp_path: Path,
) -> None:
    with Victims(__file__, "program") as victims:

        async def run(name: str, url: str, kill: CrashPoint | None = None) -> Any:
            where = str(tmp_path / f"{name}.db"), str(tmp_path / f"{name[0]}.jsonl"), url
            return await asyncio.to_thread(victims.run, *where, kill=kill)

        async with ChatServer(ScriptedModel(script)) as server:
            whole = await run("a", server.url)
        points = random.Random(7).sample(list(crash_points(whole.commits)), 4)
        for at, point in enumerate(points):
            name = "bcde"[at]
            async with ChatServer(ScriptedModel(script)) as server:
                killed = await run(name, server.url, point)
                ended = await run(name, server.url)
            assert ended.value == whole.value
            replayed = await run(f"{name}2", "")
            assert replayed.value == [whole.value, []], (point, killed)


# -------------------------------------------------------------------- keys


class Parrot:
    """A server that repeats the key that it is sent wherever it can."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.url = ""

    async def __aenter__(self) -> Parrot:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        body = await http.json()
        key = http.headers["Authorization"].removeprefix("Bearer ")
        self.asked.append(body)
        if len(self.asked) % 3 == 1:
            return web.json_response({"error": {"message": f"busy, {key}"}}, status=500)
        message: dict[str, Any] = {
            "content": f"Your key is {key}.",
            "reasoning_content": f"{key}, I think",
        }
        if len(self.asked) < 4:
            function = {"name": "look", "arguments": json.dumps({"at": key})}
            message["tool_calls"] = [{"index": 0, "id": key, "function": function}]
        if body.get("stream"):
            return await self._streamed(http, message)
        choice = {"message": message, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "key": key})

    async def _streamed(self, http: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        """In pieces of seven characters, so that no piece holds the key."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        deltas: list[dict[str, Any]] = []
        for field in ("reasoning_content", "content"):
            text = message[field]
            deltas += [{field: text[at : at + 7]} for at in range(0, len(text), 7)]
        for call in message.get("tool_calls", ()):
            arguments = call["function"]["arguments"]
            deltas.append({"tool_calls": [{**call, "function": {"name": "look"}}]})
            for at in range(0, len(arguments), 7):
                piece = {"arguments": arguments[at : at + 7]}
                deltas.append({"tool_calls": [{"index": 0, "function": piece}]})
        for delta in deltas:
            event = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        if len(self.asked) % 3 == 2 and len(self.asked) > 3:
            return response  # it ends before it is done
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        await response.write(b"data: " + json.dumps(end).encode() + b"\n\ndata: [DONE]\n\n")
        return response


@pytest.mark.parametrize("watched", [False, True])
async def test_a_key_that_a_server_repeats_and_one_in_a_prompt_are_written_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], watched: bool
) -> None:
    """The journal, the recording, what a person watches, and what is printed. The tool's own
    result too: it is told where to look by the model."""
    screen: list[str] = []
    texts: list[str] = []
    folder = tmp_path / "written"
    folder.mkdir()

    async with Parrot() as server:

        async def work(run: Run, _: None) -> None:
            inner = OpenAICompatibleModel("tiny", server.url, api_key=SecretStr(KEY))
            async with Recording(folder / "run.jsonl", secrets=[KEY]) as tape:
                model = tape.model("tiny", lambda: LimitedModel(inner))
                report = await run_agent(
                    run,
                    FINDER,
                    f"By accident: {KEY}. " + "x" * 70_000,
                    model=model,
                    toolbox=Toolbox.of(look),
                    limits=LIMITS,
                    on_text=screen.append if watched else None,
                )
                await inner.close()
            texts.append(f"{report.text} {report.detail} {report!r}")
            print(report)

        async with Runtime.open(
            folder / "journal.db", clock=SkippingClock(), secrets=[KEY]
        ) as runtime:
            await runtime.run(Workflow("w", work), run_id="r")
            names = {path.name for path in folder.iterdir()}
            held = b"".join(path.read_bytes() for path in folder.iterdir())
            steps = runtime.view("r").steps
        held += b"".join(path.read_bytes() for path in folder.iterdir())
    assert "journal.db-wal" in names
    assert len(server.asked) >= 4
    assert any("/tool/" in key for key in steps), "the call that names the key was run"
    printed = "".join(capfd.readouterr())
    everything = [held.decode("utf-8", "replace"), "".join(screen), *texts, printed]
    for text in everything:
        assert KEY not in text
        assert KEY[3:12] not in text, "nor a good part of it"
    assert "***" in texts[0]
    assert "Your key is ***." in held.decode("utf-8", "replace")
    assert ("Your key is ***." in "".join(screen)) is watched
    sent = json.dumps(server.asked)
    assert KEY not in sent, "what the journal must not hold is not sent either"


async def test_the_environments_secrets_are_known_without_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", KEY)
    file = tmp_path / "run.jsonl"
    request = ModelRequest((json.dumps({"role": "user", "content": KEY}).encode(),))
    served = ScriptedModel([f"The key is {KEY}."])
    async with ChatServer(served) as server, endpoint(server.url) as model, Recording(file) as tape:
        reply = await tape.model("m", lambda: model).request(request)
        again = await Replay(file).model("m").request(request)
    assert KEY in reply.text
    assert again.text == "The key is ***."
    assert KEY not in file.read_text()
    assert os.stat(file).st_mode & 0o777 == 0o600
