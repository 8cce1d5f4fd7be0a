"""Trackio, in a process of its own.

The library keeps global state, starts threads, prints, and waits for the network without a limit:
all of that happens elsewhere. Invariant: no call outlives its deadline, and the process ends with
this one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Any

from manyhands.adapters.trackers.trackio_child import BUSY
from manyhands.errors import ConfigError, TrackerError
from manyhands.ports import AlertLevel, Training

_CHILD = "manyhands.adapters.trackers.trackio_child"
_SAID = 2_000
#: Seconds between two looks whether the other process has ended.
_LOOK = 0.5


class TrackioTracker:
    """``space``: the Space of the Hub that it is sent to; '': this machine (``TRACKIO_DIR``).
    ``seconds`` bounds each call; ``patience`` is how long `begin` waits for another process of this
    machine that tells of the same run."""

    def __init__(
        self, space: str = "", *, seconds: float = 60.0, patience: float = math.inf
    ) -> None:
        self._space = space
        self._seconds, self._patience = seconds, patience
        self._process: asyncio.subprocess.Process | None = None
        self._errors: asyncio.Task[bytes] | None = None
        self._one = asyncio.Lock()

    async def begin(self, project: str, run: str, config: Mapping[str, object]) -> int:
        check_installed()
        asked = {"project": project, "run": run, "config": dict(config), "space": self._space}
        waited = 0.0
        while (last := await self._ask("begin", asked)) == BUSY:
            if waited >= self._patience:
                raise self._error(f"another process tells of {run}")
            await asyncio.sleep(_LOOK)
            waited += _LOOK
        return last

    async def log(self, step: int, values: Mapping[str, float], report: str = "") -> None:
        await self._ask("log", {"step": step, "values": dict(values), "report": report})

    async def alert(self, step: int, title: str, text: str, level: AlertLevel) -> bool:
        told = {"step": step, "title": title, "text": text, "level": level.value}
        return bool(await self._ask("alert", told))

    async def training(self, told: Training) -> int:
        steps = [[step, dict(values)] for step, values in told.steps]
        about = {"name": told.name, "about": dict(told.about), "steps": steps}
        return await self._ask("training", {**about, "summary": dict(told.summary)})

    async def close(self) -> None:
        if self._process is None:
            return
        try:
            await self._ask("close", {})
        finally:
            await self._end()

    async def _ask(self, what: str, arguments: Mapping[str, Any]) -> int:
        async with self._one:
            try:
                async with asyncio.timeout(self._seconds):
                    answer = await self._answer({"do": what, **arguments})
            except TimeoutError:
                await self._end()
                raise self._error(f"no answer to {what!r} within {self._seconds:g} s") from None
            except (OSError, ValueError) as error:
                said = await self._end()
                raise self._error(f"it ended at {what!r}; it said last: {said}") from error
        if "error" in answer:
            raise self._error(f"{what}: {answer['error']}")
        return int(answer["value"])

    async def _answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process or await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            raise ValueError("no answer")
        return json.loads(line)

    async def _start(self) -> asyncio.subprocess.Process:
        # On this machine it needs nobody's name, and asks the Hub for one.
        alone = {} if self._space else {"HF_HUB_OFFLINE": "1"}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _CHILD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | alone,
        )
        assert self._process.stderr is not None
        self._errors = asyncio.create_task(_last(self._process.stderr))
        return self._process

    async def _end(self) -> str:
        """End the process; the end of what it has said."""
        process, self._process = self._process, None
        errors, self._errors = self._errors, None
        if process is None or errors is None:
            return ""
        if process.returncode is None:
            process.kill()
        await process.wait()
        return (await errors).decode("utf-8", "replace").strip()[-300:]

    def _error(self, what: str) -> TrackerError:
        where = f"Space {self._space}" if self._space else "this machine"
        return TrackerError(
            f"Trackio ({where}): {what}", next="`manyhands lab track STUDY` shows the rest later"
        )


def check_installed() -> None:
    """Raises `ConfigError`."""
    if importlib.util.find_spec("trackio") is None:
        raise ConfigError("trackio is not installed", next="pip install 'manyhands[trackio]'")


async def _last(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while chunk := await stream.read(4096):
        kept = (kept + chunk)[-_SAID:]
    return kept
