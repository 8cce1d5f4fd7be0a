"""The process of one contestant: ``python -m tests.bench.peers.faults_child MODULE``.

Each line of stdin is a trial; each line of what stdout was at the start is what came of it. The
contestant's own prints go to stderr. All trials run in one event loop, as in a real program. One
that outlives its deadline is cancelled, and one that cannot be is ended from outside, with this
process.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import sys
import traceback
import warnings
from typing import Any

from manyhands.testing.faults_task import Lookup
from tests.bench.peers.faults_ask import Ask, NotDone


async def main() -> None:
    results = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    peer = importlib.import_module(f"tests.bench.peers.faults_{sys.argv[1]}")
    print(json.dumps({"kind": "ready"}), file=results)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await _trial(peer, json.loads(line))), file=results)


async def _trial(peer: Any, told: dict[str, Any]) -> dict[str, Any]:
    ask = Ask(told["url"], Lookup(told["seed"]), told["seconds"], told["streamed"], told["typed"])
    try:
        async with asyncio.timeout(told["deadline"]) as limit:
            return {"kind": "answered", "text": await peer.solve(ask)}
    except BaseException as error:
        if limit.expired():
            return {"kind": "late", "text": ""}
        clean = isinstance(error, NotDone) or _meant(error, peer.CLEAN)
        return {"kind": "failed" if clean else "crash", "text": _about(error)}


def _meant(error: BaseException, packages: tuple[str, ...]) -> bool:
    """It is of the contestant's own kind, or one of its own lines raises it."""
    if type(error).__module__.split(".")[0] in packages:
        return True
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = any(f"/site-packages/{package}/" in last.filename for package in packages)
    return own and (last.line or "").startswith("raise ")


def _about(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}: {error}"[:300]


if __name__ == "__main__":
    asyncio.run(main())
