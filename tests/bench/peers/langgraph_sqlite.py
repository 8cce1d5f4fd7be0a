"""LangGraph with `SqliteSaver`, tuned: ``synchronous=NORMAL`` on its connection (WAL it sets).

Its two documented ways: a graph whose one node runs N times over a flat state, a checkpoint each;
and the functional API, an entrypoint that calls N tasks. ``durability``: ``sync`` keeps each step
before the next begins, as the other contestants do; ``async`` (the default) lags behind.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from tests.bench.peers.clocks import Span, Stopwatch


class State(TypedDict):
    number: int
    count: int
    payload: str


def _saver(folder: str) -> SqliteSaver:
    connection = sqlite3.connect(Path(folder) / "langgraph.db", check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return SqliteSaver(connection)


def graph(folder: str, count: int, durability: str, edge: int = 0) -> dict[str, Any]:
    """``count`` executions of one node, after a short thread to warm up."""
    watch = Stopwatch()

    def work(state: State) -> dict[str, Any]:
        done = watch.work(state["number"])
        return {"number": state["number"] + 1, "payload": done["payload"]}

    def onward(state: State) -> str:
        return END if state["number"] >= state["count"] else "work"

    builder = StateGraph(State)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    builder.add_conditional_edges("work", onward, [END, "work"])
    program = builder.compile(checkpointer=_saver(folder))
    for thread, number in (("warm", 100), ("timed", count)):
        watch.ticks.clear()
        program.invoke(
            {"number": 0, "count": number, "payload": ""},
            {"configurable": {"thread_id": thread}, "recursion_limit": number + 10},
            durability=durability,
        )
    return watch.stop(count, edge)


def tasks(folder: str, count: int, durability: str, edge: int = 0) -> dict[str, Any]:
    """``count`` tasks of one entrypoint, after a short thread to warm up."""
    watch = Stopwatch()

    @task
    def work(number: int) -> dict[str, Any]:
        return watch.work(number)

    @entrypoint(checkpointer=_saver(folder))
    def program(count: int) -> None:
        for number in range(count):
            work(number).result()

    for thread, number in (("warm", 100), ("timed", count)):
        watch.ticks.clear()
        program.invoke(number, {"configurable": {"thread_id": thread}}, durability=durability)
    return watch.stop(count, edge)


def replay(folder: str, count: int, prepare: bool = False) -> dict[str, Any]:
    """Resume an entrypoint that was interrupted after ``count`` tasks, until it is there again.

    A graph has no counterpart: it goes on from its last checkpoint, and its program is not re-run.
    """
    span = Span()
    found: dict[str, Any] = {}
    ran = 0

    @task
    def work(number: int) -> dict[str, Any]:
        nonlocal ran
        ran += 1
        return Stopwatch().work(number)

    @entrypoint(checkpointer=_saver(folder))
    def program(count: int) -> None:
        for number in range(count):
            work(number).result()
        found.update(span.end(count))
        while True:
            interrupt("go")

    span.begin()
    program.invoke(
        count if prepare else Command(resume=True),
        {"configurable": {"thread_id": "replayed"}},
        durability="async" if prepare else "sync",
    )
    if ran != (count if prepare else 0):
        raise AssertionError(f"{ran} of {count} tasks ran")
    return found
