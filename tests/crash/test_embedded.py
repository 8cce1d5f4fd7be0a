"""kill -9 of every process around an embedded server, each in the middle of its work."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from manyhands.adapters.models.embedded import EmbeddedModel, ServerSettings
from manyhands.adapters.models.embedded_state import Folder, ServerState
from manyhands.agents.report import Report
from manyhands.agents.request import Limits
from manyhands.agents.role import Role
from manyhands.agents.turn import run_agent
from manyhands.errors import ModelError, ModelUnreachable
from manyhands.ports import ModelReply, ModelRequest
from manyhands.runtime import Run, Runtime, Workflow
from tests.tiny_model import alive, hosts_in, servers_of, until

pytestmark = pytest.mark.needs("llama")

SETTINGS = ServerSettings(context_length=8192, threads=1, linger_seconds=1.0, health_seconds=0.3)
#: Without an end of its own, so that a kill always comes before it.
ENDLESS = {"ignore_eos": True}


def ask(text: str = "Say hello.", **settings: Any) -> ModelRequest:
    message = json.dumps({"role": "user", "content": text}).encode()
    return ModelRequest(messages=(message,), **{"max_tokens": 16, "seconds": 120.0, **settings})


def state_of(model: EmbeddedModel) -> ServerState:
    assert model.folder is not None
    state = Folder(model.folder).read()
    assert state is not None
    return state


@pytest.fixture
async def model(tiny_gguf: Path, tmp_path: Path) -> AsyncIterator[EmbeddedModel]:
    """Over a server of its own, which is gone afterwards."""
    made = EmbeddedModel(tiny_gguf, state_folder=tmp_path, settings=SETTINGS, extra=ENDLESS)
    yield made
    await made.close()
    await asyncio.to_thread(until, lambda: not hosts_in(tmp_path), "its host has ended")


async def killed_in(
    model: EmbeddedModel, victim: str, number: signal.Signals = signal.SIGKILL
) -> tuple[ModelError, int]:
    """The error of a request whose server gets the signal in mid-stream, and the server's id."""
    pieces: list[str] = []
    began = asyncio.Event()

    def hear(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            began.set()

    lost = asyncio.ensure_future(model.request(ask(max_tokens=8000), hear))
    await began.wait()
    state = state_of(model)
    os.kill(getattr(state, victim), number)
    with pytest.raises(ModelError) as caught:
        await lost
    assert len(pieces) >= 3
    return caught.value, state.pid


async def test_a_server_killed_in_mid_stream_is_replaced(model: EmbeddedModel) -> None:
    error, before = await killed_in(model, "pid")
    assert isinstance(error, ModelUnreachable)
    assert error.retryable
    assert error.may_have_spent
    assert f"process {before}" in error.what
    assert "killed (signal 9)" in error.what
    assert str(model.folder) in error.what
    assert (await model.request(ask())).finish_reason == "length"
    after = state_of(model).pid
    assert after != before
    assert alive(after)
    assert not alive(before)


async def test_a_host_that_is_killed_takes_its_server_along(model: EmbeddedModel) -> None:
    error, before = await killed_in(model, "host_pid")
    assert error.retryable
    assert "its host was killed" in error.what
    assert (await model.request(ask())).finish_reason == "length"
    assert state_of(model).pid != before
    await asyncio.to_thread(until, lambda: not alive(before), "a server without a host ends")


async def test_a_frozen_server_is_replaced(model: EmbeddedModel) -> None:
    error, before = await killed_in(model, "pid", signal.SIGSTOP)
    assert error.retryable
    assert "frozen" in error.what
    assert (await model.request(ask())).finish_reason == "length"
    assert not alive(before)


async def test_who_waits_is_served_by_the_next_server(model: EmbeddedModel) -> None:
    """Of 32 requests 8 are on their way when the server dies: those fail, the others wait on."""
    await model.prepare()
    before = state_of(model).pid
    under_way = asyncio.Event()

    async def one(n: int) -> ModelReply | ModelError:
        try:
            return await model.request(ask(f"Say {n}.", max_tokens=100), lambda _: under_way.set())
        except ModelError as error:
            return error

    many = [asyncio.ensure_future(one(n)) for n in range(32)]
    await under_way.wait()
    os.kill(before, signal.SIGKILL)
    async with asyncio.timeout(120):
        ended = await asyncio.gather(*many)
    failed = [each for each in ended if isinstance(each, ModelError)]
    assert 1 <= len(failed) <= 2 * SETTINGS.slots
    assert all(error.retryable for error in failed)
    assert state_of(model).pid != before


async def test_an_agent_goes_on_and_nothing_is_doubled(
    model: EmbeddedModel, tmp_path: Path
) -> None:
    """Its answer is the second attempt's alone, and both attempts are in the journal."""
    role = Role("talker", "talks", "Talk.", max_tokens=800, max_turns=1)
    pieces: list[str] = []
    victims: list[int] = []

    def hear(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            victims.append(state_of(model).pid)
            os.kill(victims[0], signal.SIGKILL)
            pieces.append("|")

    async def workflow(run: Run, _: object) -> Report[str]:
        return await run_agent(
            run, role, "Talk.", model=model, on_text=hear, limits=Limits(first_wait=0.01)
        )

    flow = Workflow("talk", workflow)
    async with Runtime.open(tmp_path / "journal.db", workflows=[flow]) as runtime:
        handle = await runtime.start(flow, run_id="r")
        await handle.result()
        journal = runtime.journal
        attempts = [
            json.loads(journal.value(event) or "null")
            for event in journal.events("r")
            if event.type == "step.done" and "/turn/0/request/" in event.key
        ]
    assert victims
    assert [attempt["error"] for attempt in attempts] == ["ModelUnreachable", ""]
    lost, made = attempts
    assert lost["text"] == ""
    assert lost["charged"]["output_tokens"] == made["charged"]["output_tokens"] == 800
    heard = "".join(pieces).split("|", 1)[1]
    assert made["text"] in heard
    assert heard.count(made["text"]) == 1


# -------------------------------------------------------------------- clients are processes


CLIENT = """
import asyncio, json, sys
from pathlib import Path
from manyhands.adapters.models.embedded import EmbeddedModel, ServerSettings
from manyhands.adapters.models.embedded_state import Folder
from manyhands.ports import ModelRequest

async def main(path, folder, settings):
    model = EmbeddedModel(
        Path(path), state_folder=Path(folder), settings=ServerSettings(**settings),
        extra={"ignore_eos": True},
    )
    ask = ModelRequest(messages=(b'{"role":"user","content":"Hi"}',), max_tokens=8000, seconds=600)
    said = False
    def hear(_):
        nonlocal said
        if not said:
            said = True
            print(Folder(model.folder).read().pid, flush=True)
    while True:
        await model.request(ask, hear)

asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
"""


@contextmanager
def clients(
    count: int, path: Path, folder: Path, **settings: Any
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that ask without end, and print the server's id when it has begun to answer."""
    made = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(path), str(folder), json.dumps(settings)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        yield made
    finally:
        for client in made:
            with suppress(OSError):
                client.kill()
            client.wait()
            assert client.stdout is not None
            client.stdout.close()


def server_of(client: subprocess.Popen[str]) -> int:
    assert client.stdout is not None
    return int(client.stdout.readline())


def test_processes_that_start_at_once_share_one_server(tiny_gguf: Path, tmp_path: Path) -> None:
    settings = {"context_length": 8192, "threads": 1, "linger_seconds": 0.5}
    with clients(2, tiny_gguf, tmp_path, **settings) as made:
        servers = [server_of(client) for client in made]
        assert len(set(servers)) == 1
        assert len(hosts_in(tmp_path)) == 1
        made[0].kill()
        made[0].wait()
        time.sleep(1.5)  # longer than it lingers
        assert alive(servers[0])
        made[1].kill()
        until(lambda: not alive(servers[0]), "without clients the server ends")
    until(lambda: not hosts_in(tmp_path), "and so does its host")


def test_a_client_killed_while_the_server_starts(tiny_gguf: Path, tmp_path: Path) -> None:
    settings = {"context_length": 8192, "threads": 1, "linger_seconds": 0.2}
    with clients(1, tiny_gguf, tmp_path, **settings) as (client,):
        until(lambda: bool(list(tmp_path.glob("*/state.json"))), "a host has begun")
        client.kill()
        client.wait()
    until(lambda: not hosts_in(tmp_path), "a server that nobody waits for is not kept")
    assert not any(psutil.Process(pid).ppid() == 1 for pid in servers_of(tiny_gguf))


def test_what_a_client_runs_does_not_keep_the_server(tiny_gguf: Path, tmp_path: Path) -> None:
    """A job that outlives its run must not hold the run's leases."""

    async def main() -> int:
        settings = replace(SETTINGS, linger_seconds=0.3)
        model = EmbeddedModel(tiny_gguf, state_folder=tmp_path, settings=settings)
        await model.prepare()
        jobs.append(start_job())
        server = state_of(model).pid
        await model.close()
        return server

    def start_job() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "600"], close_fds=False)

    jobs: list[subprocess.Popen[bytes]] = []
    server = asyncio.run(main())
    (job,) = jobs
    try:
        until(lambda: not alive(server), "the server ends while the job runs")
        assert job.poll() is None
    finally:
        job.kill()
        job.wait()


@pytest.mark.slow
def test_killed_again_and_again(tiny_gguf: Path, tmp_path: Path) -> None:
    """Whatever is killed when: at the end there is a server that answers, and only one."""

    async def main() -> None:
        settings = replace(SETTINGS, linger_seconds=0.5)
        model = EmbeddedModel(tiny_gguf, state_folder=tmp_path, settings=settings, extra=ENDLESS)
        for round in range(12):
            asking = asyncio.ensure_future(model.request(ask(max_tokens=50)))
            await asyncio.sleep(0.1 * (round % 6))
            for pid in hosts_in(tmp_path) if round % 2 else servers_of(tiny_gguf):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            (ended,) = await asyncio.gather(asking, return_exceptions=True)
            assert isinstance(ended, ModelReply) or getattr(ended, "retryable", False), ended
            await asyncio.sleep(0.3)  # who was killed is gone
        reply = await model.request(ask())
        assert reply.finish_reason == "length"
        assert len(hosts_in(tmp_path)) == 1
        await model.close()

    asyncio.run(main())
    until(lambda: not hosts_in(tmp_path), "no host is left")
