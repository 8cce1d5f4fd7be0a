"""The events of a run as server-sent events, from any number on, until the reader leaves.

Invariants: each event comes once and in order, whoever appends it and however often the reader
comes back with ``Last-Event-ID``; a slow reader holds back its own stream and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from manyhands.errors import JournalUnreadable
from manyhands.runtime.codec import encode
from manyhands.runtime.reading import Reader
from manyhands.web.wire import page_of

#: Events of one message: a run of 100,000 comes in 50 of them.
PAGE = 2000
POLL_SECONDS = 0.05
#: How often a comment is sent into silence, so that a reader who is gone is noticed.
BEAT_SECONDS = 15.0
_LOOK_SECONDS = 1.0


async def messages(
    reader: Reader, run_id: str, after: int, *, follow: bool = True
) -> AsyncGenerator[str]:
    """``batch``: events, its id the last one's number; ``held``: whether a process drives the run;
    ``damaged``: why the events after these cannot be read, and nothing more.

    Raises `RunNotFound`.
    """
    loop = asyncio.get_running_loop()
    held: bool | None = None
    looked = spoken = float("-inf")
    ahead: asyncio.Task[tuple[str, int]] | None = None
    while True:
        try:
            page, after = await (ahead or _read(reader, run_id, after))
        except JournalUnreadable as error:
            yield f"event: damaged\ndata: {encode([error.what, error.next])}\n\n"
            return
        ahead = None
        now = loop.time()
        if page:
            spoken = now
            ahead = asyncio.create_task(_read(reader, run_id, after))  # while this one is sent
            yield f"id: {after}\nevent: batch\ndata: {page}\n\n"
            continue
        if now - looked >= _LOOK_SECONDS:
            looked = now
            if held is not (now_held := is_held(reader, run_id)):
                held, spoken = now_held, now
                yield f"event: held\ndata: {str(held).lower()}\n\n"
        if not follow:
            return
        if now - spoken >= BEAT_SECONDS:
            spoken = now
            yield ": still there\n\n"
        await asyncio.sleep(POLL_SECONDS)


def is_held(reader: Reader, run_id: str) -> bool:
    """Whether a process drives the run; who does may be what cannot be read. Raises
    `RunNotFound`."""
    try:
        return reader.holder(run_id) is not None
    except JournalUnreadable:
        return False


async def _read(reader: Reader, run_id: str, after: int) -> tuple[str, int]:
    return await asyncio.to_thread(page_of, reader.journal, run_id, after, PAGE)
