"""A journal that is not there yet, opened by several processes at the same moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_OPEN = """
import asyncio, sys
from manyhands.runtime import Runtime

async def main():
    async with Runtime.open(sys.argv[1]) as runtime:
        assert runtime.runs() == []

asyncio.run(main())
"""


def test_processes_that_make_a_journal_at_once_all_have_it(tmp_path: Path) -> None:
    for number in range(4):
        command = [sys.executable, "-c", _OPEN, str(tmp_path / f"{number}.db")]
        started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
        said = [process.communicate()[1] for process in started]
        assert [process.returncode for process in started] == [0] * 6, said
