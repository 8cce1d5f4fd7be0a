"""Calls of the Hugging Face Hub, through ``huggingface_hub`` and bounded.

Invariants: no call outlives its deadline or reads more than it may, also where the server drips or
floods; what may be asked again is asked again, a bounded number of times, and as late as the server
says; every failure is a `HubFailure` that says what to do.

``HF_ENDPOINT`` and ``HF_TOKEN`` of the environment count, as they are when a call is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from manyhands.errors import ConfigError

T = TypeVar("T")

ENDPOINT = "https://huggingface.co"
#: The longest wait that a server may ask for before the call is given up.
MOST_WAIT = 60.0
_SHOWN = 300


class HubTrouble(StrEnum):
    """``DENIED``: the token, or its absence; ``OFFLINE``: by ``HF_HUB_OFFLINE``."""

    UNREACHABLE = "unreachable"
    SLOW = "slow"
    BUSY = "busy"
    BROKEN = "broken"
    DENIED = "denied"
    MISSING = "missing"
    REFUSED = "refused"
    UNPAID = "unpaid"
    MALFORMED = "malformed"
    OFFLINE = "offline"


#: After these the same call may succeed.
PASSING = frozenset({HubTrouble.UNREACHABLE, HubTrouble.SLOW, HubTrouble.BUSY, HubTrouble.BROKEN})
#: These are for a person to mend; the same call may succeed then.
FOR_A_PERSON = frozenset({HubTrouble.DENIED, HubTrouble.OFFLINE, HubTrouble.UNPAID})
#: After these the server may have done what was asked.
UNSURE = frozenset({HubTrouble.UNREACHABLE, HubTrouble.SLOW, HubTrouble.BROKEN})


class HubFailure(Exception):
    """``wait``: seconds after which the server wants to be asked again (None: it did not say)."""

    def __init__(
        self, trouble: HubTrouble, what: str, next: str = "", wait: float | None = None
    ) -> None:
        super().__init__(what)
        self.trouble = trouble
        self.what = what
        self.next = next
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Hub:
    """``seconds`` and ``most_bytes`` bound one request, ``attempts`` how often it is made;
    ``backoff``: seconds before the second attempt, doubled from there."""

    seconds: float = 30.0
    attempts: int = 3
    most_bytes: int = 64_000_000
    backoff: float = 1.0

    async def ask(
        self,
        what: str,
        call: Callable[[Any], T],
        *,
        again: bool = True,
        seconds: float | None = None,
    ) -> T:
        """What ``call`` makes of a ``huggingface_hub.HfApi``. Raises `HubFailure`, `ConfigError`.

        ``call`` runs in a thread of its own. ``again``: it does no harm if it is made twice.
        """
        library()
        for attempt in range(1, self.attempts + 1):
            try:
                return await self._once(what, call, seconds or self.seconds)
            except HubFailure as failure:
                wait = failure.wait
                if wait is None:
                    wait = self.backoff * 2 ** (attempt - 1)
                last = attempt == self.attempts or failure.trouble not in PASSING
                if last or not again or wait > MOST_WAIT:
                    raise
                await asyncio.sleep(wait)
        raise AssertionError("the last attempt answers or raises")

    async def _once(self, what: str, call: Callable[[Any], T], seconds: float) -> T:
        stop = threading.Event()
        result: Future[T] = Future()

        def work() -> None:
            result.set_running_or_notify_cancel()
            try:
                with bounded(seconds, self.most_bytes, stop):
                    result.set_result(call(api()))
            except Exception as error:
                result.set_exception(explained(what, error))

        # Not the loop's own threads: the interpreter would wait for them when it is told to end.
        threading.Thread(target=work, name=f"hub: {what}", daemon=True).start()
        try:
            async with asyncio.timeout(seconds + 1.0):
                return await asyncio.wrap_future(result)
        except TimeoutError:
            raise _slow(what, seconds) from None
        finally:
            stop.set()


def endpoint() -> str:
    """As the environment says now, not when the library was first imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or ENDPOINT


def api() -> Any:
    return library().HfApi(endpoint=endpoint())


def library(what: str = "talks to the Hub", extra: str = "hub") -> Any:
    """``huggingface_hub``. Raises `ConfigError` where it is not installed; ``what`` it would do,
    and the ``extra`` that brings it."""
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ConfigError(
            f"huggingface_hub, which {what}, is not installed ({error})",
            next=f"pip install 'manyhands[{extra}]'",
        ) from error


# -------------------------------------------------------------------- bounds


class _Bounds(threading.local):
    """Of the calls that this thread makes. ``stop`` None: none of ours, so nothing is bounded."""

    until: float = 0.0
    left: int = 0
    stop: threading.Event | None = None


class OutOfBounds(Exception):
    """A call was stopped, came to its deadline, or read too much."""

    def __init__(self, trouble: HubTrouble, what: str) -> None:
        super().__init__(what)
        self.trouble = trouble


_BOUNDS = _Bounds()
_HOOKING = threading.Lock()


@contextlib.contextmanager
def bounded(seconds: float, most_bytes: int, stop: threading.Event) -> Generator[None]:
    """What this thread asks of the Hub in here ends with ``stop``, after ``seconds`` and after
    ``most_bytes``. The library's own client sets no deadline."""
    _hook()
    _BOUNDS.until, _BOUNDS.left, _BOUNDS.stop = time.monotonic() + seconds, most_bytes, stop
    try:
        yield
    finally:
        _BOUNDS.stop = None


def _hook() -> None:
    """The session is the library's, shared and made anew at times: it is looked at each time."""
    session: Any = library().get_session()
    with _HOOKING:
        hooks = session.event_hooks
        if _at_request not in hooks["request"]:
            session.event_hooks = {
                "request": [*hooks["request"], _at_request],
                "response": [*hooks["response"], _at_response],
            }


def _at_request(request: Any) -> None:
    if _BOUNDS.stop is None:
        return
    _check()
    left = max(0.1, _BOUNDS.until - time.monotonic())
    asked: dict[str, float | None] = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        kind: min(left, asked.get(kind) or left) for kind in ("connect", "read", "write", "pool")
    }
    request.headers["Accept-Encoding"] = "identity"  # what is counted is what is kept


def _at_response(response: Any) -> None:
    if _BOUNDS.stop is None:
        return
    base: Any = importlib.import_module("httpx2").SyncByteStream
    stream = response.stream

    class Counted(base):
        def __iter__(self) -> Iterator[bytes]:
            for chunk in stream:
                _BOUNDS.left -= len(chunk)
                _check()
                yield chunk

        def close(self) -> None:
            stream.close()

    response.stream = Counted()


def _check() -> None:
    stop = _BOUNDS.stop
    if stop is None:
        return
    if stop.is_set():
        raise OutOfBounds(HubTrouble.SLOW, "it is not wanted any more")
    if time.monotonic() > _BOUNDS.until:
        raise OutOfBounds(HubTrouble.SLOW, "its time is over")
    if _BOUNDS.left < 0:
        raise OutOfBounds(HubTrouble.MALFORMED, "the answer is longer than any that is meant")


# -------------------------------------------------------------------- failures


def explained(what: str, error: Exception) -> Exception:
    """The error of a call as a `HubFailure`; one of ours stays what it is."""
    if isinstance(error, HubFailure | ConfigError):
        return error
    if isinstance(error, OutOfBounds):
        return HubFailure(error.trouble, f"{what}: {error}", _TRY_LATER)
    errors: Any = importlib.import_module("huggingface_hub.errors")
    http: Any = importlib.import_module("httpx2")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubFailure(
            HubTrouble.OFFLINE,
            f"{what}: HF_HUB_OFFLINE forbids to ask {endpoint()}",
            "unset HF_HUB_OFFLINE",
        )
    if isinstance(error, errors.LocalTokenNotFoundError):
        return HubFailure(
            HubTrouble.DENIED, f"{what}: there is no token", "export HF_TOKEN=…, or `hf auth login`"
        )
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(what, error)
    if isinstance(error, http.TimeoutException):
        return HubFailure(HubTrouble.SLOW, f"{what}: no answer of {endpoint()} in time", _TRY_LATER)
    if isinstance(error, http.HTTPError | http.InvalidURL | OSError):
        return HubFailure(
            HubTrouble.UNREACHABLE,
            f"{what}: {endpoint()} cannot be reached: {_brief(error)}",
            "check the connection and HF_ENDPOINT",
        )
    return HubFailure(
        HubTrouble.MALFORMED,
        f"{what}: the answer of {endpoint()} is not the Hub's protocol: {_brief(error)}",
        "does HF_ENDPOINT name a Hub?",
    )


def _refused(what: str, error: Any) -> HubFailure:
    status: int = error.response.status_code
    told = f"{what}: {endpoint()} says {status}: {_brief(error.server_message or '')}".rstrip(": ")
    if status in (401, 403):
        return HubFailure(
            HubTrouble.DENIED,
            told,
            "is the token still valid, and allowed to do this? Set HF_TOKEN, or `hf auth login`",
        )
    if status in (404, 410):
        return HubFailure(HubTrouble.MISSING, told, "check the name")
    if status == 402:
        return HubFailure(HubTrouble.UNPAID, told, "the account has no credit for this")
    if status == 429 or status == 503:
        return HubFailure(HubTrouble.BUSY, told, _TRY_LATER, _asked_wait(error.response.headers))
    if status >= 500:
        return HubFailure(HubTrouble.BROKEN, told, _TRY_LATER)
    return HubFailure(HubTrouble.REFUSED, told, "correct what was asked")


def _asked_wait(headers: Any) -> float | None:
    """By ``Retry-After``, else by the Hub's own ``RateLimit``."""
    after = str(headers.get("retry-after", "")).strip()
    if after.isdigit():
        return float(after)
    utils: Any = importlib.import_module("huggingface_hub.utils")
    known = utils.parse_ratelimit_headers(headers)
    return float(known.reset_in_seconds) if known else None


def _slow(what: str, seconds: float) -> HubFailure:
    return HubFailure(
        HubTrouble.SLOW, f"{what}: no answer of {endpoint()} within {seconds:g} s", _TRY_LATER
    )


def _brief(error: object) -> str:
    text = str(error)
    told = f"{type(error).__name__}: {text}" if isinstance(error, Exception) else text
    told = " ".join("".join(c if c.isprintable() else " " for c in told).split())
    return told if len(told) <= _SHOWN else told[: _SHOWN - 1] + "…"


_TRY_LATER = "try again later"
