"""What a workspace is worth: a task's tests over it, in a sandbox of their own.

Invariants: the tests are nowhere an agent's command can see, for they exist in a fork that is made
after its work; nothing it left running or outside of the workspace reaches that fork.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from manyhands.errors import TaskError
from manyhands.ports import ExecResult, Sandbox, Sandboxes

from .preparing import ended, last, prepare, unpack
from .tasks import Task

TESTS, LOGS, SOLUTION = "/tests", "/logs", "/solution"
#: Of the tests' output, how much is kept.
OUTPUT = 20_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reward``: the one of that name, or the least of several; 0 where there is none to read,
    and ``problem`` says why. ``output``: the end of what the tests printed."""

    reward: float
    rewards: Mapping[str, float] = field(default_factory=dict[str, float])
    problem: str = ""
    output: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.reward >= 1.0


def open_task(
    task: Task, sandboxes: Sandboxes, base: Path, *, writable: bool = True
) -> AbstractAsyncContextManager[Sandbox]:
    """The workspace as an agent finds it. ``base``: from `prepare`, or a folder like it."""
    return sandboxes.open(
        base, writable=writable, place=task.workdir, env=task.env, limits=task.limits()
    )


async def verify(task: Task, sandbox: Sandbox) -> Verdict:
    """Run the task's tests as Harbor does over the present state of ``sandbox``, which was opened
    at ``task.workdir`` and stays as it is, but for what still runs in it: that is ended.

    The tests find themselves at /tests and write /logs/verifier/reward.txt or reward.json; they
    see the workspace, and neither /tmp nor the home nor the services of the agent.
    """
    await sandbox.end_background()
    started = time.monotonic()
    limits = task.limits(task.verifier_seconds)
    async with sandbox.fork(limits=limits, scratch=(TESTS, LOGS)) as judge:
        await upload(judge, task.tests, TESTS)
        script = "mkdir -p /logs/verifier /logs/agent /logs/artifacts; chmod +x /tests/test.sh;"
        result = await judge.exec(f"{script} exec /tests/test.sh", env=task.verifier_env)
        seconds = time.monotonic() - started
        if result.killed is not None:
            why = f"the tests were ended by {ended(result)}"
            return Verdict(0.0, problem=why, output=last(result, OUTPUT), seconds=seconds)
        try:
            rewards = await _rewards(judge)
        except ValueError as error:
            why = f"{error}; the tests ended with {ended(result)}"
            return Verdict(0.0, problem=why, output=last(result, OUTPUT), seconds=seconds)
    reward = rewards.get("reward", min(rewards.values()))
    return Verdict(reward, rewards, output=last(result, OUTPUT), seconds=seconds)


async def check(task: Task, sandboxes: Sandboxes, agent: Literal["oracle", "nop"]) -> Verdict:
    """Prepare the task, let the reference solution do it, or nobody, and verify that."""
    base = await prepare(task, sandboxes)
    async with open_task(task, sandboxes, base) as sandbox:
        if agent == "nop":
            return await verify(task, sandbox)
        async with sandbox.fork(scratch=(SOLUTION, LOGS)) as worker:
            await solve(task, worker)
            return await verify(task, worker)


async def solve(task: Task, sandbox: Sandbox) -> ExecResult:
    """The reference solution; ``sandbox`` has /solution and /logs as scratch folders."""
    if task.solution is None:
        raise TaskError(
            f"{task.path} has no solution/solve.sh", next="write it, or check with --agent nop"
        )
    await upload(sandbox, task.solution, SOLUTION)
    env = {"DEBIAN_FRONTEND": "noninteractive", **task.solution_env}
    script = "mkdir -p /logs/agent; chmod +x /solution/solve.sh; exec /solution/solve.sh"
    result = await sandbox.exec(script, env=env)
    if result.code != 0:
        raise TaskError(
            f"{task.solution}/solve.sh failed with {ended(result)}: {last(result)}",
            next="correct the reference solution",
        )
    return result


async def upload(sandbox: Sandbox, folder: Path, target: str) -> None:
    """A folder's content, to where it may be written in the sandbox."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(folder, ".")
    result = await unpack(sandbox, packed.getvalue(), target)
    if result.code != 0:
        raise TaskError(
            f"{folder} could not be put at {target}: {last(result)}",
            next="is it larger than the sandbox's disk?",
        )


async def _rewards(judge: Sandbox) -> dict[str, float]:
    """Raises ValueError. JSON goes first, as in Harbor."""
    for name in ("reward.json", "reward.txt"):
        read = await judge.exec(["cat", f"{LOGS}/verifier/{name}"])
        if read.code != 0:
            continue
        text = read.output.decode(errors="replace")
        found: Any = json.loads(text) if name == "reward.json" else float(text)
        items: Any = cast(Any, found) if isinstance(found, dict) else {"reward": found}
        rewards = {str(key): _number(name, value) for key, value in items.items()}
        if not rewards:
            raise ValueError(f"{name} holds no reward")
        return rewards
    raise ValueError("no reward.txt and no reward.json was written")


def _number(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} holds {value!r}, which is no number")
    return float(value)
