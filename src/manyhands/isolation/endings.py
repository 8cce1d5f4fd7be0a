"""Ends that must happen however they are disturbed: waiting for a task, removing a folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


async def finish(task: asyncio.Task[object]) -> None:
    """Wait for the end of ``task``, however often this one is cancelled meanwhile."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


async def to_its_end(task: asyncio.Task[T], stop: Callable[[], None]) -> T:
    """What ``task`` gives. Cancelled meanwhile: it is told to stop and waited for first."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop()
        await finish(task)
        if not task.cancelled():
            task.exception()
        raise


def remove(folder: Path) -> None:
    """Even if a job made folders in it unreadable."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for parent, names, _ in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    os.chmod(os.path.join(parent, name), 0o700)
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # deeper than Python's recursion
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False, capture_output=True)
