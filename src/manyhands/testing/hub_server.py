"""A server that speaks the part of the Hugging Face Hub's HTTP API that Manyhands uses: here its
papers. Select it with ``HF_ENDPOINT``.

Invariant: what it is told to do wrong, it does wrong as often as it is told, and then answers well.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, unquote, urlsplit

from manyhands.testing.check_papers import PlayedPaper

#: The token that is good here, and the one that has expired.
TOKEN = "hf_good_token_of_the_tests"
EXPIRED = "hf_expired_token_of_the_tests"
USER = "tester"


@dataclass(slots=True)
class Wrong:
    """What goes wrong at requests (``GET /api/…``) that hold ``path``, ``times`` times. ``kind``: a
    status, or "junk" (200, and no JSON), "hang" (``seconds``), "drip" (a byte now and then),
    "flood" (no end), "drop" (no answer), "cut" (half of one), "late" (the work is done, the answer
    does not come)."""

    path: str
    kind: str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict[str, str])
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


class HubServer:
    """``with HubServer(papers) as hub: … hub.url``. ``asked``: every request, in order."""

    def __init__(self, papers: Sequence[PlayedPaper] = (), *, padding: int = 0, port: int = 0):
        """``padding``: characters that are added to each abstract."""
        self.papers = {paper.id: paper for paper in papers}
        self.padding = padding
        self.asked: list[Asked] = []
        self.wrong: list[Wrong] = []
        self.lock = threading.RLock()
        self.closing = threading.Event()
        server = self

        class Handler(_Handler):
            hub: ClassVar[HubServer] = server

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    def go_wrong(self, path: str, kind: str, times: int = 1, **more: Any) -> None:
        with self.lock:
            self.wrong.append(Wrong(path, kind, times, **more))

    def paths(self) -> list[str]:
        return [each.path for each in self.asked]

    def next_wrong(self, path: str) -> Wrong | None:
        with self.lock:
            for wrong in self.wrong:
                if wrong.times and wrong.path in path:
                    wrong.times -= 1
                    return wrong
        return None

    # ---------------------------------------------------------------- routes

    def answer(self, asked: Asked, reply: Reply) -> None:
        """Extended by servers that know more of the API."""
        parts = [unquote(part) for part in asked.path.strip("/").split("/")]
        match (asked.method, parts):
            case ("GET", ["api", "papers", "search"]):
                query = asked.query.get("q", [""])[0]
                limit = int(asked.query.get("limit", ["120"])[0])
                if len(query) > 250 or not 1 <= limit <= 120:
                    reply.json({"error": "Invalid query"}, 400)
                    return
                reply.json(
                    [{"paper": self._paper(p), **self._said(p)} for p in self._find(query)][:limit]
                )
            case ("GET", ["api", "papers", id]) if id in self.papers:
                reply.json(self._paper(self.papers[id]))
            case ("GET", ["papers", name]) if name.removesuffix(".md") in self.papers:
                reply.text(self.papers[name.removesuffix(".md")].text, "text/markdown")
            case ("GET", ["api", "whoami-v2"]):
                reply.json({"type": "user", "id": "0" * 24, "name": USER, "orgs": []})
            case _:
                reply.json({"error": "Not Found"}, 404)

    def _find(self, query: str) -> list[PlayedPaper]:
        words = {w.strip('"*').lower() for w in query.split() if len(w) > 3}
        scores = [
            (sum(w in f"{p.title} {p.abstract} {p.text}".lower() for w in words), p)
            for p in self.papers.values()
        ]
        return [p for score, p in sorted(scores, key=lambda s: -s[0]) if score]

    def _paper(self, paper: PlayedPaper) -> dict[str, Any]:
        """As the Hub writes it in a search, under ``paper``, and alone in ``/api/papers/<id>``."""
        return {
            "id": paper.id,
            "authors": [{"_id": "0" * 24, "name": n, "hidden": False} for n in paper.authors],
            "publishedAt": f"{paper.date}T12:00:00.000Z",
            "upvotes": 3,
            **self._said(paper),
        }

    def _said(self, paper: PlayedPaper) -> dict[str, Any]:
        return {"title": paper.title, "summary": paper.abstract + " x" * (self.padding // 2)}


class Reply:
    """How a route answers."""

    def __init__(self, handler: _Handler, *, lost: bool = False) -> None:
        self._handler = handler
        self._lost = lost

    def json(self, value: object, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def text(self, text: str, media_type: str = "text/plain") -> None:
        self._send(text.encode("utf-8", "surrogatepass"), f"{media_type}; charset=utf-8", 200)

    def _send(self, body: bytes, media_type: str, status: int) -> None:
        if self._lost:
            self._handler.close_connection = True
            return
        self._handler.begin(status, {"Content-Type": media_type, "Content-Length": str(len(body))})
        self._handler.wfile.write(body)

    def events(self) -> Events:
        """A stream of server-sent events."""
        self._handler.begin(200, {"Content-Type": "text/event-stream", "Connection": "close"})
        self._handler.close_connection = True
        return Events(self._handler)


class Events:
    def __init__(self, handler: _Handler) -> None:
        self._handler = handler

    def send(self, value: object) -> None:
        self._handler.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
        self._handler.wfile.flush()

    def keep_alive(self) -> None:
        self._handler.wfile.write(b": keep-alive\n\n")
        self._handler.wfile.flush()


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[HubServer]
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: object) -> None: ...

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def do_PUT(self) -> None:
        self._do()

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _do(self) -> None:
        url = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(raw) if raw else None
        asked = Asked(self.command, url.path, parse_qs(url.query), dict(self.headers), body)
        with self.hub.lock:
            self.hub.asked.append(asked)
        wrong = self.hub.next_wrong(f"{self.command} {url.path}")
        if wrong is not None and wrong.kind != "late":
            self._wrong(wrong)
            return
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given == EXPIRED or (not given and "/papers" not in url.path):
            Reply(self).json({"error": "User Access Token is expired"}, 401)
            return
        self.hub.answer(asked, Reply(self, lost=wrong is not None))

    def _wrong(self, wrong: Wrong) -> None:
        self.close_connection = True
        if wrong.kind.isdigit():
            body = json.dumps({"error": f"wrong as told: {wrong.kind}"}).encode()
            sized = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            self.begin(int(wrong.kind), sized | wrong.headers)
            self.wfile.write(body)
        elif wrong.kind == "junk":
            self.begin(200, {"Content-Type": "application/json", "Content-Length": "9"})
            self.wfile.write(b"<html>{[(")
        elif wrong.kind == "hang":
            self.hub.closing.wait(wrong.seconds)
        elif wrong.kind == "cut":
            self.begin(200, {"Content-Type": "application/json", "Content-Length": "900"})
            self.wfile.write(b'[{"paper": ')
        elif wrong.kind in ("drip", "flood"):
            self._pour(wrong)

    def _pour(self, wrong: Wrong) -> None:
        self.begin(200, {"Content-Type": "application/json", "Connection": "close"})
        until = time.monotonic() + wrong.seconds
        chunk, pause = (b" ", 0.05) if wrong.kind == "drip" else (b" " * 65536, 0.0)
        while time.monotonic() < until and not self.hub.closing.is_set():
            self.wfile.write(chunk)
            if pause:
                time.sleep(pause)
