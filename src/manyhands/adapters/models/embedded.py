"""A model on this machine: llama.cpp's server, started when it is asked for.

Invariants: all who ask for the same file with the same settings, in whichever process, share one
server; it needs no care: it starts at the first request, is replaced when it dies, and ends when it
is not used or when nobody is left who may use it, however they ended. A request that is lost with
its server fails as one that can be made again, and is not made again behind its caller's back.

`embedded_host` describes the processes, `embedded_state` how they know of each other.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from manyhands.adapters.models.embedded_download import HubFile, OnProgress, cached, download
from manyhands.adapters.models.embedded_header import Header, parts_of, read_header
from manyhands.adapters.models.embedded_limits import usable_cores
from manyhands.adapters.models.embedded_link import ServerLink
from manyhands.adapters.models.embedded_state import Order, ServerState
from manyhands.adapters.models.openai_compatible import OpenAICompatibleModel
from manyhands.errors import ConfigError, ModelError, ModelRefused, ModelUnreachable
from manyhands.ports import ModelReply, ModelRequest, Price

#: Of the processes' protocol: servers of another one are not shared.
_PROTOCOL = 1
_DEFAULT_CONTEXT = 8192
_OVERFLOW = "exceeds the available context size"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What makes one server another one, and how long it lives.

    ``context_length``: tokens of each slot (None: 8192, or what the model was trained for if that
    is less; never more). ``slots``: requests that are worked on at once; memory for the contexts of
    all is taken at the start. ``threads``: None is one for each core that this process may use;
    more are never taken. ``idle_seconds`` without a request, or ``linger_seconds`` without anybody
    who could make one: the server ends. ``start_seconds``: until a start is given up.
    ``health_seconds`` between two checks; frozen for three, it is replaced. ``log_bytes``: of the
    log, and of the one before it that is kept.

    Whoever starts a server decides about its seconds; they are not part of what it is shared by.
    """

    context_length: int | None = None
    slots: int = 4
    threads: int | None = None
    idle_seconds: float = 300.0
    linger_seconds: float = 5.0
    start_seconds: float = 600.0
    health_seconds: float = 5.0
    log_bytes: int = 2_000_000

    def __post_init__(self) -> None:
        for name in ("context_length", "slots", "threads", "log_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} = {value} of an embedded server", next="give 1 or more")


@dataclass(slots=True)
class _Speaker:
    """The HTTP side of one server, closed when nobody speaks through it any more."""

    model: OpenAICompatibleModel
    users: int = 0


@dataclass(slots=True)
class _Connection:
    """What belongs to one event loop."""

    loop: asyncio.AbstractEventLoop
    link: ServerLink
    slots: asyncio.Semaphore
    speakers: dict[str, _Speaker] = field(default_factory=dict[str, _Speaker])


class EmbeddedModel:
    """The model in a ``.gguf`` file of this machine, or of the Hub, which is fetched when needed.

    ``state_folder``: where the folder of each server is, with its state and its log.
    ``on_progress``: told of a download, in the event loop. ``extra``: further fields of every
    request, such as ``{"top_p": 0.9}``. Two requests for each slot are sent at once, others wait,
    which counts against no deadline; nor does a start, which has its own.

    Raises `ConfigError` where the file is not there, is no GGUF, or ``manyhands[local]`` is not
    installed.
    """

    def __init__(
        self,
        source: Path | HubFile,
        *,
        state_folder: Path,
        settings: ServerSettings | None = None,
        on_progress: OnProgress | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._version = _installed()
        self._source = source.absolute() if isinstance(source, Path) else source
        self.name = source.name if isinstance(source, Path) else str(source)
        self.price: Price | None = Price(0.0, 0.0)
        self._state_folder = state_folder.absolute()
        self._settings = settings or ServerSettings()
        self._on_progress = on_progress
        self._extra = dict(extra or {})
        self._path = self._source if isinstance(self._source, Path) else cached(self._source)
        self._header = read_header(self._path) if self._path is not None else None
        self._connection: _Connection | None = None
        self._fetching: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    def __repr__(self) -> str:
        return f"EmbeddedModel({self.name!r})"

    @property
    def context_length(self) -> int | None:
        """Tokens of a slot. Before a file of the Hub is there: what was asked for."""
        asked = self._settings.context_length or _DEFAULT_CONTEXT
        trained = self._header.context_length if self._header is not None else None
        return min(asked, trained) if trained is not None else asked

    @property
    def folder(self) -> Path | None:
        """Where its server's log is. None before the file is there."""
        if self._path is None or self._header is None:
            return None
        return Path(self._order(self._path, self._header).folder)

    async def prepare(self) -> None:
        """Fetch the file and start the server now. Raises as a request does."""
        async with self._server():
            pass

    async def request(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """One request; streamed if ``on_text`` is given. Raises `ModelError` and its children.

        When the server dies in it, that is a `ModelUnreachable`: the next request starts another.
        """
        connection = await self._connected()
        async with connection.slots:
            for last in (False, True):
                try:
                    async with self._server() as (live, model):
                        return await self._ask(connection.link, live, model, request, on_text)
                except _NotSent as error:
                    if last:
                        raise error.cause from None
        raise AssertionError("the last round returns or raises")

    async def close(self) -> None:
        """Let the server go; a later request takes it, or another one, up again."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.link.close()
        for speaker in connection.speakers.values():
            await speaker.model.close()

    # ---------------------------------------------------------------- inside

    async def _ask(
        self,
        link: ServerLink,
        live: ServerState,
        model: OpenAICompatibleModel,
        request: ModelRequest,
        on_text: Callable[[str], None] | None,
    ) -> ModelReply:
        try:
            return await model.request(request, on_text)
        except ModelRefused as error:
            raise self._refused(error, live) from None
        except ModelUnreachable as error:
            why = await link.fate(live)
            if why is None:
                raise
            dead = ModelUnreachable(
                f"model {self.name}: its server (process {live.pid}) ended in a request: {why}",
                next="ask again: another server is started",
            )
            dead.may_have_spent = error.may_have_spent
            if not error.may_have_spent:
                raise _NotSent(dead) from None
            raise dead from None

    def _refused(self, error: ModelRefused, live: ServerState) -> ModelRefused:
        if _OVERFLOW not in error.what:
            return error
        trained = self._header.context_length if self._header is not None else None
        room = trained is None or live.context_length < trained
        longer = "raise the model's context length" + (f" (at most {trained})" if trained else "")
        return ModelRefused(
            error.what, next=f"shorten the conversation{', or ' + longer if room else ''}"
        )

    @asynccontextmanager
    async def _server(self) -> AsyncGenerator[tuple[ServerState, OpenAICompatibleModel]]:
        """A server that is there, and stays as long as this lasts unless it dies."""
        connection = await self._connected()
        live = await connection.link.acquire()
        try:
            speaker = connection.speakers.get(live.generation)
            if speaker is None:
                speaker = connection.speakers[live.generation] = _Speaker(self._speaker(live))
            speaker.users += 1
            try:
                yield live, speaker.model
            finally:
                speaker.users -= 1
                await _close_unused(connection.speakers)
        finally:
            connection.link.release()

    def _speaker(self, live: ServerState) -> OpenAICompatibleModel:
        return OpenAICompatibleModel(
            self.name,
            live.url,
            api_key=SecretStr(live.key),
            price=self.price,
            context_length=live.context_length,
            concurrency=2 * self._settings.slots,
            extra=self._extra,
        )

    async def _connected(self) -> _Connection:
        loop = asyncio.get_running_loop()
        path, header = await self._file(loop)
        known = self._connection
        if known is None or known.loop is not loop:
            if known is not None:
                known.link.close()  # its loop is over, and whoever waited in it
            known = _Connection(
                loop,
                ServerLink(self._order(path, header)),
                asyncio.Semaphore(2 * self._settings.slots),
            )
            self._connection = known
        return known

    async def _file(self, loop: asyncio.AbstractEventLoop) -> tuple[Path, Header]:
        if self._fetching is None or self._fetching[0] is not loop:
            self._fetching = loop, asyncio.Lock()
        async with self._fetching[1]:
            if self._path is None or self._header is None:
                assert isinstance(self._source, HubFile)
                path = await download(self._source, self._on_progress)
                try:
                    self._header = read_header(path)
                except ConfigError as error:
                    raise ModelError(error.what, next=error.next) from error
                self._path = path
        return self._path, self._header

    def _order(self, path: Path, header: Header) -> Order:
        settings, cores = self._settings, usable_cores()
        threads = min(settings.threads or cores, cores)
        length = self.context_length or _DEFAULT_CONTEXT
        # The threads as they were asked for: an affinity of one's own makes no second server.
        shared = [_PROTOCOL, self._version, length, settings.slots, settings.threads]
        shared += [_identity(path)]
        name = hashlib.sha256(json.dumps(shared).encode()).hexdigest()[:16]
        return Order(
            folder=str(self._state_folder / name),
            model=self.name,
            path=str(path),
            context_length=length,
            slots=settings.slots,
            threads=threads,
            size=header.size,
            kv_bytes=header.kv_bytes,
            idle_seconds=settings.idle_seconds,
            linger_seconds=settings.linger_seconds,
            start_seconds=settings.start_seconds,
            health_seconds=settings.health_seconds,
            log_bytes=settings.log_bytes,
        )


class _NotSent(Exception):
    """The server was gone before the request reached it: asking once more costs nothing."""

    def __init__(self, cause: ModelError) -> None:
        super().__init__(cause)
        self.cause = cause


async def _close_unused(speakers: dict[str, _Speaker]) -> None:
    """All but the newest, which is that of the server that is there."""
    for generation in list(speakers)[:-1]:
        if not speakers[generation].users:
            await speakers.pop(generation).model.close()


def _installed() -> str:
    try:
        return importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(
            "xllamacpp, which runs models on this machine, is not installed",
            next="pip install 'manyhands[local]'",
        ) from error


def _identity(path: Path) -> list[list[int]]:
    """The same file by whichever path, and not a file that has taken its place."""
    found = [part.stat() for part in parts_of(path)]
    return [[s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns] for s in found]
