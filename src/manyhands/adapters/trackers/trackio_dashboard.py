"""Trackio's own dashboard, in a process of its own, on a loopback address.

Invariant: the process ends with the one that asked for it, whatever it is doing; nothing but one
answer is written to its standard output, whatever the library prints (it prints a token).

As a program: ``python -m …trackio_dashboard PROJECT PORT``, '' for all projects, 0 for any port
that is free; it serves until the end of its standard input.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from manyhands.adapters.trackers.trackio import check_installed
from manyhands.errors import TrackerError

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """``url`` is for looking; with ``edit_url`` runs may also be renamed and deleted."""

    url: str
    edit_url: str


class TrackioDashboard:
    """Serves while it is entered. ``project``: the one that is shown first; '': a person chooses.

    Raises `ConfigError` without Trackio, `TrackerError` where it does not begin in ``seconds``.
    """

    def __init__(self, project: str = "", *, port: int = 0, seconds: float = 60.0) -> None:
        self._project, self._port, self._seconds = project, port, seconds
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Address:
        check_installed()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, self._project, str(self._port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            start_new_session=True,  # Ctrl-C is for this process, which then ends the other
        )
        try:
            return await self._address(self._process)
        except BaseException:
            await self._end()
            raise

    async def _address(self, process: asyncio.subprocess.Process) -> Address:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(self._seconds):
                line = await process.stdout.readline()
                said = b"" if line else await process.stderr.read()
        except TimeoutError:
            raise _failed(f"it did not begin within {self._seconds:g} s") from None
        if not line:
            last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise _failed(f"it ended: {' '.join(last)[:300]}")
        answer = json.loads(line)
        if "error" in answer:
            raise _failed(answer["error"])
        return Address(**answer)

    async def wait(self) -> None:
        """Until it ends by itself, which is an error."""
        assert self._process is not None
        assert self._process.stderr is not None
        while await self._process.stderr.read(4096):
            pass
        raise _failed(f"it ended with {await self._process.wait()}")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()


def _failed(what: str) -> TrackerError:
    return TrackerError(
        f"Trackio's dashboard: {what}", next="name another port with --port, or try again"
    )


# ---------------------------------------------------------------- the process


def _free(port: int) -> int:
    """``port``, or one that nobody has. Raises OSError where it is taken."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((HOST, port))
        return one.getsockname()[1]


def _serve(project: str, port: int) -> Address:
    trackio: Any = importlib.import_module("trackio")
    app, url, _, _ = trackio.show(
        project or None,
        open_browser=False,
        block_thread=False,
        host=HOST,
        share=False,
        server_port=_free(port),
    )
    chosen = {"project": project} if project else {}
    asked = f"?{urlencode(chosen)}" if chosen else ""
    edit = urlencode(chosen | {"write_token": app.write_token})
    return Address(f"{url}{asked}", f"{url}?{edit}")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        address = _serve(sys.argv[1], int(sys.argv[2]))
        answer = {"url": address.url, "edit_url": address.edit_url}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    if "error" not in answer:
        sys.stdin.read()
    os._exit(0)  # uvicorn's thread need not be waited for


if __name__ == "__main__":
    main()
