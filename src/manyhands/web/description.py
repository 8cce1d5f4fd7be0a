"""The HTTP API in the words of OpenAPI 3.1: what is served at ``/api/openapi.json``.

Invariant: every route of the API is in it, and nothing else (a test compares both).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from manyhands import __version__
from manyhands.web import orders

RUN = "/api/runs/{run_id}"


@dataclass(frozen=True, slots=True)
class Operation:
    """``query``: name -> what it is. ``answers``: status -> what it means, beside those of all."""

    method: str
    path: str
    summary: str
    kind: str = "application/json"
    form: type[BaseModel] | None = None
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    answers: tuple[tuple[int, str], ...] = ()


_PIECE = (("from", "The first byte. Default: 0."), ("most", "Bytes at most. Default: 65536."))
_MATCH = ("If-Match", "The last event that you have seen; 412 where a command came after it.")
_ONCE = ("Idempotency-Key", "New for each order: sent again, it is done once.")
_SEEN = ("If-Match", "The last event that you have seen. It is needed.")
_STREAM = "text/event-stream"
_BYTES = "application/octet-stream"
_HELD = (409, "Somebody else drives it.")
_LOST = (410, "The lease has ended.")
_AGAIN = (200, "It was there already.")

OPERATIONS = (
    Operation("get", "/api/runs", "All runs, newest first."),
    Operation(
        "get",
        f"{RUN}/events",
        "The run's events, as they come: messages `batch`, `held` and `damaged`.",
        _STREAM,
        query=(("after", "Events after this number."), ("follow", "0: those that there are.")),
        headers=(("Last-Event-ID", "As `after`: where a stream was lost."),),
    ),
    Operation(
        "get",
        f"{RUN}/events/{{seq}}/{{part}}",
        "The `data` or the `value` of one event.",
        _BYTES,
        query=_PIECE,
    ),
    Operation(
        "get",
        f"{RUN}/export",
        "The run as a file: `jsonl`, or `html` that opens by itself.",
        _BYTES,
        query=(("form", "jsonl (default) or html."),),
    ),
    Operation("get", "/api/blobs/{name}", "A content, by its hash.", _BYTES, query=_PIECE),
    Operation("get", "/api/openapi.json", "This description."),
    Operation("get", f"{RUN}/agents", "How each agent stands, and what waits for a person."),
    Operation(
        "post",
        f"{RUN}/fork",
        'A new run with the history before an event: `{"before": NUMBER}`.',
        form=orders.ForkForm,
        headers=(_ONCE, _SEEN),
        answers=((201, "The fork."), _AGAIN, (428, "If-Match is missing.")),
    ),
    Operation(
        "get",
        f"{RUN}/orders/{{order}}",
        "What came of an order to an agent.",
        query=(("after", "Look after this event: that of the lease."),),
    ),
    Operation(
        "post",
        f"{RUN}/commands",
        "Steer, pause, continue, interrupt, stop or kill.",
        form=orders.CommandForm,
        headers=(_ONCE, _MATCH),
        answers=(_AGAIN,),
    ),
    Operation(
        "post",
        f"{RUN}/answers",
        "Decide, or answer, what an agent waits for.",
        form=orders.AnswerForm,
        headers=(_ONCE,),
        answers=(_AGAIN,),
    ),
    Operation(
        "post",
        f"{RUN}/budget",
        "Other limits from here on.",
        form=orders.BudgetForm,
        headers=(_MATCH,),
    ),
    Operation(
        "post",
        f"{RUN}/lease",
        "Take an agent over: it comes to rest, and does what you order.",
        form=orders.TakeForm,
        headers=(_MATCH,),
        answers=((201, "The lease: show it with each order."), _HELD),
    ),
    Operation(
        "post", f"{RUN}/lease/renew", "A heartbeat.", form=orders.RenewForm, answers=(_LOST,)
    ),
    Operation(
        "post",
        f"{RUN}/lease/act",
        "Order something; the event `agent:done` with this order says what came of it.",
        form=orders.ActForm,
        headers=(_ONCE,),
        answers=(_LOST,),
    ),
    Operation(
        "post", f"{RUN}/lease/back", "Hand the agent back.", form=orders.BackForm, answers=(_LOST,)
    ),
)

_ALL = {
    400: "What was sent does not fit.",
    401: "The token is missing or wrong.",
    403: "Asked from another origin.",
    404: "There is no such run, event or content.",
    409: "An idempotency key that was used for something else.",
    412: "A command came since, or what was seen is not there.",
    413: "The body is too long.",
    415: "The body is not JSON.",
    422: "The run has ended, or is not as this asks for.",
}


def description() -> dict[str, Any]:
    """The whole of it."""
    forms = [each.form for each in OPERATIONS if each.form is not None]
    template = "#/components/schemas/{model}"
    _, schemas = models_json_schema([(form, "validation") for form in forms], ref_template=template)
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        paths.setdefault(each.path, {})[each.method] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Manyhands",
            "version": __version__,
            "description": "What the page of `manyhands ui` asks, and what you may ask as well. "
            "The token is in the address that `manyhands ui` prints.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas.get("$defs", {}),
        },
    }


def _operation(each: Operation) -> dict[str, Any]:
    names = [part[1:-1] for part in each.path.split("/") if part.startswith("{")]
    told = dict(each.answers)
    usual = 202 if each.method == "post" and 201 not in told else 200
    answers = {usual: "Done, or on its way.", **_ALL, **told}
    found: dict[str, Any] = {
        "summary": each.summary,
        "parameters": [
            *(_parameter("path", name, "", required=True) for name in names),
            *(_parameter("query", name, about) for name, about in each.query),
            *(_parameter("header", name, about) for name, about in each.headers),
        ],
        "responses": {
            str(code): {"description": about} | ({"content": {each.kind: {}}} if code < 300 else {})
            for code, about in sorted(answers.items())
        },
    }
    if each.form is not None:
        schema = {"$ref": f"#/components/schemas/{each.form.__name__}"}
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return found


def _parameter(where: str, name: str, about: str, *, required: bool = False) -> dict[str, Any]:
    found = {"name": name, "in": where, "required": required, "schema": {"type": "string"}}
    return found | ({"description": about} if about else {})
