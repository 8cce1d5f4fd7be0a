"""An answer's body, decompressed, up to a size.

Invariant: never more than ``most`` bytes and one chunk are held, whatever was sent: a bomb ends at
the limit and not in memory.
"""

from __future__ import annotations

import zlib
from typing import Protocol

import aiohttp

from manyhands.errors import FetchError

_CHUNK = 64 * 1024
#: What is asked for. Others would need packages, and are a waste for a page.
ENCODINGS = "gzip, deflate"


class _Decoder(Protocol):
    def feed(self, data: bytes, most: int) -> bytes:
        """Not more than ``most`` bytes; what is beyond them may be lost."""
        ...

    @property
    def whole(self) -> bool: ...


class _Identity:
    whole = True

    def feed(self, data: bytes, most: int) -> bytes:
        return data[:most]


class _Zlib:
    """gzip (also several in a row), and both things that are called deflate."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._begun = False

    def feed(self, data: bytes, most: int) -> bytes:
        found = bytearray()
        while data and len(found) < most:
            found += self._step(data, most - len(found))
            data = self._inner.unconsumed_tail or self._inner.unused_data
            if self._inner.eof and data:
                if not data.startswith(b"\x1f\x8b"):
                    break  # padding behind the end
                self._inner = zlib.decompressobj(zlib.MAX_WBITS | 32)
        return bytes(found)

    def _step(self, data: bytes, most: int) -> bytes:
        try:
            found = self._inner.decompress(data, most)
        except zlib.error:
            if self._begun:
                raise
            self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
            found = self._inner.decompress(data, most)
        self._begun = True
        return found

    @property
    def whole(self) -> bool:
        return self._inner.eof or not self._begun


async def read_body(response: aiohttp.ClientResponse, most: int, *, cut: bool = False) -> bytes:
    """Raises `FetchError` beyond ``most`` bytes, or with ``cut`` returns the first of them."""
    where = str(response.url)
    said = response.content_length
    if said is not None and said > most and not cut:
        raise _too_large(where, f"{said:,} bytes", most)
    decoder = _decoder(response, where)
    found = bytearray()
    try:
        async for chunk in response.content.iter_chunked(_CHUNK):
            found += decoder.feed(chunk, most + 1 - len(found))
            if len(found) > most:
                if cut:
                    return bytes(found[:most])
                raise _too_large(where, f"more than {most:,} bytes", most)
    except zlib.error as error:
        raise FetchError(f"{where}: its compressed body is damaged: {error}", next=_OTHER) from None
    if not decoder.whole:
        raise FetchError(f"{where}: its compressed body is cut short", next=_OTHER)
    return bytes(found)


_OTHER = "try again later, or answer from other sources"


def _decoder(response: aiohttp.ClientResponse, where: str) -> _Decoder:
    said = response.headers.get("Content-Encoding", "identity").strip().lower()
    if said in ("identity", ""):
        return _Identity()
    if said in ("gzip", "x-gzip", "deflate"):
        return _Zlib()
    raise FetchError(
        f"{where}: its encoding is {said[:80]!r}; asked for was {ENCODINGS}", next=_OTHER
    )


def _too_large(where: str, size: str, most: int) -> FetchError:
    return FetchError(
        f"{where}: {size}; the limit is {most:,}",
        next="read a smaller page, such as a chapter of it, or raise most_bytes",
    )
