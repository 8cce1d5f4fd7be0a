"""A model server that is never the bottleneck: ``python -m tests.bench.loop_server TURNS SECONDS``.

Raw asyncio, one process of its own, so that its CPU time is counted to nobody. A conversation is
told apart by the first ``conversation-…`` in a request's body: its first TURNS - 1 requests are
answered with a call of the tool ``look``, the last with a text, or with a call of ``final_answer``
where the client offers such a tool (those called `SHORT` are done after 16). Each answer comes
SECONDS after its request, from a timer, so any number of conversations wait at once. ``GET`` gives
the number of answers so far.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from urllib.request import urlopen

from tests.bench.rounds import ROOT, ContestantFailed

#: What the model says beside a call, and what the tool returns: 180 characters.
TEXT = "The quick brown fox jumps over the lazy dog. " * 4

#: The answer at the end.
DONE = "It is done."
#: What the names of short conversations begin with, and how many requests these have.
SHORT = "conversation-short"
SHORT_TURNS = 16

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CONVERSATION = re.compile(rb"conversation-[\w-]+")


def reply(turn: int, turns: int, finisher: bool) -> bytes:
    """The chat completion that a conversation's request number ``turn`` is answered with."""
    last = turn >= turns
    message: dict[str, object] = {"role": "assistant", "content": DONE if last else TEXT}
    call = ("look", {"number": turn})
    if last and finisher:
        call = ("final_answer", {"answer": DONE})
    if calling := not last or finisher:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        message["tool_calls"] = [{"id": f"call-{turn}", "type": "function", "function": function}]
    usage = {"prompt_tokens": 100 * turn, "completion_tokens": 60, "total_tokens": 100 * turn + 60}
    finish = "tool_calls" if calling else "stop"
    return json.dumps(
        {
            "id": f"chatcmpl-{turn}",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": "scripted",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": usage,
        }
    ).encode()


class _Script:
    """What all connections share."""

    def __init__(self, turns: int, seconds: float) -> None:
        self.turns = turns
        self.seconds = seconds
        self.answers = 0
        self._asked: Counter[bytes] = Counter()
        self._made: dict[tuple[int, int, bool], bytes] = {}

    def answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"GET"):
            return _http(str(self.answers).encode())
        self.answers += 1
        found = _CONVERSATION.search(body)
        name = found[0] if found else b""
        self._asked[name] += 1
        short = name.startswith(SHORT.encode())
        turns = min(SHORT_TURNS, self.turns) if short else self.turns
        key = (self._asked[name], turns, b'"final_answer"' in body)
        if key not in self._made:
            self._made[key] = _http(reply(*key))
        return self._made[key]


def _http(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


class _Connection(asyncio.Protocol):
    """One keep-alive connection; requests come one after the other."""

    def __init__(self, script: _Script) -> None:
        self._script = script
        self._parts: list[bytes] = []
        self._held = 0
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._held += len(data)
        if self._held < self._needed:
            return
        whole = b"".join(self._parts)
        self._parts = [whole]
        end = whole.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = _LENGTH.search(whole, 0, end)
        self._needed = end + (int(length[1]) if length else 0)
        if len(whole) < self._needed:
            return
        self._parts, self._held, self._needed = [], 0, 0
        answer = self._script.answer(whole[:end], whole[end:])
        if self._script.seconds:
            asyncio.get_running_loop().call_later(self._script.seconds, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def _serve(turns: int, seconds: float) -> None:
    script = _Script(turns, seconds)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(script), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The parent holds the other end of stdin: when it is gone, so is this.
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def serving(turns: int, seconds: float) -> Generator[str]:
    """The URL of a fresh server process, up to and including ``/v1``."""
    command = [sys.executable, "-m", "tests.bench.loop_server", str(turns), str(seconds)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise ContestantFailed("the model server did not start")
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.stdin.close()


def answered(url: str) -> int:
    """How many requests the server has answered."""
    with urlopen(url, timeout=30) as response:
        return int(response.read())


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
