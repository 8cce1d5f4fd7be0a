"""Sandboxes: how long one takes to start, what an idle one costs, and 256 of them at once.

A start is an open workspace and the result of ``true`` in it. Beside it, in the same round: a plain
subprocess, and sandboxes in Docker where its daemon answers and has the image. Memory is what the
machine has less of (kernel included), not what a process says of itself. Goals are counts and
ratios: times of a busy machine say little.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil

from manyhands.adapters.sandboxes.docker import DockerSandboxes
from manyhands.adapters.sandboxes.linux import LinuxSandboxes
from manyhands.errors import SandboxError
from manyhands.ports import SandboxLimits
from tests.bench.rounds import Options, say
from tests.bench.rows import Row, at_least, at_most
from tests.conftest import DOCKER_IMAGE

MANY = 256
TAG = "MANYHANDS_BENCH_TAG"
#: Sandboxes hold three descriptors each, commands some more while they run.
DESCRIPTORS = 4096


def rows(options: Options) -> list[Row]:
    base = options.folder / "sandboxed"
    base.mkdir()
    for number in range(100):
        (base / f"file{number}.py").write_text(f"x = {number}\n")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))
    say(f"sandboxes: Docker is {docker()}")
    rounds, starts = options.pick(5, 2), options.pick(20, 5)
    found = [asyncio.run(once(base, starts)) for _ in range(rounds)]
    many = asyncio.run(all_at_once(base, options.pick(MANY, 32)))
    return _rows(found, many)


def docker() -> str:
    """Why it cannot be measured here; "there" where it can."""
    try:
        DockerSandboxes(DOCKER_IMAGE)
    except SandboxError as error:
        return f"not measured: {error.what}"
    return "there"


async def once(base: Path, starts: int) -> dict[str, Any]:
    """Medians of one round, in ms."""
    sandboxes = LinuxSandboxes()
    taken: dict[str, list[float]] = {"plain": [], "open": [], "exec": [], "start": []}
    for _ in range(starts):
        began = time.perf_counter()
        await (await asyncio.create_subprocess_exec("true")).wait()
        taken["plain"].append(time.perf_counter() - began)
        began = time.perf_counter()
        async with sandboxes.open(base) as sandbox:
            opened = time.perf_counter()
            assert (await sandbox.exec(["true"])).code == 0
            ended = time.perf_counter()
        taken["open"].append(opened - began)
        taken["exec"].append(ended - opened)
        taken["start"].append(ended - began)
    found = {name: statistics.median(values) * 1000 for name, values in taken.items()}
    if docker() == "there":
        found |= await _docker(base, min(starts, 5))
    return found


async def _docker(base: Path, starts: int) -> dict[str, float]:
    sandboxes = DockerSandboxes(DOCKER_IMAGE)
    taken: dict[str, list[float]] = {"docker": [], "docker exec": []}
    for _ in range(starts):
        began = time.perf_counter()
        async with sandboxes.open(base) as sandbox:
            opened = time.perf_counter()
            assert (await sandbox.exec(["true"])).code == 0
            ended = time.perf_counter()
        taken["docker"].append(ended - began)
        taken["docker exec"].append(ended - opened)
    return {name: statistics.median(values) * 1000 for name, values in taken.items()}


async def all_at_once(base: Path, number: int) -> dict[str, Any]:
    """``number`` sandboxes, idle first, then each with a program that would not end."""
    limits = SandboxLimits(seconds=600, disk_mb=16)
    sandboxes = LinuxSandboxes()
    async with AsyncExitStack() as stack:
        before = used()
        began = time.perf_counter()
        opening = (
            stack.enter_async_context(sandboxes.open(base, limits=limits, env={TAG: "1"}))
            for _ in range(number)
        )
        boxes = await asyncio.gather(*opening)
        opened = time.perf_counter() - began
        idle = (used() - before) / number
        began = time.perf_counter()
        command = "(sleep 600 &); exec sleep 600"
        tasks = [asyncio.create_task(box.exec(command)) for box in boxes]
        alive = 0
        for _ in range(600):
            alive = running()
            if alive >= 2 * number:
                break
            await asyncio.sleep(0.2)
        started = time.perf_counter() - began
        busy = (used() - before) / number
        began = time.perf_counter()
        await asyncio.gather(*(box.close() for box in boxes))
        await asyncio.wait(tasks)
        ended = time.perf_counter() - began
    return {
        "number": number,
        "started": alive // 2,
        "survivors": running(),
        "open_seconds": opened,
        "start_seconds": started,
        "end_seconds": ended,
        "idle_mb": idle / 2**20,
        "busy_mb": busy / 2**20,
    }


def used() -> int:
    memory = psutil.virtual_memory()
    return memory.total - memory.available


def running() -> int:
    """The sleeping programs of sandboxes that are there."""
    count = 0
    for pid in psutil.pids():
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            count += TAG.encode() in environ and b"sleep" in Path(f"/proc/{pid}/comm").read_bytes()
        except OSError:
            continue
    return count


def _rows(found: list[dict[str, Any]], many: dict[str, Any]) -> list[Row]:
    def of(name: str) -> list[float]:
        return [each[name] for each in found]

    raw = {"rounds": found, "many": many, "cores": os.cpu_count(), "docker": docker()}
    number = many["number"]
    result = [
        Row("sandboxes", "start: open and run true", of("start"), "ms", raw=raw),
        Row("sandboxes", "of that, a command in an open one", of("exec"), "ms"),
        Row("sandboxes", "plain subprocess", of("plain"), "ms"),
        Row(
            "sandboxes",
            "start, over a plain subprocess",
            [each["start"] / each["plain"] for each in found],
        ),
        Row("sandboxes", f"started of {number}", [many["started"]], "", at_least(number)),
        Row("sandboxes", f"survivors of {number}", [many["survivors"]], "", at_most(0)),
        Row("sandboxes", f"{number} opened in", [many["open_seconds"]], "s"),
        Row("sandboxes", f"{number} running in", [many["start_seconds"]], "s"),
        Row("sandboxes", f"{number} ended in", [many["end_seconds"]], "s"),
        Row("sandboxes", "memory, idle sandbox", [many["idle_mb"]], "MB", at_most(2.0)),
        Row("sandboxes", "memory, with a command running", [many["busy_mb"]], "MB"),
    ]
    if "docker" in found[0]:
        result.append(Row("sandboxes", "start in Docker: open and run true", of("docker"), "ms"))
        result.append(Row("sandboxes", "of that, a command", of("docker exec"), "ms"))
    return result
