"""What a request says beside where it goes: numbers, keys, what was seen, the form of its body.

Invariant: whatever does not fit is refused with what is wrong, before anything is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

F = TypeVar("F", bound=BaseModel)

#: Characters of an idempotency key.
_LEAST, _MOST = 8, 200


def number(text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text[:20]) <= most:
        raise HTTPException(400, f"{text[:40]!r} is no number from {least} to {most}")
    return int(text)


def key_of(request: Request) -> str:
    """The key that names an order, so that it is done once however often it is sent."""
    key = request.headers.get("idempotency-key", "")
    if not _LEAST <= len(key) <= _MOST or not key.isascii() or not key.isprintable():
        raise HTTPException(400, f"an Idempotency-Key of {_LEAST} to {_MOST} characters is needed")
    return key


def seen_of(request: Request) -> int | None:
    """The last event that had been seen when this was decided on (``If-Match``); None: not said."""
    given = request.headers.get("if-match", "").strip().strip('"')
    return number(given, 0, 2**53) if given else None


def post(path: str, form: type[F], handler: Callable[[Request, F], Awaitable[Response]]) -> Route:
    """A route for what is posted as JSON in the form ``form``."""

    async def endpoint(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "application/json":
            raise HTTPException(415, "the body is to be application/json")
        try:
            found = form.model_validate_json(await request.body())
        except ValidationError as error:
            told = [
                f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}"
                for e in error.errors(include_url=False, include_input=False)
            ]
            raise HTTPException(400, "; ".join(told)[:2_000]) from error
        return await handler(request, found)

    return Route(path, endpoint, methods=["POST"])
