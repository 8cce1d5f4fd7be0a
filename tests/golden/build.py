"""Builds the golden journal of the present schema: ``python tests/golden/build.py``.

It holds one run with every type of event. The files are committed and never changed: a later
version must read them. A new schema, or a new type of event, gets files of its own beside these.
"""

from __future__ import annotations

import asyncio
import math
import sys
from pathlib import Path
from typing import Any

from manyhands.errors import InDoubt, StepFailed
from manyhands.runtime import (
    SCHEMA,
    ArtifactStatus,
    Budget,
    Effect,
    Evidence,
    Retry,
    Run,
    Runtime,
    Workflow,
    export_run,
)
from manyhands.testing import ManualClock

HERE = Path(__file__).parent
RUN = "golden"
CALLS: list[str] = []


class Flaky(Exception):
    retryable = True


async def call(name: str, *args: Any) -> Any:
    CALLS.append(name)
    if name == "flaky" and CALLS.count(name) == 1:
        raise Flaky("once more")
    if name == "broken":
        raise ValueError("é\u2028\ud800")
    if name == "pay" and "paid" not in CALLS:
        CALLS.append("paid")
        await asyncio.Event().wait()
    return [name, *args]


async def body(run: Run, input: Any) -> Any:
    found: list[Any] = [input, await run.now("now"), await run.steers("steers")]
    found.append(await run.step("odd", call, "odd", 2**70, math.inf, "\ud800\u2028", {"$float": 1}))
    found.append(await run.step("big", call, "big", "x" * 5000))
    found.append(await run.step("flaky", call, "flaky", retry=Retry(2, first=1)))
    try:
        await run.step("broken", call, "broken", effect=Effect.PURE)
    except StepFailed as error:
        found.append([error.kind, error.message])
    async with run.scope("spending", Budget(tokens=100, seconds=1e6, depth=1)) as scope:
        cost, usage = {"tokens": 40}, lambda value: {"tokens": 7_000}
        found.append(await scope.step("call", call, "call", cost=cost, usage=usage))
        found.append(scope.remaining("tokens"))
    evidence = [Evidence(kind="file", source="a.txt", hash="sha256:00")]
    item = await run.put("put", "notes", b"\x00\xff", kind="bytes", evidence=evidence)
    await run.mark("mark", "notes", item.version, ArtifactStatus.ACCEPTED, "good")
    await run.record("row", "test:row", {"n": 1}, value={"pad": "y" * 5000})
    await run.sleep("nap", 60)
    found.append(await run.step("pay", call, "pay", effect=Effect.ONCE))
    found.append(await run.wait("answer"))
    return found


WORKFLOW = Workflow("golden", body, version=3)


async def build(folder: Path) -> None:
    path = folder / f"v{SCHEMA}.db"
    clock = ManualClock(jump=True)

    def opened() -> Runtime:
        return Runtime.open(path, workflows=[WORKFLOW], clock=clock)

    async with opened() as runtime:
        await runtime.start(WORKFLOW, {"é": [1.5, None]}, run_id="source", budget=Budget(usd=1))
        while "paid" not in CALLS:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    async with opened() as runtime:
        try:
            await (await runtime.resume("source")).result()
        except InDoubt:
            message = {"action": "result", "value": "receipt"}
            await runtime.command(
                "source", "resolve", target="pay", message=message, idempotency_key="a"
            )
        await runtime.command(
            "source", "answer", target="answer", message=[42], idempotency_key="b"
        )
        await (await runtime.resume("source")).result()
        end = runtime.view("source").seq
        await runtime.fork("source", before=end, new_run_id=RUN)
        await (await runtime.resume(RUN)).result()
        export_run(runtime.journal, RUN, folder / f"v{SCHEMA}.jsonl")


if __name__ == "__main__":
    asyncio.run(build(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE))
