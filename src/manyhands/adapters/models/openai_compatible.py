"""Any server that speaks OpenAI's chat completions: a ready body over raw HTTP.

Invariants: messages are joined as the bytes that they came in, never encoded again; no request
outlives its deadlines, however slowly its answer drips; an answer is read up to a size and no
further; the key is in the request's header and nowhere else: a server that repeats it, in an error
or in an answer, is not quoted.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiohttp
from pydantic import SecretStr
from yarl import URL

from manyhands.adapters.models.chat_reply import (
    Lines,
    Speaker,
    StreamedReply,
    failure,
    parse_reply,
    redacted,
)
from manyhands.errors import ConfigError, ModelError, ModelMalformed, ModelTimeout, ModelUnreachable
from manyhands.ports import ModelReply, ModelRequest, Price
from manyhands.redaction import Pieces, Redactor, is_secret

#: How a server takes a JSON schema for the answer: OpenAI's form, JSON without it, or not at all.
SchemaForm = Literal["json_schema", "json_object", "none"]

_CHUNK = 64 * 1024
#: What a request sets itself.
_OURS = frozenset({"model", "messages", "tools", "tool_choice", "max_tokens", "stream"})


class OpenAICompatibleModel:
    """The model ``name`` behind ``base_url`` (which ends in ``/v1``, as a rule).

    ``price``: None is unknown; give ``Price(0, 0)`` for one that costs nothing. ``concurrency``:
    requests at once from this object; others wait, which counts against no deadline.
    ``connect_seconds``: until a connection stands. ``most_bytes``: of one answer. ``schema_form``:
    how a response schema is sent. ``stream_usage`` False: do not ask for the usage of a streamed
    answer (some servers refuse to be asked). ``extra``: further fields of every request, such as
    ``{"top_p": 0.9}``.

    A request is streamed where ``on_text`` is given, or ``always_stream`` set. Only then does its
    ``first_token_seconds`` and ``idle_seconds`` count: an answer in one piece has no first token
    before its last, and a server that hangs is noticed when the request's ``seconds`` are over.
    Streaming costs CPU for every token.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        api_key: SecretStr | None = None,
        price: Price | None = None,
        context_length: int | None = None,
        concurrency: int = 16,
        connect_seconds: float = 10.0,
        most_bytes: int = 16 * 1024 * 1024,
        schema_form: SchemaForm = "json_schema",
        stream_usage: bool = True,
        always_stream: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.price = price
        self.context_length = context_length
        base = _checked_url(base_url)
        self._url = (base / "chat" / "completions").with_query(base.query)
        self._key = _checked_key(name, api_key)
        self._concurrency = concurrency
        self._connect_seconds = connect_seconds
        self._most_bytes = most_bytes
        self._schema_form = schema_form
        self._stream_usage = stream_usage
        self._always_stream = always_stream
        self._head = b'{"model":' + _encode(name)
        self._extra = _checked_extra(extra or {})
        shown = str(self._url.with_query(None))
        secret = api_key.get_secret_value() if api_key else ""
        self._speaker = Speaker(name, shown, Redactor([secret]))
        # Out of answers goes only what can be told from a word: a local server's key may be one.
        self._secrets = Redactor([secret] if is_secret(secret) else [])
        #: For requests in one piece, and for streamed ones.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._slots = asyncio.Semaphore(concurrency)
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"OpenAICompatibleModel({self.name!r}, {self._speaker.url!r})"

    async def request(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """One request; streamed if ``on_text`` is given. Raises `ModelError` and its children.

        When a streamed request fails, ``on_text`` may have had pieces of an answer that is not one.
        """
        stream = on_text is not None or self._always_stream
        pieces = Pieces(self._secrets, on_text) if on_text and self._secrets else on_text
        reply = redacted(await self._send(request, stream, pieces), self._secrets)
        if isinstance(pieces, Pieces):
            pieces.end()
        return reply

    async def _send(
        self, request: ModelRequest, stream: bool, on_text: Callable[[str], None] | None
    ) -> ModelReply:
        body = self._body(request, stream=stream)
        async with self._slot(stream) as session, _translated(self._speaker, request):
            begun = time.monotonic()
            async with (
                asyncio.timeout(request.seconds),
                _patience(request, stream) as patience,
                self._post(session, body) as response,
            ):
                if response.status != 200:
                    said = await self._read(response)
                    raise failure(self._speaker, response.status, response.headers, said)
                if not stream:
                    said = await self._read(response)
                    return parse_reply(self._speaker, said, time.monotonic() - begun)
                return await self._stream(response, on_text, begun, patience)

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    # ---------------------------------------------------------------- sending

    @asynccontextmanager
    async def _slot(self, stream: bool) -> AsyncGenerator[aiohttp.ClientSession]:
        """A connection that streamed is not used again: llama.cpp's server hangs up then without a
        word, and the next request would be lost on its way."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # A session and a semaphore belong to one loop; that of an earlier one is over.
            self._sessions, self._loop = {}, loop
            self._slots = asyncio.Semaphore(self._concurrency)
        async with self._slots:
            session = self._sessions.get(stream)
            if session is None or session.closed:
                session = self._sessions[stream] = aiohttp.ClientSession(
                    # uvicorn and llama.cpp close a connection that is idle for 5 s.
                    connector=aiohttp.TCPConnector(limit=0, force_close=True)
                    if stream
                    else aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0),
                    timeout=aiohttp.ClientTimeout(
                        total=None, connect=self._connect_seconds, sock_read=None
                    ),
                    cookie_jar=aiohttp.DummyCookieJar(),
                )
            yield session

    def _post(self, session: aiohttp.ClientSession, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        # No redirects: the key goes to the host that it is for.
        return session.post(self._url, data=body, headers=headers, allow_redirects=False)

    def _body(self, request: ModelRequest, *, stream: bool) -> bytes:
        parts = [self._head, _field("messages", _list(request.messages))]
        if request.tools:
            parts.append(_field("tools", _list(request.tools)))
        if request.tools and request.tool_choice is not None:
            parts.append(_field("tool_choice", _tool_choice(request.tool_choice)))
        parts.append(_field("max_tokens", _encode(request.max_tokens)))
        if request.temperature is not None:
            parts.append(_field("temperature", _encode(request.temperature)))
        if request.seed is not None:
            parts.append(_field("seed", _encode(request.seed)))
        if request.response_schema is not None and self._schema_form != "none":
            parts.append(_field("response_format", self._format(request.response_schema)))
        if stream:
            parts.append(_field("stream", b"true"))
        if stream and self._stream_usage:
            parts.append(_field("stream_options", b'{"include_usage":true}'))
        return b"".join([*parts, self._extra, b"}"])

    def _format(self, schema: bytes) -> bytes:
        if self._schema_form == "json_object":
            return b'{"type":"json_object"}'
        return b'{"type":"json_schema","json_schema":{"name":"answer","schema":' + schema + b"}}"

    # ---------------------------------------------------------------- receiving

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        found = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            found += chunk
            self._check_size(len(found))
        return bytes(found)

    def _check_size(self, size: int) -> None:
        if size > self._most_bytes:
            raise ModelMalformed(
                f"model {self.name} at {self._speaker.url}: an answer of more than "
                f"{self._most_bytes} bytes",
                next="lower max_tokens, or raise most_bytes",
            )

    async def _stream(
        self,
        response: aiohttp.ClientResponse,
        on_text: Callable[[str], None] | None,
        begun: float,
        patience: _Patience,
    ) -> ModelReply:
        lines, reply, raw = Lines(), StreamedReply(self._speaker, on_text), bytearray()
        first: float | None = None
        async for chunk in response.content.iter_any():
            raw += chunk
            self._check_size(len(raw))
            heard = False
            for data in lines.feed(chunk):
                reply.take(data)
                heard = True
            if first is None and reply.begun:
                first = time.monotonic() - begun
            if heard and reply.begun:
                patience.heard()
            if reply.ended:
                break
        else:
            for data in lines.rest():
                reply.take(data)
        seconds = time.monotonic() - begun
        if not reply.begun and raw.lstrip().startswith(b"{"):  # it does not stream
            whole = parse_reply(self._speaker, bytes(raw), seconds, seconds)
            if on_text is not None and whole.text:
                on_text(whole.text)
            return whole
        return reply.reply(bytes(raw), seconds, first)


class _Silent(Exception):
    """The server kept the line open and said nothing (bytes that carry no event say nothing)."""


class _Patience:
    """How long a stream may say nothing: until its first piece, and between two of them."""

    def __init__(self, request: ModelRequest, timeout: asyncio.Timeout) -> None:
        self._request = request
        self._timeout = timeout
        self._begun = False

    def heard(self) -> None:
        self._begun = True
        idle = self._request.idle_seconds
        self._timeout.reschedule(asyncio.get_running_loop().time() + idle)

    @property
    def silence(self) -> _Silent:
        if self._begun:
            return _Silent(f"silent for {self._request.idle_seconds:g} s in mid-stream")
        return _Silent(f"no first token within {self._request.first_token_seconds:g} s")


@asynccontextmanager
async def _patience(request: ModelRequest, stream: bool) -> AsyncGenerator[_Patience]:
    timeout = asyncio.timeout(request.first_token_seconds if stream else None)
    patience = _Patience(request, timeout)
    try:
        async with timeout:
            yield patience
    except TimeoutError:
        if timeout.expired():
            raise patience.silence from None
        raise


@asynccontextmanager
async def _translated(speaker: Speaker, request: ModelRequest) -> AsyncGenerator[None]:
    """Everything that can go wrong on the way, as a `ModelError`."""
    where = f"model {speaker.name} at {speaker.url}"
    try:
        yield
    except ModelError:
        raise
    except aiohttp.ConnectionTimeoutError as error:
        late = ModelTimeout(
            f"{where}: no connection: {speaker.excerpt(str(error))}",
            next="check the URL and that the server runs",
        )
        late.may_have_spent = False
        raise late from None
    except _Silent as error:
        raise ModelTimeout(
            f"{where}: {error}",
            next="check the server's load, or raise first_token_seconds or idle_seconds",
        ) from None
    except TimeoutError:
        raise ModelTimeout(
            f"{where}: no whole answer within {request.seconds:g} s",
            next="ask for fewer tokens, or raise the request's seconds",
        ) from None
    except aiohttp.ClientConnectorError as error:
        raise ModelUnreachable(
            f"{where}: {speaker.excerpt(str(error))}",
            next="check the URL and that the server runs",
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        lost = ModelUnreachable(
            f"{where}: the connection was lost: {type(error).__name__} "
            f"{speaker.excerpt(str(error))}",
            next="read the server's log",
        )
        lost.may_have_spent = True
        raise lost from None


def _checked_url(base_url: str) -> URL:
    try:
        url = URL(base_url.rstrip("/"))
        fits = url.scheme in ("http", "https") and bool(url.host)
    except ValueError:
        fits, url = False, URL()
    if not fits:
        raise ConfigError(
            f"base URL {base_url!r} is not http(s)://host[:port]/path",
            next="give the server's URL up to and including /v1",
        )
    if url.user or url.password:
        raise ConfigError(
            f"the base URL of {url.host} holds a user name or a password",
            next="give the key as api_key; a URL ends up in messages",
        )
    return url.with_fragment(None)


def _checked_key(name: str, key: SecretStr | None) -> SecretStr | None:
    text = key.get_secret_value() if key is not None else ""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError(
            f"the API key of model {name} holds a space, a line end or no ASCII",
            next="give the key alone, without what surrounds it in its file",
        )
    return key


def _checked_extra(extra: Mapping[str, Any]) -> bytes:
    taken = sorted(_OURS & extra.keys())
    if taken:
        raise ConfigError(
            f"extra fields {', '.join(taken)} are set by each request itself",
            next="leave them out",
        )
    return b"".join(_field(key, _encode(value)) for key, value in extra.items())


def _tool_choice(choice: str) -> bytes:
    if choice in ("auto", "none", "required"):
        return _encode(choice)
    return _encode({"type": "function", "function": {"name": choice}})


def _encode(value: Any) -> bytes:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{value} cannot be sent to a model", next="give a finite number")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _field(name: str, value: bytes) -> bytes:
    return b"," + _encode(name) + b":" + value


def _list(items: Any) -> bytes:
    return b"[" + b",".join(items) + b"]"
