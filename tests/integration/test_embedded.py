"""llama.cpp's own server with a tiny random model: what it answers, and how long it lives."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import psutil
import pytest
from pydantic import BaseModel

from manyhands.adapters.models.embedded import EmbeddedModel, ServerSettings
from manyhands.adapters.models.embedded_limits import usable_cores
from manyhands.adapters.models.embedded_state import Folder, ServerState, running
from manyhands.agents.report import ReportStatus
from manyhands.agents.role import Role
from manyhands.agents.tools import Toolbox, tool
from manyhands.agents.turn import run_agent
from manyhands.errors import ConfigError, ModelError, ModelRefused, ModelTimeout, ModelUnreachable
from manyhands.ports import ModelReply, ModelRequest
from manyhands.runtime import Effect, Run, Runtime, Workflow
from manyhands.testing.tiny_gguf import build_tiny_gguf
from tests.tiny_model import SETTINGS, alive, until

pytestmark = pytest.mark.needs("llama")

LOOK = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "line": {"type": "integer"}},
    "required": ["path", "line"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "nested": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "inner": {
                "type": "object",
                "properties": {"ok": {"type": "boolean"}, "n": {"type": ["integer", "null"]}},
                "required": ["ok", "n"],
                "additionalProperties": False,
            },
        },
        "required": ["name", "inner"],
        "additionalProperties": False,
    },
    "list": {
        "type": "object",
        "properties": {
            "picks": {
                "type": "array",
                "items": {"enum": ["red", "grün", "青"]},
                "minItems": 2,
                "maxItems": 3,
            }
        },
        "required": ["picks"],
        "additionalProperties": False,
    },
    "choice": {
        "anyOf": [
            {
                "type": "object",
                "properties": {"tool": {"const": "look"}, "arguments": LOOK},
                "required": ["tool", "arguments"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"tool": {"const": "wait"}},
                "required": ["tool"],
                "additionalProperties": False,
            },
        ]
    },
}


def ask(text: str = "Say hello.", **settings: Any) -> ModelRequest:
    message = json.dumps({"role": "user", "content": text}).encode()
    return ModelRequest(messages=(message,), **{"max_tokens": 64, **settings})


def state_of(model: EmbeddedModel) -> ServerState:
    assert model.folder is not None
    state = Folder(model.folder).read()
    assert state is not None
    return state


@pytest.fixture
async def model(tiny: EmbeddedModel) -> AsyncIterator[EmbeddedModel]:
    yield tiny
    await tiny.close()


def test_the_same_seed_gives_the_same_file(tiny_gguf: Path, tmp_path: Path) -> None:
    same, other = build_tiny_gguf(tmp_path / "same"), build_tiny_gguf(tmp_path / "other", seed=1)
    assert same.read_bytes() == tiny_gguf.read_bytes() != other.read_bytes()
    assert 2_000_000 < same.stat().st_size < 8_000_000
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == []


# -------------------------------------------------------------------- what it answers


async def test_chat(model: EmbeddedModel) -> None:
    reply = await model.request(ask(max_tokens=200, seed=1))
    assert reply.finish_reason in ("stop", "length")
    assert reply.usage is not None
    assert 0 < reply.usage.output_tokens <= 200
    assert reply.usage.input_tokens > 10
    assert reply.seconds > 0
    assert (model.name, model.context_length) == ("tiny.gguf", 2048)
    assert model.price is not None
    assert model.price.output_per_million == 0


async def test_a_reply_ends_at_its_length(tiny_gguf: Path, server_folder: Path) -> None:
    model = EmbeddedModel(
        tiny_gguf, state_folder=server_folder, settings=SETTINGS, extra={"ignore_eos": True}
    )
    reply = await model.request(ask(max_tokens=33))
    await model.close()
    assert reply.finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.output_tokens == 33


async def test_the_pieces_of_a_stream_are_its_text(model: EmbeddedModel) -> None:
    said: list[ModelReply] = []
    for seed in range(5):
        pieces: list[str] = []
        reply = await model.request(ask(seed=seed, max_tokens=100), pieces.append)
        assert "".join(pieces) == reply.text
        assert reply.usage is not None
        assert reply.usage.output_tokens > 0
        assert reply.first_token_seconds is not None
        said.append(reply)
    assert any(len(reply.text) > 5 for reply in said)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
async def test_a_schema_is_obeyed(model: EmbeddedModel, schema: dict[str, Any]) -> None:
    found: set[str] = set()
    for seed in range(6):
        request = ask(seed=seed, max_tokens=400, response_schema=json.dumps(schema).encode())
        reply = await model.request(request, (lambda _: None) if seed % 2 else None)
        assert reply.finish_reason == "stop"
        jsonschema.validate(json.loads(reply.text), schema)
        found.add(reply.text)
    assert len(found) > 1


async def test_a_tool_is_called_and_its_result_answered(model: EmbeddedModel) -> None:
    function = {"name": "look", "description": "Looks at a line.", "parameters": LOOK}
    offered = (json.dumps({"type": "function", "function": function}).encode(),)
    for seed in range(10):
        reply = await model.request(
            ask(tools=offered, tool_choice="required", seed=seed, max_tokens=400)
        )
        if reply.finish_reason == "tool_calls":
            break
    assert reply.finish_reason == "tool_calls"
    history = [{"role": "user", "content": "Say hello."}]
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in reply.tool_calls
    ]
    for call in reply.tool_calls:
        assert call.name == "look"
        jsonschema.validate(json.loads(call.arguments), LOOK)
    history.append({"role": "assistant", "content": reply.text, "tool_calls": calls})  # type: ignore[dict-item]
    history += [{"role": "tool", "tool_call_id": c.id, "content": "1"} for c in reply.tool_calls]
    answer = await model.request(
        ModelRequest(
            messages=[json.dumps(message).encode() for message in history],
            max_tokens=400,
            response_schema=json.dumps(SCHEMAS["nested"]).encode(),
        )
    )
    jsonschema.validate(json.loads(answer.text), SCHEMAS["nested"])
    assert answer.usage is not None
    assert reply.usage is not None
    assert answer.usage.input_tokens > reply.usage.input_tokens - len(offered[0])


class Finding(BaseModel):
    what: str
    certain: bool


@tool(effect=Effect.PURE)
def look(line: int) -> str:
    """Look at a line.

    Args:
        line: which one.
    """
    LOOKED.append(line)
    return f"line {line} is empty"


LOOKED: list[int] = []


async def test_agents_call_tools_and_answer(model: EmbeddedModel, tmp_path: Path) -> None:
    """The model is random, so an agent may fail; of many, some call a tool, and some answer."""
    role = Role("finder", "finds", "Look around.", max_tokens=120, max_turns=4, tools=("look",))

    async def workflow(run: Run, _: object) -> list[list[Any]]:
        async def one(scope: Run, n: int) -> list[Any]:
            report = await run_agent(
                scope, role, f"Find {n}.", model=model, output=Finding, toolbox=Toolbox.of(look)
            )
            what = report.value.what if report.value is not None else None
            return [report.status, what, report.usage.requests]

        ended: list[list[Any]] = []
        for round in range(10):
            numbers = range(round * 6, round * 6 + 6)
            ended += await run.map("agent", one, numbers, key_of=str)
            if LOOKED and any(status == ReportStatus.COMPLETE for status, *_ in ended):
                break
        return ended

    LOOKED.clear()
    flow = Workflow("finders", workflow)
    async with Runtime.open(tmp_path / "journal.db", workflows=[flow]) as runtime:
        reports = await (await runtime.start(flow)).result()
    assert all(requests > 0 for *_, requests in reports)
    assert all(isinstance(line, int) for line in LOOKED)
    assert LOOKED
    answers = [what for status, what, _ in reports if status == ReportStatus.COMPLETE]
    assert answers
    assert all(isinstance(what, str) for what in answers)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_context_that_overflows_is_refused(model: EmbeddedModel, stream: bool) -> None:
    with pytest.raises(ModelRefused) as caught:
        await model.request(ask("word " * 3000), (lambda _: None) if stream else None)
    assert "2048 tokens" in caught.value.what
    assert "shorten the conversation" in caught.value.next
    assert "32768" in caught.value.next
    assert not caught.value.retryable
    assert (await model.request(ask())).usage is not None


async def test_a_burst_of_256_is_answered(model: EmbeddedModel) -> None:
    many = [model.request(ask(f"Say {n}.", max_tokens=8)) for n in range(256)]
    replies = await asyncio.gather(*many)
    assert len(replies) == 256
    assert all(reply.usage is not None and reply.usage.output_tokens for reply in replies)


async def test_a_cancelled_request_gives_its_slot_back(tiny_gguf: Path, tmp_path: Path) -> None:
    settings = ServerSettings(context_length=32768, slots=1, threads=1, linger_seconds=0.5)
    model = EmbeddedModel(
        tiny_gguf, state_folder=tmp_path, settings=settings, extra={"ignore_eos": True}
    )
    began = asyncio.Event()
    # Alone it would take minutes.
    long = asyncio.ensure_future(
        model.request(ask(max_tokens=30_000, seconds=600), lambda _: began.set())
    )
    await began.wait()
    long.cancel()
    reply = await model.request(ask(max_tokens=4, seconds=20))
    await model.close()
    assert long.cancelled()
    assert reply.finish_reason == "length"


async def test_a_deadline_counts(model: EmbeddedModel) -> None:
    with pytest.raises(ModelTimeout):
        await model.request(ask("word " * 900, max_tokens=1000, seconds=0.05))
    assert (await model.request(ask())).usage is not None


# -------------------------------------------------------------------- whose it is


async def test_one_file_and_settings_have_one_server(tiny_gguf: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(tiny_gguf)
    settings = replace(SETTINGS, linger_seconds=0.5)
    models = [
        EmbeddedModel(path, state_folder=tmp_path, settings=each)
        for path, each in (
            (tiny_gguf, settings),
            (link, settings),
            (tiny_gguf, replace(settings, slots=2)),
        )
    ]
    await asyncio.gather(*(model.request(ask()) for model in models))
    first, second, other = (state_of(model) for model in models)
    assert first.pid == second.pid != other.pid
    assert first.key != other.key
    assert {state.pid for state in running(tmp_path)} == {first.pid, other.pid}
    for model in models:
        await model.close()
    until(lambda: not alive(first.pid) and not alive(other.pid), "servers without clients end")
    until(lambda: not alive(first.host_pid), "so do their hosts")
    assert list(running(tmp_path)) == []


async def test_nobody_else_may_ask(model: EmbeddedModel) -> None:
    await model.prepare()
    state = state_of(model)
    folder = model.folder
    assert folder is not None
    assert stat.S_IMODE((folder / "state.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(state.key) >= 32
    for pid in (state.pid, state.host_pid):
        process = psutil.Process(pid)
        assert state.key not in " ".join([*process.cmdline(), *process.environ().values()])
    assert state.key not in (folder / "server.log").read_text()
    listening = [c for c in psutil.Process(state.pid).net_connections() if c.status == "LISTEN"]
    assert [c.laddr.ip for c in listening] == ["127.0.0.1"]
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    async with aiohttp.ClientSession() as session:
        for key in ("", "wrong"):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            async with session.post(
                f"{state.url}/chat/completions", json=body, headers=headers
            ) as answer:
                assert answer.status == 401
        for path in ("/slots", "/props", "/metrics"):
            url = state.url.removesuffix("/v1") + path
            headers = {"Authorization": f"Bearer {state.key}"}
            async with session.get(url, headers=headers) as answer:
                seen = await answer.text()
            assert "Say hello" not in seen, path


async def test_a_servers_environment_holds_no_tokens(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    settings = replace(SETTINGS, linger_seconds=0.5)
    model = EmbeddedModel(tiny_gguf, state_folder=tmp_path, settings=settings)
    await model.prepare()
    state = state_of(model)
    for pid in (state.pid, state.host_pid):
        environment = psutil.Process(pid).environ()
        assert "secret" not in " ".join(environment.values())
        assert environment["OMP_WAIT_POLICY"] == "passive"
    await model.close()


async def test_no_more_threads_than_cores(tiny_gguf: Path, tmp_path: Path) -> None:
    settings = ServerSettings(threads=1000, context_length=512, linger_seconds=0.5)
    model = EmbeddedModel(tiny_gguf, state_folder=tmp_path, settings=settings)
    await model.prepare()
    assert state_of(model).threads == usable_cores()
    await model.close()


# -------------------------------------------------------------------- how long it lives


async def test_unused_it_ends_and_comes_back(tiny_gguf: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, idle_seconds=0.3, linger_seconds=60.0)
    model = EmbeddedModel(tiny_gguf, state_folder=tmp_path, settings=settings)
    await model.request(ask())
    first = state_of(model)
    await asyncio.to_thread(until, lambda: not alive(first.host_pid), "an unused server ends")
    assert not alive(first.pid)
    # While it is used, it stays, however long that takes.
    await model.request(ask())
    second = state_of(model)
    assert second.pid != first.pid
    await asyncio.gather(*(model.request(ask(max_tokens=200)) for _ in range(24)))
    assert state_of(model).pid == second.pid
    await model.close()
    await asyncio.to_thread(until, lambda: not alive(second.host_pid), "it ends again")


async def test_closing_is_not_the_end(model: EmbeddedModel) -> None:
    await model.request(ask())
    before = state_of(model).pid
    await model.close()
    await model.close()
    await model.request(ask())
    assert state_of(model).pid == before  # within linger_seconds


def test_a_model_outlives_its_event_loop(tiny: EmbeddedModel) -> None:
    async def once() -> str:
        return (await tiny.request(ask())).finish_reason

    assert {asyncio.run(once()) for _ in range(2)} <= {"stop", "length"}
    asyncio.run(tiny.close())


async def test_the_log_is_bounded(tiny_gguf: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, log_bytes=8_000, linger_seconds=0.5)
    model = EmbeddedModel(tiny_gguf, state_folder=tmp_path, settings=settings)
    await asyncio.gather(*(model.request(ask(max_tokens=4)) for _ in range(60)))
    await model.close()
    assert model.folder is not None
    log, older = model.folder / "server.log", model.folder / "server.log.1"
    until(lambda: "ended: unwanted" in log.read_text(), "the log tells of the end")
    assert 0 < log.stat().st_size < 10_000
    assert 8_000 <= older.stat().st_size < 10_000


# -------------------------------------------------------------------- what cannot be


def refused(*args: Any, **kwargs: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        EmbeddedModel(*args, **kwargs)
    return caught.value


def test_what_is_no_model_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("This is not a model at all, whatever its name says.")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(b"GGUF\x03\0\0\0")
    assert f"{text} is not a GGUF" in refused(text, state_folder=tmp_path).what
    assert "ends within its head" in refused(cut, state_folder=tmp_path).what
    assert "no file" in refused(tmp_path / "none.gguf", state_folder=tmp_path).what
    assert "directory" in refused(tmp_path, state_folder=tmp_path).what.lower()
    assert "slots = 0" in _wrong(slots=0)

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    error = refused(text, state_folder=tmp_path)
    assert "xllamacpp" in error.what
    assert "manyhands[local]" in error.next
    assert not list(tmp_path.glob("*/state.json"))


def _wrong(**settings: int) -> str:
    with pytest.raises(ConfigError) as caught:
        ServerSettings(**settings)  # type: ignore[arg-type]
    return caught.value.what


async def failed(model: EmbeddedModel) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await model.request(ask())
    await model.close()
    folder = model.folder
    assert folder is not None
    assert str(folder / "server.log") in str(caught.value)
    assert caught.value.next
    return caught.value


async def test_weights_that_are_not_whole(tiny_gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[:2_000_000])
    model = EmbeddedModel(cut, state_folder=tmp_path, settings=SETTINGS)
    first, second = await asyncio.gather(failed(model), failed(model))
    for error in (first, second):
        assert "cut.gguf" in error.what
        assert "not within the file bounds" in error.what
        assert not error.retryable
    cut.write_bytes(tiny_gguf.read_bytes())
    mended = EmbeddedModel(
        cut, state_folder=tmp_path, settings=replace(SETTINGS, linger_seconds=0.5)
    )
    assert (await mended.request(ask())).usage is not None
    await mended.close()


async def test_too_little_memory(tiny_gguf: Path, tmp_path: Path) -> None:
    huge = ServerSettings(context_length=32768, slots=1_000_000, threads=1)
    error = await failed(EmbeddedModel(tiny_gguf, state_folder=tmp_path, settings=huge))
    assert "too little memory" in error.what
    assert "1000000 contexts of 32768 tokens" in error.what
    assert "lower the context length" in error.next
    assert not error.retryable


async def test_a_start_that_takes_too_long(tiny_gguf: Path, tmp_path: Path) -> None:
    hasty = replace(SETTINGS, start_seconds=0.001)
    error = await failed(EmbeddedModel(tiny_gguf, state_folder=tmp_path, settings=hasty))
    assert "not ready after 0.001 s" in error.what
    assert isinstance(error, ModelUnreachable)


async def test_a_folder_that_cannot_be_written(tiny_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    model = EmbeddedModel(tiny_gguf, state_folder=file, settings=SETTINGS)
    error = await failed(model)
    assert "NotADirectoryError" in error.what
    assert not error.retryable
