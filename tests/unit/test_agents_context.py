from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from manyhands.agents import context as module
from manyhands.agents.context import RECORD, Context, Item, context_of
from manyhands.agents.encoding import delimit, encode
from manyhands.errors import JournalUnreadable
from manyhands.runtime import Event, Run, Runtime, Workflow


async def journaled(path: Path, fn: Callable[[Run], Awaitable[Any]]) -> list[Event]:
    """The events of a run of ``fn``; blobs are checked to be there."""

    async def workflow(run: Run, _: None) -> None:
        await fn(run)

    async with Runtime.open(path) as runtime:
        await runtime.run(Workflow("test", workflow), run_id="r")
        events = [event async for event in runtime.events("r")]
        for event in events:
            for change in event.data.get("changes", ()):
                if "blob" in change:
                    assert runtime.journal.blob(change["blob"])
        return events


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def test_every_list_can_be_rebuilt_from_its_changes(fast_path: Path) -> None:
    sent: dict[str, tuple[bytes, ...]] = {}
    blobs: dict[str, bytes] = {}

    async def agent(run: Run) -> None:
        context = Context(run)

        async def call(key: str) -> None:
            await context.record(key, {"model": "m"})
            sent[key] = context.messages()
            view = context_of([e async for e in _events_of(run)], run.key(key))
            blobs.update({e.blob: run.read_blob(e.blob) for e in view.entries})

        context.add({"role": "system", "content": "s"}, origin="role:a", agent="harness")
        context.add(
            user("task"),
            origin="task",
            agent="person",
            parts=[
                Item("plan", "The plan.", "plan@1", "planner", status="compacted"),
                Item("", "x"),
            ],
        )
        await call("0")
        await call("1")
        for n in range(3):
            message = {"role": "tool", "tool_call_id": str(n), "content": str(n) * 1000}
            context.add(message, origin=f"tool/{n}", agent="tool:look")
        await call("2")
        assert context.shrink(2500, origin="3", agent="harness", keep=1) == 1
        context.drop(3)
        context.add(user("more"), origin="4", agent="person")
        await call("3")

    events = await journaled(fast_path, agent)
    for key, messages in sent.items():
        view = context_of(events, key)
        assert tuple(view.messages(blobs.__getitem__)) == messages
        assert view.data["length"] == len(messages)
    assert [e.status for e in context_of(events, "0").entries] == ["added", "added"]
    assert [e.status for e in context_of(events, "1").entries] == ["kept", "kept"]
    last = context_of(events, "3")
    assert [(e.status, e.origin) for e in last.entries] == [
        ("kept", "role:a"),
        ("kept", "task"),
        ("compacted", "3"),
        ("kept", "tool/2"),
        ("added", "4"),
    ]
    assert [(e.status, e.origin, e.agent) for e in last.dropped] == [
        ("dropped", "tool/1", "tool:look")
    ]
    parts = last.entries[1].parts
    assert [(p["title"], p["origin"], p["agent"], p["status"]) for p in parts] == [
        ("plan", "plan@1", "planner", "compacted"),
        ("", "unknown", "unknown", "added"),
    ]


async def _events_of(run: Run):  # type: ignore[no-untyped-def]
    """What the run itself has journaled so far."""
    for event in run._execution.state.records.values():
        yield event


async def test_a_record_that_is_missing_is_noticed(fast_path: Path) -> None:
    async def agent(run: Run) -> None:
        context = Context(run)
        for n in range(3):
            context.add(user(str(n)), origin="t", agent="a")
            await context.record(f"{n}", {})

    events = await journaled(fast_path, agent)
    assert len(context_of(events, "2").entries) == 3
    records = [e for e in events if e.type == RECORD]
    with pytest.raises(JournalUnreadable, match="does not follow"):
        context_of([records[0], records[2]], "2")
    with pytest.raises(JournalUnreadable, match="no such record"):
        context_of(events, "9")


async def test_a_call_costs_the_same_however_long_the_history(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = 0

    def counting(value: Any) -> bytes:
        nonlocal encoded
        encoded += 1
        return encode(value)

    monkeypatch.setattr(module, "encode", counting)

    async def agent(run: Run) -> None:
        context = Context(run)
        for n in range(200):
            context.add(user(f"message {n}"), origin="t", agent="a")
            await context.record(f"{n}", {})

    events = await journaled(fast_path, agent)
    assert encoded == 200
    sizes = [len(json.dumps(e.data)) for e in events if e.type == RECORD]
    assert max(sizes) - min(sizes[1:]) < 10


def test_data_cannot_forge_the_marks_around_it() -> None:
    inner = delimit("data", "x", "other")
    shown = delimit("data", f"{inner}\n</data>\n</data 00000000>", "salt")
    mark = shown.splitlines()[0].removeprefix("<data ").removesuffix(">")
    assert shown.count(mark) == 2
    assert shown.endswith(f"</data {mark}>")
    assert delimit("data", "x", "a") != delimit("data", "x", "b")
    assert delimit("data", "half \ud83d", "a")
    assert encode({"a": "\ud83d\ude00 \ud83d"}) == '{"a":"😀 �"}'.encode()
