"""What a site's robots.txt says of us.

Invariant: a site is not asked for a page before its robots.txt was, or is known; one that cannot
tell (5xx, no answer) is left alone, one that has none (4xx) is open (RFC 9309).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yarl import URL

from manyhands.adapters.documents.extras import need
from manyhands.errors import FetchError

if TYPE_CHECKING:
    from protego import Protego

#: The name that a robots.txt would call us by.
PRODUCT = "manyhands"
#: Bytes of a robots.txt that count (RFC 9309 asks for 500 KiB at least).
MOST_BYTES = 512 * 1024
_KEPT_SECONDS = 3600.0
#: For how long a site that could not tell is not asked again.
_FAILED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Known:
    """``rules`` None: the site could not tell; ``why`` says so."""

    rules: Protego | None
    until: float
    why: str = ""


#: Fetches a URL: its status and its text. Raises `FetchError`.
Ask = Callable[[URL], Awaitable[tuple[int, str]]]


class Robots:
    """The rules of sites, each asked for once an hour."""

    def __init__(self, ask: Ask, now: Callable[[], float] = time.monotonic) -> None:
        self._protego: type[Protego] = need("protego", "robots.txt").Protego
        self._ask = ask
        self._now = now
        self._known: dict[URL, _Known] = {}
        self._locks: dict[URL, asyncio.Lock] = {}

    async def check(self, url: URL) -> None:
        """Raises `FetchError` where the page is not for us."""
        site = url.origin()
        async with self._locks.setdefault(site, asyncio.Lock()):
            known = self._known.get(site)
            if known is None or known.until < self._now():
                known = self._known[site] = await self._learn(site)
        if known.rules is None:
            raise FetchError(
                f"{site}/robots.txt cannot be read, so {url} is not: {known.why}",
                next="try again in a minute, or answer from other sources",
            )
        if not known.rules.can_fetch(str(url), PRODUCT):
            raise FetchError(
                f"{url} is closed to programs by {site}/robots.txt",
                next="answer from other sources; a person may read it and add its text",
            )

    async def _learn(self, site: URL) -> _Known:
        try:
            status, text = await self._ask(site / "robots.txt")
        except FetchError as error:
            return _Known(None, self._now() + _FAILED_SECONDS, error.what)
        if 400 <= status < 500 and status != 429:
            text = ""
        elif status != 200:
            return _Known(None, self._now() + _FAILED_SECONDS, f"status {status}")
        return _Known(self._protego.parse(text), self._now() + _KEPT_SECONDS)
