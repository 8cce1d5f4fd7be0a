"""`WebFetcher` against a real local server that redirects, drips, bombs and lies."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from manyhands.adapters.documents import web_rules
from manyhands.adapters.documents.web_fetcher import WebFetcher
from manyhands.adapters.documents.web_rules import Rules, is_public
from manyhands.errors import ConfigError, FetchError
from tests.pdfs import pdf

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PAGE = "<html><head><title>Tides</title></head><body><h2>Moon</h2><p>It pulls.</p></body></html>"


@dataclass
class Site:
    """A server on 127.0.0.1, and what was asked of it."""

    port: int = 0
    asked: list[web.Request] = field(default_factory=list)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.asked]


@asynccontextmanager
async def serving(**pages: Handler | web.Response) -> AsyncGenerator[Site]:
    """``page=…`` is served at ``/page``; what is not there is 404, robots.txt too."""
    site = Site()

    async def answer(request: web.Request) -> web.StreamResponse:
        site.asked.append(request)
        page = pages.get(request.path.strip("/").replace(".", "_"))
        if page is None:
            return web.Response(status=404)
        if isinstance(page, web.Response):
            return web.Response(status=page.status, body=page.body, headers=page.headers)
        return await page(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.port = runner.addresses[0][1]
    try:
        yield site
    finally:
        await runner.cleanup()


@asynccontextmanager
async def fetching(site: Site, *more: str, **settings: Any) -> AsyncGenerator[WebFetcher]:
    fetcher = WebFetcher([f"127.0.0.1:{site.port}", *more], **settings)
    try:
        yield fetcher
    finally:
        await fetcher.close()


class Names(AbstractResolver):
    """Every name is at the next of these addresses; the last one stays."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        at = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        kind = socket.AF_INET6 if ":" in at else socket.AF_INET
        return [ResolveResult(hostname=host, host=at, port=port, family=kind, proto=0, flags=0)]

    async def close(self) -> None: ...


def page(body: str | bytes, media: str = "text/html", **headers: str) -> web.Response:
    raw = body.encode() if isinstance(body, str) else body
    return web.Response(body=raw, headers={"Content-Type": media, **headers})


def to(target: str) -> Handler:
    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": target})

    return redirect


async def error_of(fetcher: WebFetcher, url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetcher.fetch(url)
    assert caught.value.next
    return caught.value


# ------------------------------------------------------------------ pages


async def test_a_page_becomes_text() -> None:
    async with serving(page=page(PAGE)) as site, fetching(site) as fetcher:
        found = await fetcher.fetch(site.url("/page#part"))
    assert (found.url, found.title) == (site.url("/page"), "Tides")
    assert (found.text, found.media_type) == ("## Moon\n\nIt pulls.", "text/html")
    sent = site.asked[-1].headers
    assert sent["User-Agent"].startswith("manyhands/")
    assert "Cookie" not in sent
    assert "Authorization" not in sent


async def test_other_types() -> None:
    pages = {
        "a": page('{"x": 1}', "application/json"),
        "b": page("Grüße".encode("latin-1"), "text/plain; charset=iso-8859-1"),
        "c": page(pdf("The moon.", title="Tides"), "application/pdf"),
        "d": page("# T", "text/markdown"),
    }
    async with serving(**pages) as site, fetching(site) as fetcher:
        assert (await fetcher.fetch(site.url("/a"))).text == '{"x": 1}'
        assert (await fetcher.fetch(site.url("/b"))).text == "Grüße"
        found = await fetcher.fetch(site.url("/c"))
        assert (found.title, found.text) == ("Tides", "## Page 1\n\nThe moon.")
        assert (await fetcher.fetch(site.url("/d"))).text == "# T"


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("image/png", b"x"),
        ("application/octet-stream", b"x"),
        ("", b"x"),
        ("text/plain", b"a\x00b"),
        ("application/pdf", b"no pdf"),
        ("text/html", b"<div>" * 6_000),
    ],
)
async def test_what_cannot_be_read_says_so(media: str, body: bytes) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={"Content-Type": media})

    async with serving(page=answer) as site, fetching(site) as fetcher:
        assert site.url("/page") in (await error_of(fetcher, site.url("/page"))).what


async def test_statuses() -> None:
    pages = {f"s{n}": web.Response(status=n) for n in (204, 301, 403, 410, 429, 500)}
    async with serving(**pages) as site, fetching(site) as fetcher:
        for status, again in ((403, False), (410, False), (429, True), (500, True), (204, False)):
            error = await error_of(fetcher, site.url(f"/s{status}"))
            assert f"status {status}" in error.what
            assert error.retryable is again
        assert "status 404" in (await error_of(fetcher, site.url("/none"))).what
        assert "status 301" in (await error_of(fetcher, site.url("/s301"))).what


async def test_nobody_listens() -> None:
    async with serving() as site:
        pass
    async with fetching(site) as fetcher:
        assert "no connection" in (await error_of(fetcher, site.url())).what


async def test_no_cookie_and_no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    set_cookie = page(PAGE, **{"Set-Cookie": "a=b"})
    async with serving(page=set_cookie) as site, fetching(site) as fetcher:
        await fetcher.fetch(site.url("/page"))
        await fetcher.fetch(site.url("/page"))
        assert "Cookie" not in site.asked[-1].headers


# ------------------------------------------------------------------ what is allowed


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://docs.python.org/", "file:///etc/passwd", "docs.python.org", "", "http://", "//x"),
        *("https://user:pw@docs.python.org/", "https://user@docs.python.org/"),
        *(
            "https://python.org/",
            "https://docs.python.org.evil.com/",
            "https://evildocs.python.org",
        ),
        *(
            "https://docs.python.org:8443/",
            "http://[::1]/",
            "http://127.0.0.1/",
            "http://2130706433/",
        ),
        *(
            "https://example.org/",
            "https://a.example.org:81/",
            "http://docs.python.org\\@evil.com/",
        ),
        *("http://evil.com#docs.python.org", "http://docs.python.org@evil.com/", "http://a b/"),
        *("http://docs.python.org:99999/", "https://x/" + "a" * 5_000),
        *("http://[", "http://127.0.0.1.example.org.evil/", "https://docs.python.org:0/"),
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        Rules(["docs.python.org", "*.example.org"]).url(url)
    assert caught.value.next


def test_urls_that_are_allowed() -> None:
    rules = Rules(["docs.python.org", "*.Example.org", "localhost:8080", "[::1]:81", "bücher.de"])
    for url in (
        *(
            "https://docs.python.org/3/#x",
            "http://DOCS.python.org.:80/",
            "https://a.b.example.org/",
        ),
        *(
            " https://docs.python.org/\n",
            "http://localhost:8080/",
            "http://[::1]:81/",
            "https://xn--bcher-kva.de/",
            "http://bücher.de",
        ),
    ):
        assert rules.url(url).fragment == ""


@pytest.mark.parametrize(
    "host", ["", "*", "*.", "http://x.org", "x.org/path", "a b", "u@x.org", "a.*.org", "x.org:y"]
)
def test_a_list_that_makes_no_sense(host: str) -> None:
    with pytest.raises(ConfigError, match="is no host"):
        Rules([host])


def test_settings_that_make_no_sense() -> None:
    for settings in ({"seconds": 0}, {"seconds": float("inf")}, {"most_bytes": 0}):
        with pytest.raises(ConfigError):
            WebFetcher(["x.org"], **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *(("93.184.216.34", True), ("2606:2800:220:1::1", True), ("64:ff9b::5db8:d822", True)),
        *(("127.0.0.1", False), ("0.0.0.0", False), ("10.1.2.3", False), ("172.16.0.1", False)),
        *(("192.168.1.1", False), ("169.254.169.254", False), ("100.100.100.200", False)),
        *(("168.63.129.16", False), ("224.0.0.1", False), ("255.255.255.255", False)),
        *(("::1", False), ("::", False), ("fe80::1%eth0", False), ("fd00:ec2::254", False)),
        *(("::ffff:127.0.0.1", False), ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False)),
        *(("ff02::1", False), ("no address", False)),
    ],
)
def test_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "10.0.0.1"])
async def test_a_name_of_a_private_address_is_not_connected_to(address: str) -> None:
    async with serving(page=page(PAGE)) as site:
        name = f"inside.example.org:{site.port}"
        async with fetching(site, name, resolver=Names(address)) as fetcher:
            error = await error_of(fetcher, f"http://{name}/page")
        assert "not on the public internet" in error.what
        assert site.asked == []
        async with fetching(site, name, resolver=Names("127.0.0.1"), allow_private=True) as fetcher:
            assert (await fetcher.fetch(f"http://{name}/page")).title == "Tides"


async def test_a_name_that_moves_inside_after_the_check_gains_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rebinding: public when it is looked up first, 127.0.0.1 when it is connected to."""
    # Nobody is at 192.0.2.1 (it is for documentation); here it passes for a public address.
    monkeypatch.setattr(web_rules, "is_public", lambda address: address == "192.0.2.1")
    async with serving(page=page(PAGE)) as site:
        name = f"rebind.example.org:{site.port}"
        resolver = Names("192.0.2.1", "127.0.0.1")
        for expected in ("", "is at 127.0.0.1"):  # a fetcher each: the first remembers its failure
            async with fetching(site, name, resolver=resolver, seconds=0.5) as fetcher:
                assert expected in (await error_of(fetcher, f"http://{name}/page")).what
            assert resolver.addresses == ["127.0.0.1"]
        assert site.asked == []


async def test_localhost_is_reached_where_it_is_named() -> None:
    async with serving(page=page(PAGE)) as site:
        async with fetching(site, resolver=Names("127.0.0.1")) as fetcher:
            await error_of(fetcher, site.url("/page", "localhost"))
        name = f"localhost:{site.port}"
        async with fetching(site, name, resolver=Names("127.0.0.1")) as fetcher:
            assert (await fetcher.fetch(site.url("/page", "localhost"))).title == "Tides"


# ------------------------------------------------------------------ redirects


async def test_redirects_are_followed_within_the_list() -> None:
    async with (
        serving(a=to("/b"), b=to("c?x=1#y"), c=page(PAGE)) as site,
        fetching(site) as fetcher,
    ):
        found = await fetcher.fetch(site.url("/a"))
    assert found.url == site.url("/c?x=1")


@pytest.mark.parametrize(
    "target",
    [
        *("http://evil.example.org/", "file:///etc/passwd", "http://127.0.0.1:1/", "http://[::1]/"),
        *("//evil.example.org/x", "http://u:p@127.0.0.1/", "http://[", "javascript:alert(1)"),
    ],
)
async def test_a_redirect_that_is_not_allowed(target: str) -> None:
    async with serving(a=to(target)) as site, fetching(site) as fetcher:
        await error_of(fetcher, site.url("/a"))
    assert site.paths == ["/robots.txt", "/a"]


async def test_a_redirect_to_a_private_name() -> None:
    async with serving(a=to("http://inside.example.org/")) as site:
        settings = {"resolver": Names("127.0.0.1")}
        async with fetching(site, "*.example.org", **settings) as fetcher:
            assert "public internet" in (await error_of(fetcher, site.url("/a"))).what


async def test_redirects_have_an_end() -> None:
    async with serving(a=to("/a")) as site, fetching(site) as fetcher:
        assert "more than 5 times" in (await error_of(fetcher, site.url("/a"))).what
    assert site.paths.count("/a") == 6


# ------------------------------------------------------------------ size and time


async def test_a_page_that_is_too_large_is_not_read() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    async with serving(said=page("x" * 2_000, "text/plain"), endless=endless) as site:
        async with fetching(site, most_bytes=1_000) as fetcher:
            assert (
                "2,000 bytes; the limit is 1,000"
                in (await error_of(fetcher, site.url("/said"))).what
            )
        async with fetching(site) as fetcher:
            error = await error_of(fetcher, site.url("/endless"))
            assert "more than 2,000,000 bytes" in error.what


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_ends_at_the_limit(encoding: str) -> None:
    zeros = b" " * 200_000_000
    bomb = gzip.compress(zeros, 9) if encoding == "gzip" else zlib.compress(zeros, 9)
    sent = page(bomb, "text/plain", **{"Content-Encoding": encoding})
    async with serving(bomb=sent) as site, fetching(site) as fetcher:
        assert "more than 2,000,000 bytes" in (await error_of(fetcher, site.url("/bomb"))).what


async def test_compressed_pages() -> None:
    raw = zlib.compressobj(wbits=-15)
    bodies = {
        "gzip": gzip.compress(PAGE.encode()),
        "two": gzip.compress(PAGE[:20].encode()) + gzip.compress(PAGE[20:].encode()),
        "zlib": zlib.compress(PAGE.encode()),
        "raw": raw.compress(PAGE.encode()) + raw.flush(),
    }
    pages = {
        name: page(body, **{"Content-Encoding": "deflate" if name in ("zlib", "raw") else "gzip"})
        for name, body in bodies.items()
    }
    pages["cut"] = page(bodies["gzip"][:-12], **{"Content-Encoding": "gzip"})
    pages["bad"] = page(b"\x1f\x8bno gzip", **{"Content-Encoding": "gzip"})
    pages["br"] = page(b"x", **{"Content-Encoding": "br"})
    async with serving(**pages) as site, fetching(site) as fetcher:
        for name in bodies:
            assert (await fetcher.fetch(site.url(f"/{name}"))).title == "Tides", name
        for name in ("cut", "bad", "br"):
            await error_of(fetcher, site.url(f"/{name}"))


async def test_a_drip_ends_at_the_deadline() -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    async with serving(drip=drip) as site, fetching(site, seconds=0.5) as fetcher:
        begun = time.monotonic()
        error = await error_of(fetcher, site.url("/drip"))
        assert "not read within 0.5 s" in error.what
        assert error.retryable
        assert time.monotonic() - begun < 10


async def test_a_cancelled_fetch_is_cancelled_and_the_next_one_works() -> None:
    begun = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        begun.set()
        await asyncio.sleep(3600)
        raise AssertionError

    async with serving(never=never, page=page(PAGE)) as site, fetching(site) as fetcher:
        task = asyncio.create_task(fetcher.fetch(site.url("/never")))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await fetcher.fetch(site.url("/page"))).title == "Tides"


def test_another_event_loop_and_after_a_close() -> None:
    async def once(fetcher: WebFetcher | None = None) -> WebFetcher:
        async with serving(page=page(PAGE)) as site:
            fetcher = fetcher or WebFetcher(["127.0.0.1"], allow_private=True)
            fetcher._rules = Rules([f"127.0.0.1:{site.port}"])
            for _ in range(2):
                assert (await fetcher.fetch(site.url("/page"))).title == "Tides"
                await fetcher.close()
        return fetcher

    asyncio.run(once(asyncio.run(once())))


# ------------------------------------------------------------------ robots.txt


async def test_a_page_that_robots_txt_closes_is_not_asked_for() -> None:
    rules = page(
        "User-agent: manyhands\nDisallow: /private\nUser-agent: *\nDisallow: /", "text/plain"
    )
    async with serving(robots_txt=rules, page=page(PAGE)) as site, fetching(site) as fetcher:
        for _ in range(2):
            assert "robots.txt" in (await error_of(fetcher, site.url("/private/x"))).what
        assert (await fetcher.fetch(site.url("/page"))).title == "Tides"
    assert site.paths == ["/robots.txt", "/page"], "asked for once"


async def test_a_redirect_into_what_robots_txt_closes() -> None:
    rules = page("User-agent: *\nDisallow: /private", "text/plain")
    async with serving(robots_txt=rules, a=to("/private")) as site, fetching(site) as fetcher:
        await error_of(fetcher, site.url("/a"))
    assert site.paths == ["/robots.txt", "/a"]


@pytest.mark.parametrize(
    ("status", "open_"), [(404, True), (403, True), (500, False), (429, False)]
)
async def test_robots_txt_that_is_not_there(status: int, open_: bool) -> None:
    rules = web.Response(status=status)
    async with serving(robots_txt=rules, page=page(PAGE)) as site, fetching(site) as fetcher:
        if open_:
            assert (await fetcher.fetch(site.url("/page"))).title == "Tides"
            return
        assert f"status {status}" in (await error_of(fetcher, site.url("/page"))).what
        await error_of(fetcher, site.url("/page"))
        assert site.paths == ["/robots.txt"], "it is let alone for a while"


async def test_a_huge_robots_txt_counts_up_to_its_limit() -> None:
    rules = page("User-agent: *\nDisallow: /private\n" + "# x\n" * 1_000_000, "text/plain")
    async with serving(robots_txt=rules, page=page(PAGE)) as site, fetching(site) as fetcher:
        assert (await fetcher.fetch(site.url("/page"))).title == "Tides"
        await error_of(fetcher, site.url("/private"))


async def test_many_fetches_at_once_ask_for_robots_txt_once() -> None:
    async with serving(page=page(PAGE)) as site, fetching(site) as fetcher:
        await asyncio.gather(*(fetcher.fetch(site.url("/page")) for _ in range(20)))
    assert site.paths.count("/robots.txt") == 1
