"""A model's Python, in the strongest isolation of this machine."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from manyhands.adapters.jobs.local import LocalJobRunner
from manyhands.agents.python_tool import PYTHON_LIMITS, python_allowed, python_tool
from manyhands.agents.tools import CallContext, Tool
from manyhands.errors import ConfigError
from manyhands.ports import Isolation
from manyhands.runtime import Effect
from manyhands.testing.jobs import HOLD, lock_is_freed

CONTEXT = CallContext("run", "agent", "run/agent/1/tool/0", "idempotency")
ALL = Isolation("x", True, True, True, True, True)

confined = pytest.mark.needs("bubblewrap")


@pytest.fixture
def python(tmp_path: Path) -> Tool:
    return python_tool(LocalJobRunner(), tmp_path)


async def run(python: Tool, code: str) -> str:
    arguments, _ = python.parse(json.dumps({"code": code}))
    return await python.call(CONTEXT, arguments)


@confined
async def test_what_it_prints_and_how_it_ended(python: Tool, tmp_path: Path) -> None:
    assert python.effect is Effect.IDEMPOTENT
    assert "code" in python.schema["properties"]
    assert await run(python, "print(6 * 7, 'ü')") == "exit code 0\n42 ü\n"
    assert await run(python, "pass") == "exit code 0\n(it printed nothing)"
    told = await run(python, "1 / 0")
    assert told.startswith("exit code 1\n")
    assert "ZeroDivisionError" in told
    assert list(tmp_path.iterdir()) == []


@confined
async def test_it_has_no_network_no_files_and_no_secrets(
    python: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hunter2hunter2")
    secret = tmp_path.parent / "secret"
    secret.write_text("hunter2hunter2")
    code = f"""
import os, socket
print("hunter2hunter2" in str(os.environ))
for what in (lambda: open({str(secret)!r}).read(),
             lambda: socket.create_connection(("127.0.0.1", 22), 2)):
    try:
        print(what())
    except OSError as error:
        print("refused")
try:  # where /tmp is its own, it may write a file of that name there
    open({str(secret)!r}, "w").write("gone")
except OSError as error:
    pass
"""
    assert await run(python, code) == "exit code 0\nFalse\nrefused\nrefused\n"
    assert secret.read_text() == "hunter2hunter2"


@confined
@pytest.mark.parametrize(
    ("code", "ending", "seconds"),
    [
        ("while True: pass", "stopped after 1 s", 1.0),
        ("x = bytearray(2_000_000_000)", "out of memory: the limit is 512 MB", 60.0),
        ("while True: print('x' * 1000)", "stopped: it printed more than 64 KB", 60.0),
    ],
)
async def test_limits(code: str, ending: str, seconds: float, tmp_path: Path) -> None:
    python = python_tool(LocalJobRunner(), tmp_path, replace(PYTHON_LIMITS, seconds=seconds))
    told = await run(python, code)
    assert told.startswith(ending), told[:300]
    assert len(told) < 70_000


@confined
async def test_a_cancelled_call_leaves_no_process_and_no_folder(
    python: Tool, tmp_path: Path
) -> None:
    code = HOLD.format(path="lock") + "print('held', flush=True)\nimport time; time.sleep(600)"
    task = asyncio.ensure_future(run(python, code))
    lock: list[Path] = []
    while not lock:
        await asyncio.sleep(0.02)
        lock = list(tmp_path.glob("python-*/*/lock"))
    task.cancel()
    copy = tmp_path / "lock"
    copy.hardlink_to(lock[0])  # the folder goes
    with pytest.raises(asyncio.CancelledError):
        await task
    await lock_is_freed(copy)
    assert list(tmp_path.glob("python-*")) == []


def test_where_it_may_run() -> None:
    assert python_allowed(ALL) == ""
    assert python_allowed(replace(ALL, hides_paths=False, tree_killed=False)) == ""
    for missing, why in (
        ({"writes_confined": False}, "what it writes"),
        ({"reads_confined": False}, "what it reads"),
        ({"network_blocked": False}, "the network"),
    ):
        assert why in python_allowed(replace(ALL, **missing))


def test_it_is_not_offered_without_isolation(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="isolation 'process': what it writes is not confined"):
        python_tool(LocalJobRunner("process"), tmp_path)
