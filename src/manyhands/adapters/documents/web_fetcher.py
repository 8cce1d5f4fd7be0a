"""`WebFetcher`: web pages within an allow-list, as readable text.

Invariants: every hop of a redirect passes the same checks as the first; a fetch ends by its
deadline, whatever drips; no cookie, no key and no proxy of the environment goes out. Everything
that goes wrong is a `FetchError`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from manyhands import __version__
from manyhands.adapters.documents.extras import need
from manyhands.adapters.documents.html import html_to_text
from manyhands.adapters.documents.pdf import pdf_pages
from manyhands.adapters.documents.text import Unreadable, decode, one_line
from manyhands.adapters.documents.web_body import ENCODINGS, read_body
from manyhands.adapters.documents.web_robots import MOST_BYTES, PRODUCT, Robots
from manyhands.adapters.documents.web_rules import GuardedResolver, Rules
from manyhands.errors import ConfigError, FetchError
from manyhands.ports import Page

_HTML = ("text/html", "application/xhtml+xml")
_OTHER = ("application/json", "application/pdf")
_ACCEPT = "text/html, application/xhtml+xml, text/*;q=0.9, application/json, application/pdf;q=0.8"
_MOVED = frozenset({301, 302, 303, 307, 308})
_LATER = "try again later, or answer from other sources"


class WebFetcher:
    """``allow``: hosts, as `Rules` describes them; an empty list allows nothing.

    ``seconds``: for a whole fetch, with robots.txt, redirects and reading. ``most_bytes``: of a
    page, decompressed. ``concurrency``: connections at once. ``resolver``: of names; the checks on
    addresses are made on what it gives.
    """

    def __init__(
        self,
        allow: Sequence[str],
        *,
        allow_private: bool = False,
        seconds: float = 20.0,
        most_bytes: int = 2_000_000,
        redirects: int = 5,
        concurrency: int = 8,
        resolver: AbstractResolver | None = None,
    ) -> None:
        if not 0 < seconds < float("inf") or most_bytes < 1 or redirects < 0 or concurrency < 1:
            raise ConfigError(
                f"seconds={seconds}, most_bytes={most_bytes}, redirects={redirects}, "
                f"concurrency={concurrency}: must be positive, and seconds finite",
                next="leave them out for 20 s, 2 MB, 5 redirects, 8 connections",
            )
        need("selectolax.lexbor", "HTML")  # now, rather than after the first page has come
        self._rules = Rules(allow, allow_private=allow_private)
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._redirects = redirects
        self._concurrency = concurrency
        self._resolver = resolver
        self._robots = Robots(self._robots_text)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"WebFetcher({self._rules.shown!r})"

    async def fetch(self, url: str) -> Page:
        try:
            async with asyncio.timeout(self._seconds):
                self._open_session()
                return await self._fetch(self._rules.url(url))
        except TimeoutError:
            late = FetchError(
                f"{url}: not read within {self._seconds:g} s",
                next="try again later, read a smaller page, or raise the limit",
            )
            late.retryable = True
            raise late from None

    async def close(self) -> None:
        """Close the connections; a later fetch opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # ---------------------------------------------------------------- asking

    async def _fetch(self, url: URL) -> Page:
        until = time.monotonic() + self._seconds
        async with self._reached(url, polite=True) as response:
            if response.status != 200:
                raise _refused(response)
            media, charset = _media_type(response)
            data = await read_body(response, self._most_bytes)
            at = str(response.url.with_fragment(None))
        try:
            # In a thread: it may take a while. One that is left behind ends by `until`.
            title, text = await asyncio.to_thread(_readable, data, media, charset, until)
        except Unreadable as error:
            raise FetchError(f"{at}: {error}", next="answer from other sources") from None
        return Page(at, title or _name(at), text, media)

    async def _robots_text(self, url: URL) -> tuple[int, str]:
        async with self._reached(url, polite=False) as response:
            if response.status != 200:
                return response.status, ""
            data = await read_body(response, MOST_BYTES, cut=True)
            return 200, data.decode("utf-8", "replace")

    @asynccontextmanager
    async def _reached(self, url: URL, *, polite: bool) -> AsyncGenerator[aiohttp.ClientResponse]:
        """The answer at the end of the redirects. ``polite``: robots.txt is asked first."""
        begun, hops = url, 0
        while True:
            if polite:
                await self._robots.check(url)
            async with self._get(url) as response:
                target = response.headers.get("Location")
                if response.status not in _MOVED or target is None:
                    yield response
                    return
            hops += 1
            if hops > self._redirects:
                raise FetchError(
                    f"{begun} was redirected more than {self._redirects} times, the limit; "
                    f"the last time to {target[:200]!r}",
                    next="give the page's own URL",
                )
            url = self._rules.url(_joined(url, target))

    @asynccontextmanager
    async def _get(self, url: URL) -> AsyncGenerator[aiohttp.ClientResponse]:
        """One request, its failures translated; also those that come while its body is read."""
        try:
            async with self._open_session().get(url, allow_redirects=False) as response:
                yield response
        except aiohttp.ClientConnectorError as error:
            raise _lost(url, f"no connection: {error.strerror or error}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _lost(url, f"{type(error).__name__}: {error}") from None

    def _open_session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            self._loop = loop
            self._robots = Robots(self._robots_text)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=GuardedResolver(
                        self._rules, self._resolver or aiohttp.ThreadedResolver()
                    ),
                    use_dns_cache=False,
                    limit=self._concurrency,
                ),
                # The deadline is that of the whole fetch.
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers={
                    "User-Agent": f"{PRODUCT}/{__version__}",
                    "Accept": _ACCEPT,
                    "Accept-Encoding": ENCODINGS,
                },
            )
        return self._session


def _joined(url: URL, target: str) -> str:
    try:
        return str(url.join(URL(target)))
    except ValueError:
        raise FetchError(
            f"{url} redirects to {target[:200]!r}, which is no URL", next=_LATER
        ) from None


def _media_type(response: aiohttp.ClientResponse) -> tuple[str, str | None]:
    """Raises `FetchError` for what is not read."""
    said = response.headers.get("Content-Type", "")
    media = said.partition(";")[0].strip().lower()
    if not (media.startswith("text/") or media in (*_HTML, *_OTHER)):
        raise FetchError(
            f"{response.url} is {media[:80] or 'of no type'}; read are HTML, text, JSON and PDF",
            next="look for a page that holds the same as text",
        )
    return media, response.charset


def _readable(data: bytes, media: str, charset: str | None, until: float) -> tuple[str, str]:
    """Title and text."""
    if media == "application/pdf":
        title, pages = pdf_pages(data, most_text=5 * len(data) + 100_000, until=until)
        return title, "\n\n".join(f"## Page {n}\n\n{text}" for n, text in enumerate(pages, 1))
    if media in _HTML:
        return html_to_text(data, charset)
    return "", decode(data, charset)


def _name(url: str) -> str:
    found = URL(url)
    return one_line(found.name or found.host or url)


def _refused(response: aiohttp.ClientResponse) -> FetchError:
    status = response.status
    gone = status in (404, 410)
    failure = FetchError(
        f"{response.url}: status {status} {one_line(response.reason or '', 60)}".rstrip(),
        next="check the URL, or search for the page under another one" if gone else _LATER,
    )
    failure.retryable = status >= 500 or status == 429
    return failure


def _lost(url: URL, why: str) -> FetchError:
    failure = FetchError(f"{url}: {one_line(why)}", next="check the URL, or try again later")
    failure.retryable = True
    return failure
