"""The process that holds sandboxes is killed with -9: nothing of them goes on, nothing is left."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
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
        await asyncio.sleep(1.5)
        print("ready", flush=True)
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


@pytest.mark.parametrize("backend", ["auto", "copy"])
def test_all_dies_with_the_process_that_holds_them(tmp_path: Path, backend: str) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "tmp").mkdir()
    tag = secrets.token_hex(8)
    holder = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "base"), tag, backend],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    assert len(tagged(tag)) >= 3
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    deadline = time.monotonic() + 10
    while tagged(tag) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert tagged(tag) == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert list((tmp_path / "base").iterdir()) == []
