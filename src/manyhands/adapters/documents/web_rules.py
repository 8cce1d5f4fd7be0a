"""Which URLs may be asked for, and which addresses may be connected to.

Invariants: a host that no pattern names is never asked; an address that is not on the public
internet is connected to only where a person named it, or said `allow_private`. The check is on the
addresses that the connector is given, so a name that resolves differently the next time gains
nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from manyhands.errors import ConfigError, FetchError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LONGEST_URL = 4_000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Public by its number, and a cloud's inside all the same.
_INSIDE = frozenset({ipaddress.ip_address("168.63.129.16")})
_NEXT = "add the host to the list of allowed hosts, or answer from other sources"


@dataclass(frozen=True, slots=True)
class _Pattern:
    host: str
    port: int | None
    below: bool

    def covers(self, host: str, port: int | None, usual: bool) -> bool:
        if port != self.port and not (self.port is None and usual):
            return False
        if self.below:
            return host.endswith("." + self.host) and _address(host) is None
        return host == self.host


class Rules:
    """``allow``: ``docs.python.org``, ``*.example.org`` (below it, not itself),
    ``localhost:8080``. Without a port, the scheme's own: 80, 443.

    An IP address or ``localhost`` in the list is allowed to be what it is; other names must not
    resolve to a private address unless ``allow_private``.
    """

    def __init__(self, allow: Sequence[str], *, allow_private: bool = False) -> None:
        self._patterns = [_pattern(text) for text in allow]
        self._private = allow_private
        self._named = {each.host for each in self._patterns if _is_local_name(each.host)}
        self.shown = ", ".join(allow) or "none"

    def url(self, text: str) -> URL:
        """The URL, checked; without its fragment. Raises `FetchError`."""
        text = text.strip()
        shown = repr(text if len(text) <= 200 else text[:200] + "…")
        if len(text) > LONGEST_URL or not text.isprintable() or " " in text:
            raise FetchError(
                f"URL {shown} holds spaces or controls, or more than {LONGEST_URL} characters",
                next="give one URL, as http(s)://host/path",
            )
        try:
            url = URL(text)
            host, port = url.raw_host, url.port
        except ValueError as error:
            raise FetchError(
                f"URL {shown} cannot be read: {error}", next="give it as http(s)://host/path"
            ) from None
        if url.scheme not in ("http", "https") or not host:
            raise FetchError(
                f"URL {shown} is not http(s)://host/path", next="only web pages can be read"
            )
        if url.raw_user is not None or url.raw_password is not None:
            raise FetchError(
                f"URL at {host} holds a user name or a password", next="give it without them"
            )
        if not self._covers(_bare(host), port, url.is_default_port()):
            raise FetchError(
                f"host {url.host_port_subcomponent} is not allowed; allowed: {self.shown}",
                next=_NEXT,
            )
        return url.with_fragment(None)

    def _covers(self, host: str, port: int | None, usual: bool) -> bool:
        return any(pattern.covers(host, port, usual) for pattern in self._patterns)

    def address(self, host: str, address: str) -> None:
        """Raises `FetchError` where ``host`` must not be at ``address``."""
        if self._private or _bare(host) in self._named or is_public(address):
            return
        raise FetchError(
            f"host {host} is at {address}, which is not on the public internet",
            next="if that is meant, put the address itself on the list of allowed hosts, or set "
            "allow_private",
        )


class GuardedResolver(AbstractResolver):
    """What the connector connects to is what this returns, and nothing else."""

    def __init__(self, rules: Rules, inner: AbstractResolver) -> None:
        self._rules = rules
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for each in found:
            self._rules.address(host, each["host"])
        return found

    async def close(self) -> None:
        await self._inner.close()


def is_public(text: str) -> bool:
    address = _address(text)
    if address is None:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inside(address)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast and address not in _INSIDE


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _is_local_name(host: str) -> bool:
    return host == "localhost" or _address(host) is not None


def _bare(host: str) -> str:
    return host.rstrip(".").lower()


def _pattern(text: str) -> _Pattern:
    below = text.startswith("*.")
    try:
        url = URL("http://" + text.removeprefix("*."))
        host, port = url.raw_host, url.explicit_port
        plain = url == url.origin() and url.raw_user is None and "*" not in text[2 * below :]
    except ValueError:
        host, port, plain = None, None, False
    if not host or not plain or "/" in text or not text.isprintable() or " " in text:
        raise ConfigError(
            f"allowed host {text!r} is no host",
            next="give docs.python.org, *.example.org or localhost:8080, without http://",
        )
    return _Pattern(_bare(host), port, below)
