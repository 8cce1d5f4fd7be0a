"""The process that holds sandboxes is killed with -9: nothing of them goes on, nothing is left."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.needs("bubblewrap")
PROGRAM = """
import asyncio, sys
from pathlib import Path
from manyhands.adapters.sandboxes.linux import LinuxSandboxes

async def main(base, tag, backend):
    boxes = LinuxSandboxes(backend)
    async with boxes.open(base, env={"TAG": tag}) as box, box.fork() as child:
        await box.exec("(trap '' TERM HUP; setsid sleep 600) &", background=True)
        running = asyncio.create_task(child.exec("trap '' TERM; sleep 600 & sleep 600"))
        await running

asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
"""


def tagged(tag: str) -> list[str]:
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TAG") == tag and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.name()}")
        except psutil.Error:
            continue
    return found


def until(holds: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("backend", ["auto", "copy"])
def test_all_dies_with_the_process_that_holds_them(tmp_path: Path, backend: str) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "tmp").mkdir()
    tag = secrets.token_hex(8)
    holder = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "base"), tag, backend],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )
    assert until(lambda: sum("sleep" in each for each in tagged(tag)) == 3), tagged(tag)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert until(lambda: not tagged(tag)), tagged(tag)
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert list((tmp_path / "base").iterdir()) == []
