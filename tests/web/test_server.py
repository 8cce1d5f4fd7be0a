"""Who may ask the server, and what it says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from manyhands.errors import ConfigError
from manyhands.runtime import Runtime
from manyhands.web import Server
from manyhands.web.guard import BODY_LIMIT
from tests.web.stage import Writing, attempt, insert, lay_down, many


@asynccontextmanager
async def served(tmp_path: Path) -> AsyncGenerator[tuple[Runtime, Server, aiohttp.ClientSession]]:
    async with (
        Runtime.open(str(tmp_path / "journal.db"), workflows=[]) as runtime,
        Server(runtime) as server,
        aiohttp.ClientSession(server.origin) as session,
    ):
        yield runtime, server, session


def bearer(server: Server, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token}", **more}


async def messages(answer: aiohttp.ClientResponse) -> list[dict[str, str]]:
    text = await answer.text()
    return [
        dict(line.split(": ", 1) for line in block.split("\n") if line[0] != ":")
        for block in text.split("\n\n")
        if block
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Cookie": "token=x"},
    ],
)
async def test_nothing_of_a_journal_is_told_without_the_token(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with served(tmp_path) as (runtime, _, session):
        await lay_down(runtime.journal, "run", list(many(50, 2)))
        blob = "sha256:" + "0" * 64
        for path in ("runs", "runs/run/events", "runs/run/export", f"blobs/{blob}", "nothing"):
            async with session.get(f"/api/{path}", headers=headers) as answer:
                assert answer.status == 401, path
                assert "many" not in await answer.text()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
        ({"Host": ""}, 421),
    ],
)
async def test_another_origin_is_refused_although_it_has_the_token(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with served(tmp_path) as (_, server, session):
        async with session.get("/api/runs", headers=bearer(server, **headers)) as answer:
            assert answer.status == status
            assert not [
                name for name in answer.headers if name.lower().startswith("access-control")
            ]
        own = {"Origin": server.origin, "Sec-Fetch-Site": "same-origin"}
        async with session.get("/api/runs", headers=bearer(server, **own)) as answer:
            assert answer.status == 200


async def test_every_answer_has_a_strict_policy(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, server, session):
        for path in ("/", "/assets/app.js", "/api/runs", "/api/none", "/assets/../api.py"):
            async with session.get(path, headers=bearer(server)) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "script-src 'self'" in policy
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
        async with session.options("/api/runs", headers=bearer(server)) as answer:
            assert answer.status == 405


async def test_a_body_above_the_limit_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, server, session):
        large = b"x" * (BODY_LIMIT + 1)
        async with session.post("/api/runs", data=large, headers=bearer(server)) as answer:
            assert answer.status == 413
            assert str(BODY_LIMIT) in (await answer.json())["error"]


async def test_files_beside_the_page_are_not_served(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, session):
        for name in ("..%2fapi.py", "index.html", "page.py", "%2e%2e/%2e%2e/ports.py"):
            async with session.get(f"/assets/{name}") as answer:
                assert answer.status == 404, name


async def test_events_come_whole_in_order_and_from_where_a_reader_left(tmp_path: Path) -> None:
    async with served(tmp_path) as (runtime, server, session):
        await lay_down(runtime.journal, "a/run", list(many(5_001, 3)))
        path = "/api/runs/a/run/events?follow=0"
        async with session.get(path, headers=bearer(server)) as answer:
            assert answer.content_type == "text/event-stream"
            whole = await messages(answer)
        batches = [m for m in whole if m["event"] == "batch"]
        seqs = [event["seq"] for m in batches for event in json.loads(m["data"])]
        assert seqs == list(range(1, 5_002))
        assert [m["id"] for m in batches] == ["2000", "4000", "5001"]
        assert [m["data"] for m in whole if m["event"] == "held"] == ["false"]
        again = bearer(server, **{"Last-Event-ID": "4998"})
        async with session.get(path, headers=again) as answer:
            last = (await messages(answer))[0]
        assert [event["seq"] for event in json.loads(last["data"])] == [4_999, 5_000, 5_001]


@pytest.mark.parametrize("given", ["-1", "x", "1e3", "9" * 30, "٣"])
async def test_a_number_that_is_none_is_refused(tmp_path: Path, given: str) -> None:
    async with served(tmp_path) as (runtime, server, session):
        await lay_down(runtime.journal, "run", list(many(5, 1)))
        params = {"after": given, "follow": "0"}
        async with session.get(
            "/api/runs/run/events", params=params, headers=bearer(server)
        ) as answer:
            assert answer.status == 400


async def test_what_is_appended_later_arrives(tmp_path: Path) -> None:
    async with served(tmp_path) as (runtime, server, session):
        events = list(many(300, 3))
        await lay_down(runtime.journal, "run", events[:100])
        async with session.get("/api/runs/run/events", headers=bearer(server)) as answer:
            seen: list[int] = []
            for start in range(100, 300, 20):
                await runtime.journal.call(
                    lambda db, at=start: insert(db, "run", events[at : at + 20])
                )
                while len(seen) < start + 20:
                    line = await asyncio.wait_for(answer.content.readline(), 10)
                    if line.startswith(b"data: ["):
                        seen += [event["seq"] for event in json.loads(line[6:])]
        assert seen == list(range(1, 301))


async def test_contents_come_in_pieces_of_at_most_what_was_asked(tmp_path: Path) -> None:
    write = Writing()
    events = [
        write("run.created", workflow="w", version=1, budget={}),
        write("step.started", "s", effect="pure", args=""),
        write("step.done", "s", "é" * 1_000_000),
    ]
    async with served(tmp_path) as (runtime, server, session):
        await lay_down(runtime.journal, "run", events)
        path = "/api/runs/run/events/3/value"
        got = b""
        while True:
            params = {"from": str(len(got)), "most": "900001"}
            async with session.get(path, params=params, headers=bearer(server)) as answer:
                piece = await answer.read()
                assert len(piece) <= 900_001
                assert answer.content_type == "application/octet-stream"
                total = int(answer.headers["X-Total"])
            got += piece
            if len(got) == total:
                break
        assert json.loads(got) == "é" * 1_000_000
        params = {"most": "1048577"}
        async with session.get(path, params=params, headers=bearer(server)) as answer:
            assert answer.status == 400
        ref = next(e.ref for e in runtime.journal.events("run") if e.ref)
        async with session.get(f"/api/blobs/{ref}?most=7", headers=bearer(server)) as answer:
            assert await answer.read() == got[:7]


async def test_structure_is_bounded_whatever_an_event_holds(tmp_path: Path) -> None:
    huge = "x" * 3_000_000
    write = Writing()
    events = [
        write("run.created", workflow=huge, version=1, budget={}),
        write("step.started", "s/request/1", effect="pure", args="", scope="s"),
        write("step.done", "s/request/1", attempt(1, 1, model=huge)),
        write("step.started", huge, effect="pure", args=""),
        write("step.started", huge + "y", effect="pure", args=""),
        write("lab:row", "row", comment=huge),
        write("command", id="1", verb="steer", target="", message={"a": [huge] * 9}),
        write("agent:nudge", "n", ending="e", message=huge),
    ]
    async with served(tmp_path) as (runtime, server, session):
        await lay_down(runtime.journal, "run", events)
        path = "/api/runs/run/events?follow=0"
        async with session.get(path, headers=bearer(server)) as answer:
            text = await answer.text()
        assert len(text) < 10_000
        sent = json.loads(text.split("data: ")[1].split("\n")[0])
        assert sent[3]["key"] != sent[4]["key"]
        assert sent[5]["cut"] > 3_000_000
        async with session.get("/api/runs/run/events/6/data", headers=bearer(server)) as answer:
            assert (await answer.read()).startswith(b'{"comment":"xxx')


async def test_an_unknown_run_is_an_error_with_a_next_action(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, server, session):
        for path in ("/api/runs/none/events", "/api/runs/none/export?form=html"):
            async with session.get(path, headers=bearer(server)) as answer:
                assert answer.status == 404
                assert "manyhands runs" in (await answer.json())["next"]


async def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    async with served(tmp_path) as (runtime, server, _):
        with pytest.raises(ConfigError, match=f"port {server.port}"):
            async with Server(runtime, port=server.port):
                pass
        assert server.host == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.port}/#token={server.token}"
        assert len(server.token) >= 40


async def test_the_command_prints_an_address_that_opens_and_ends_with_ctrl_c(
    tmp_path: Path,
) -> None:
    words = ["-m", "manyhands.cli", "ui", "--no-browser", "--journal", str(tmp_path / "j.db")]
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "400"},
        # Whoever started the tests in the background has it ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert running.stdout is not None
    told = (await asyncio.wait_for(running.stdout.readline(), 60)).decode()
    found = re.search(r"(http://127\.0\.0\.1:\d+)/#token=([\w-]+)$", told.strip())
    assert found, told
    async with aiohttp.ClientSession(found[1]) as session:
        bearing = {"Authorization": f"Bearer {found[2]}"}
        async with session.get("/api/runs", headers=bearing) as answer:
            assert await answer.json() == []
    running.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(running.wait(), 20) == 130
