"""DBOS on SQLite, tuned: WAL, ``synchronous=NORMAL``, through its own ``system_database_engine``.

As shipped it uses a rollback journal with a sync per commit, which is many times slower on a disk.
The engine's other settings are those that DBOS gives its own. Steps are sync functions of a sync
workflow, which is its faster way.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import sqlalchemy
from dbos import DBOS, SetWorkflowID
from sqlalchemy import event

from tests.bench.peers.clocks import Span, Stopwatch

_watch = Stopwatch()
_span = Span()
_replay: dict[str, Any] = {}
_ran = 0


@DBOS.step()
def _work(number: int) -> dict[str, Any]:
    global _ran
    _ran += 1
    return _watch.work(number)


@DBOS.workflow()
def _program(count: int) -> None:
    _span.begin()
    for number in range(count):
        _work(number)
    _replay.update(_span.end(count))


def _launch(folder: str) -> None:
    logging.disable(logging.WARNING)
    engine = sqlalchemy.create_engine(f"sqlite:///{Path(folder) / 'dbos.db'}")

    @event.listens_for(engine, "connect")
    def tune(connection: Any, _record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in (
            "busy_timeout=30000",
            "foreign_keys=ON",
            "journal_mode=WAL",
            "synchronous=NORMAL",
        ):
            connection.execute(f"PRAGMA {pragma}")

    DBOS(config={"name": "bench", "system_database_engine": engine, "enable_otlp": False})
    DBOS.launch()


def steps(folder: str, count: int, edge: int = 0) -> dict[str, Any]:
    """``count`` steps of one workflow, after a short one to warm up."""
    _launch(folder)
    _program(100)
    _watch.ticks.clear()
    _program(count)
    found = _watch.stop(count, edge)
    DBOS.destroy()
    return found


def replay(folder: str, count: int, prepare: bool = False) -> dict[str, Any]:
    """Run the program again over ``count`` recorded steps, by forking the workflow after them.

    Measured inside the program only: neither the copying of the records by the fork, nor its
    queue, nor the launch are counted.
    """
    global _ran
    _launch(folder)
    if prepare:
        with SetWorkflowID("replayed"):
            _program(count)
    else:
        DBOS.fork_workflow("replayed", count + 1).get_result()
        if _ran:
            raise AssertionError(f"{_ran} of {count} steps ran")
    DBOS.destroy()
    return _replay
