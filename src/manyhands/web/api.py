"""What can be asked over HTTP: runs, their events, contents piece by piece, and exports.

Invariant: an answer is bounded by its ``most`` (events and exports are streamed), and contents go
out as plain bytes that no browser interprets.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from manyhands.errors import ConfigError, LeaseHeld, LeaseLost, ManyhandsError, RunNotFound
from manyhands.runtime import Runtime
from manyhands.runtime.transfer import export_lines
from manyhands.web.asked import number
from manyhands.web.description import description
from manyhands.web.orders import Orders
from manyhands.web.page import asset, html_pieces, index
from manyhands.web.stream import is_held, messages
from manyhands.web.wire import content_of

#: Bytes of one piece of content: asked for by default, and at most.
PIECE, MOST = 65_536, 1_048_576
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


class Api:
    """``runtime``: of the one journal that is served. It drives nothing."""

    def __init__(self, runtime: Runtime) -> None:
        self._reader = self._runtime = runtime

    def app(self) -> Starlette:
        run = "/api/runs/{run_id:path}"
        return Starlette(
            routes=[
                Route("/", self.index),
                Route("/assets/{name}", self.asset),
                Route("/api/runs", self.runs),
                Route(f"{run}/events/{{seq:int}}/{{part}}", self.content),
                Route(f"{run}/events", self.events),
                Route(f"{run}/export", self.export),
                Route("/api/blobs/{name}", self.blob),
                Route("/api/openapi.json", self.description),
                *Orders(self._runtime).routes(run),
            ],
            exception_handlers={ManyhandsError: _failed, HTTPException: _wrong},
        )

    def description(self, request: Request) -> Response:
        return JSONResponse(description())

    def index(self, request: Request) -> Response:
        return Response(index(), media_type="text/html")

    def asset(self, request: Request) -> Response:
        found = asset(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "there is no such file")
        content, kind = found
        return Response(content, media_type=kind)

    def runs(self, request: Request) -> Response:
        return JSONResponse([asdict(info) for info in self._reader.runs()])

    async def events(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        is_held(self._reader, run_id)  # raises before anything is sent
        given = request.headers.get("last-event-id") or request.query_params.get("after", "0")
        after = number(given, 0, 2**53)
        follow = request.query_params.get("follow", "1") != "0"
        stream = messages(self._reader, run_id, after, follow=follow)
        return StreamingResponse(_encoded(stream), media_type="text/event-stream")

    def content(self, request: Request) -> Response:
        about = request.path_params
        if about["part"] not in ("data", "value"):
            raise HTTPException(404, "an event has 'data' and 'value'")
        found = content_of(self._reader.journal, about["run_id"], about["seq"], about["part"])
        if found is None:
            raise HTTPException(404, "there is nothing")
        return _piece(request, found)

    def blob(self, request: Request) -> Response:
        name = request.path_params["name"]
        journal = self._reader.journal
        if not _HASH.fullmatch(name) or not journal.read("SELECT 1 FROM blobs WHERE hash=?", name):
            raise HTTPException(404, "there is no such blob")
        return _piece(request, journal.blob(name))

    def export(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        html = request.query_params.get("form", "jsonl") == "html"
        is_held(self._reader, run_id)
        pieces = html_pieces(self._reader, run_id) if html else self._lines(run_id)
        name = re.sub(r"[^\w.-]", "_", run_id)[:100] + (".html" if html else ".jsonl")
        return StreamingResponse(
            pieces,
            media_type="application/octet-stream",
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )

    def _lines(self, run_id: str) -> Iterator[str]:
        for line in export_lines(self._reader.journal, run_id):
            yield line + "\n"


def _piece(request: Request, content: bytes) -> Response:
    start = number(request.query_params.get("from", "0"), 0, 2**53)
    most = number(request.query_params.get("most", str(PIECE)), 1, MOST)
    return Response(
        content[start : start + most],
        media_type="application/octet-stream",
        headers={"x-total": str(len(content))},
    )


async def _encoded(stream: AsyncGenerator[str]) -> AsyncGenerator[bytes]:
    async for message in stream:
        yield message.encode()


def _wrong(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {"error": error.detail, "next": ""}
    return JSONResponse(told, error.status_code, error.headers)


def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, ManyhandsError)
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    return JSONResponse({"error": error.what, "next": error.next}, status)


_STATUS = ((RunNotFound, 404), (LeaseHeld, 409), (LeaseLost, 410), (ConfigError, 422))
