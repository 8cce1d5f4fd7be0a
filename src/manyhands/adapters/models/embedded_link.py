"""A client's hold on an embedded server: finds it or starts it, and lets it go.

Invariants: between `acquire` and `release` a server that lives is not ended by its host; a start
ends within its time, in a server or in an error that says why; nobody waits for a server that is
gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from manyhands.adapters.models.embedded_host import server_environment
from manyhands.adapters.models.embedded_state import (
    CLIENTS,
    USE,
    Folder,
    Lock,
    Order,
    Phase,
    ServerState,
)
from manyhands.errors import ModelError, ModelUnreachable

_POLL = 0.02
#: How long a server that has dropped a connection is looked at before it counts as alive.
_DOUBT_SECONDS = 0.3
#: How long a host may take to say why its server ended, on a machine that is very busy.
_OBITUARY_SECONDS = 3.0
#: On top of the start itself: the host before this one may still be on its way out.
_GRACE_SECONDS = 60.0
_MOST_HOSTS = 5
#: Of the log's last lines in an error.
_EXCERPT = 600


class ServerLink:
    """One client's hold on the server of ``order``. For one event loop at a time."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._folder = Folder(Path(order.folder))
        self._locks: dict[str, Lock] = {}
        self._uses = 0
        self._live: ServerState | None = None
        self._gone: set[str] = set()
        self._turn = asyncio.Lock()

    async def acquire(self) -> ServerState:
        """The server, started if it is not there. Raises `ModelError` when it cannot be."""
        self._uses += 1
        try:
            live = self._live
            if live is not None and self._uses > 1:
                return live
            async with self._turn:
                for name in (CLIENTS, USE):
                    await self._hold(name)
                self._live = await self._ready()
                return self._live
        except OSError as error:
            self.release()
            raise self._failed(None, f"{type(error).__name__}: {error}", passing=False) from error
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        self._uses -= 1
        if self._uses == 0:
            self._live = None
            if (use := self._locks.get(USE)) is not None:
                use.release()

    def close(self) -> None:
        """Want the server no more. A later `acquire` wants it again."""
        self._live = None
        locks, self._locks = self._locks, {}
        for lock in locks.values():
            lock.close()

    async def fate(self, live: ServerState) -> str | None:
        """Why a server that has dropped a connection has ended; None: it has not."""
        begun = time.monotonic()
        while True:
            # In this order: what a host that is gone has written is its last word.
            hosted, state = self._folder.hosted, self._folder.read()
            same = state is not None and state.generation == live.generation
            if not same or state is None or state.phase is not Phase.READY:
                self._lost(live)
                return self._why(state if same else None)
            waited = time.monotonic() - begun
            if waited > _DOUBT_SECONDS and hosted and await _listens(live.url):
                return None
            if waited > _OBITUARY_SECONDS or not hosted:
                self._lost(live)
                return self._why(None)
            await asyncio.sleep(_POLL)

    # ---------------------------------------------------------------- inside

    def _lost(self, live: ServerState) -> None:
        self._gone.add(live.generation)
        if self._live is not None and self._live.generation == live.generation:
            self._live = None

    async def _hold(self, name: str) -> None:
        """Share a lock; it is held by a host alone only while that ends."""
        lock = self._locks.get(name)
        if lock is None or not lock.in_place:
            if lock is not None:
                lock.close()
            lock = self._locks[name] = self._folder.lock(name)
        deadline = time.monotonic() + _GRACE_SECONDS
        while not lock.try_shared():
            if time.monotonic() > deadline:
                raise self._failed(None, "the server before it does not end", passing=True)
            await asyncio.sleep(_POLL)

    async def _ready(self) -> ServerState:
        old = self._folder.read()
        earlier = old.generation if old is not None and old.phase is Phase.FAILED else ""
        deadline = time.monotonic() + self._order.start_seconds + _GRACE_SECONDS
        hosts: list[subprocess.Popen[bytes]] = []
        while True:
            hosted, state = self._folder.hosted, self._folder.read()
            ready = state is not None and hosted and state.phase is Phase.READY
            if state is not None and ready and await self._trusted(state):
                return state
            failed = state is not None and state.phase is Phase.FAILED
            if state is not None and failed and state.generation != earlier:
                raise self._failed(state, state.reason, passing=state.passing)
            coming = state is not None and hosted and state.phase in (Phase.STARTING, Phase.READY)
            if not coming and (not hosts or hosts[-1].returncode is not None):
                if len(hosts) == _MOST_HOSTS:
                    code = hosts[-1].returncode
                    raise self._failed(None, f"its host ended with code {code}", passing=True)
                hosts.append(self._start_host())
            if time.monotonic() > deadline:
                raise self._failed(state, "it took too long", passing=True)
            await asyncio.sleep(_POLL)

    async def _trusted(self, state: ServerState) -> bool:
        """One that was taken for dead has to show that it is not."""
        if state.generation in self._gone and await _listens(state.url):
            self._gone.discard(state.generation)
        return state.generation not in self._gone

    def _start_host(self) -> subprocess.Popen[bytes]:
        """A process that outlives this one where others want the server, too."""
        self._folder.make()
        log = os.open(self._folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            host = subprocess.Popen(
                # -P: no module of the current folder is taken for one of the library's.
                [sys.executable, "-P", "-m", "manyhands.adapters.models.embedded_host"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=server_environment(os.environ),
                start_new_session=True,
            )
        finally:
            os.close(log)
        assert host.stdin is not None
        with contextlib.suppress(BrokenPipeError), host.stdin as pipe:
            pipe.write(json.dumps(asdict(self._order)).encode() + b"\n")
        # Somebody has to take note of its end, or it stays in the process table.
        threading.Thread(target=host.wait, daemon=True).start()
        return host

    def _failed(self, state: ServerState | None, reason: str, *, passing: bool) -> ModelError:
        what = (
            f"model {self._order.model}: its server cannot be started: {self._said(reason, state)}"
        )
        advice = state.next if state is not None else ""
        kind = ModelUnreachable if passing else ModelError
        return kind(what, next=advice or f"read {self._folder.log}")

    def _why(self, state: ServerState | None) -> str:
        if state is None:
            return self._said("its host was killed", None)
        return self._said(state.reason, state)

    def _said(self, reason: str, state: ServerState | None) -> str:
        lines = " | ".join(state.lines) if state is not None else self._last_line()
        lines = lines if len(lines) <= _EXCERPT else "…" + lines[1 - _EXCERPT :]
        return f"{reason} (log: {self._folder.log}, which ends: {lines or 'nothing'})"

    def _last_line(self) -> str:
        try:
            with self._folder.log.open("rb") as file:
                file.seek(max(0, self._folder.log.stat().st_size - _EXCERPT))
                lines = file.read().decode("utf-8", "replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


async def _listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except OSError:  # a timeout, too
        return False
    writer.close()
    return True
