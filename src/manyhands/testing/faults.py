"""`FaultServer`: a real server on this machine that misbehaves as a row of the table says.

Invariants: it misbehaves exactly as often as the row says and then does what a good model would do;
every request that it is sent is kept and held against what a strict server takes; when it is closed
nothing of it is left, whatever its clients do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Self

from manyhands.testing.faults_acts import ALWAYS, Act, End
from manyhands.testing.faults_model import MODEL_FAULTS
from manyhands.testing.faults_strict import violations
from manyhands.testing.faults_table import By, Fault, Group, Stage
from manyhands.testing.faults_task import TASK, Lookup, Talk
from manyhands.testing.faults_wire import WIRE_FAULTS

__all__ = [
    "ALWAYS",
    "FAULTS",
    "TASK",
    "Act",
    "By",
    "End",
    "Fault",
    "FaultServer",
    "Group",
    "Lookup",
    "Stage",
    "violations",
]

#: The failure table.
FAULTS: tuple[Fault, ...] = tuple(
    fault for group in Group for fault in (*WIRE_FAULTS, *MODEL_FAULTS) if fault.group is group
)

_MOST = 64 * 1024 * 1024
_FOREVER = 3600.0
_GOOD = Act()
_REASONS = {200: "OK", 429: "Too Many Requests", 500: "Internal Server Error"}


class FaultServer:
    """``async with FaultServer(fault) as server``: ``server.url`` ends in ``/v1``.

    ``fault`` None: it behaves. ``seed``: of the numbers that `Lookup` finds, so that no answer is
    known in advance.

    ``requests``: the bodies that it was sent, ``faulted`` which of them it answered badly,
    ``violations`` what was wrong with them.
    """

    def __init__(self, fault: Fault | None = None, seed: str = "") -> None:
        self.url = ""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._broken: Exception | None = None
        self._fault = fault
        self.lookup = Lookup(seed)
        self.requests: list[Mapping[str, Any]] = []
        self.violations: list[str] = []
        self.faulted: list[int] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()
        if self._broken is not None:
            raise RuntimeError("the fault server failed itself") from self._broken

    # ---------------------------------------------------------------- a connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, _Gone):
                while (body := await _read_request(reader)) is not None:
                    await self._answer(body, reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        except Exception as error:  # its own: told when it is closed
            self._broken = self._broken or error
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(
        self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.violations += [f"request {len(self.requests)}: {v}" for v in violations(body)]
        asked = json.loads(body)
        self.requests.append(asked)
        talk = Talk(asked, len(self.faulted))
        act = self._act(talk)
        if act is None:
            await _write(writer, _GOOD, talk, keep_alive=True)
            return
        self.faulted.append(len(self.requests) - 1)
        await _write(writer, act, talk, keep_alive=False)
        if act.then is End.HOLDS:
            await reader.read()  # until the client goes
        if act.then is End.RESETS:
            _reset(writer)
        raise _Gone

    def _act(self, talk: Talk) -> Act | None:
        """The fault that is due now; None: it behaves."""
        fault = self._fault
        if fault is None or len(self.faulted) >= fault.times or not fault.due(talk):
            return None
        return fault.act if isinstance(fault.act, Act) else fault.act(talk)


class _Gone(Exception):
    """The answer was the last on its connection."""


async def _read_request(reader: asyncio.StreamReader) -> bytes | None:
    """The body of the next request; None: there is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    if not 0 < length <= _MOST:
        return None
    return await reader.readexactly(length)


async def _write(writer: asyncio.StreamWriter, act: Act, talk: Talk, *, keep_alive: bool) -> None:
    """The answer, or as much of it as the act sends."""
    stream = bool(talk.body.get("stream")) and act.status == 200
    pieces = act.edit(act.pieces(talk, stream=stream))
    size = sum(map(len, pieces)) if isinstance(pieces, list) and not stream else None
    chunked = size is None
    if act.head:
        writer.write(_head(act, size, stream, keep_alive))
    await _write_pieces(writer, pieces, chunked=chunked, pace=act.pace)
    if chunked and act.head and act.then is End.ENDS:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _write_pieces(
    writer: asyncio.StreamWriter, pieces: Iterable[bytes], *, chunked: bool, pace: float
) -> None:
    for piece in pieces:
        if piece:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        await writer.drain()
        await asyncio.sleep(pace)


def _head(act: Act, size: int | None, stream: bool, keep_alive: bool) -> bytes:
    kind = "text/event-stream" if stream else "application/json"
    told = {"Content-Type": kind, "Connection": "keep-alive" if keep_alive else "close"}
    if size is None:
        told["Transfer-Encoding"] = "chunked"
    else:
        told["Content-Length"] = str(size + act.length + _promised(act))
    lines = [f"HTTP/1.1 {act.status} {_REASONS.get(act.status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in {**told, **act.headers}.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def _promised(act: Act) -> int:
    """Bytes that never come: an answer that breaks off must be known to be incomplete."""
    return 0 if act.then is End.ENDS else 1000


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST in place of FIN."""
    found: socket.socket = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
