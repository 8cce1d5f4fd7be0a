"""The local server of the timeline.

Invariant: it listens on the loopback unless told otherwise, and its address alone gives access: the
token is in the part after ``#``, which browsers send to nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Generator

import uvicorn

from manyhands.errors import ConfigError
from manyhands.runtime import Runtime
from manyhands.web.api import Api
from manyhands.web.guard import Guard, is_loopback


class _Uvicorn(uvicorn.Server):
    """``up`` is set once it listens. Signals are left to the program that it runs in."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Server:
    """``async with Server(runtime) as server``: ``server.url`` is there to be opened.

    ``port`` 0: any that is free. ``token``: default, a fresh one of 256 bits.
    """

    def __init__(
        self, runtime: Runtime, *, host: str = "127.0.0.1", port: int = 0, token: str | None = None
    ) -> None:
        self.host = host
        self.port = port
        self.token = token or secrets.token_urlsafe(32)
        names = () if is_loopback(host) else (host, socket.gethostname())
        config = uvicorn.Config(
            Guard(Api(runtime).app(), self.token, names),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def origin(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/#token={self.token}"

    def _bind(self) -> socket.socket:
        try:
            family = socket.getaddrinfo(self.host, self.port)[0][0]
            bound = socket.socket(family)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((self.host, self.port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self.host} port {self.port}: {error}",
                next="name another port with --port, or 0 for any that is free",
            ) from error
        self.port = bound.getsockname()[1]
        return bound

    async def __aenter__(self) -> Server:
        bound = self._bind()
        self._task = asyncio.create_task(self._server.serve(sockets=[bound]))
        up = asyncio.create_task(self._server.up.wait())
        await asyncio.wait({self._task, up}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._server.force_exit = True  # streams are endless
        if self._task is not None:
            await self._task

    async def wait(self) -> None:
        """Until it is told to end (Ctrl-C)."""
        assert self._task is not None
        await asyncio.shield(self._task)
