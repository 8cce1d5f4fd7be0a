"""An event as a page gets it: structure first, contents by name when somebody looks at them.

Invariant: what is sent of one event is bounded, whatever an agent has put into it; what was left
out is named by its event (``part`` of event ``seq``) or its hash, and can be had piece by piece.
Strings are cut at a number of characters and never changed otherwise.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, cast

from manyhands.errors import JournalUnreadable
from manyhands.runtime.codec import decode, encode
from manyhands.runtime.database import Row, damaged
from manyhands.runtime.journal import Journal

#: Characters of data up to which it goes with the structure as it is; of data that is longer, a
#: record's goes not at all, and of a string in an event that the reducer reads so many go.
WHOLE, TEXT = 2_000, 300
#: Characters of a key. One that is longer is cut, and told apart by a hash.
KEY = 400
#: Of a list that an agent decides the length of.
ITEMS = 50
#: A value larger than this is not opened for its head (characters).
HEAD_LIMIT = 2_000_000

_REQUEST = re.compile(r"/(?:request|summary)/\d+\Z")
_TOOL = re.compile(r"/tool/\d+(?:/act)?\Z")
_BEGIN = ("role", "model", "tools", "fallbacks")
_ATTEMPT = ("model", "finish_reason", "error", "dispute", "seconds", "first_token_seconds")
_SPEND = ("requests", "input_tokens", "output_tokens", "micro_usd")


def told(journal: Journal, row: Row) -> str:
    """One event without its contents, as JSON; ``size``: characters of its value, ``head``: what
    the structure needs of it, ``cut``: characters of data that were left out."""
    seq, epoch, ts, type_, key, data, value, ref = row
    name = encode_basestring(key if len(key) <= KEY else short_key(key))
    line = f'{{"seq":{seq},"epoch":{epoch},"ts":{ts!r},"type":{_kind(type_)},"key":{name}'
    if len(data) <= WHOLE:
        line += "" if data == "{}" else f',"data":{data}'
    elif ":" not in type_ or type_.startswith("agent:"):
        line += f',"data":{encode(_structure(type_, decode(data)))}'
    else:
        line += f',"cut":{len(data)}'
    if ref is not None:
        line += f',"ref":"{ref}"'
    elif value is not None:
        line += f',"size":{len(value)}'
    if type_ == "step.done" and (head := _head(journal, key, value, ref)):
        line += f',"head":{encode(head)}'
    return line + "}"


@lru_cache(maxsize=1000)
def _kind(type: str) -> str:
    return encode_basestring(clip(type))


def short_key(key: str) -> str:
    if len(key) <= KEY:
        return key
    mark = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:12]
    return f"{key[:KEY]}…{mark}"


def _structure(type: str, data: dict[str, Any]) -> dict[str, Any]:
    """Large data of an event that the page's reducer reads."""
    changes: Any = data.get("changes") if type == "agent:context" else None
    found = {k: clip(v) for k, v in data.items() if k != "changes"}
    for name in ("scope", "agent", "producer"):
        if isinstance(data.get(name), str):
            found[name] = short_key(data[name])
    if changes is not None:  # each is bounded, and all of them are needed
        found["changes"] = [clip(change) for change in changes]
    return found


def clip(value: Any, depth: int = 5) -> Any:
    """``value`` with its strings, lists and depth bounded. Numbers and short texts as they are."""
    if isinstance(value, str):
        return value if len(value) <= TEXT else value[:TEXT] + "…"
    if isinstance(value, dict):
        if depth == 0:
            return {}
        items = list(cast(dict[str, Any], value).items())[:ITEMS]
        return {clip(k): clip(v, depth - 1) for k, v in items}
    if isinstance(value, list):
        if depth == 0:
            return []
        return [clip(v, depth - 1) for v in cast(list[Any], value)[:ITEMS]]
    return value


def _head(journal: Journal, key: str, text: str | None, ref: str | None) -> dict[str, Any]:
    """Who an agent is, and how a model's attempt came out."""
    begin = key.endswith("begin") and (key == "begin" or key.endswith("/begin"))
    if not begin and not (("/request/" in key or "/summary/" in key) and _REQUEST.search(key)):
        return {"ok": False} if text and _refused(key, text) else {}
    if ref is not None:
        text = journal.blob(ref).decode()
    if text is None or len(text) > HEAD_LIMIT:
        return {}
    value = decode(text)
    if not isinstance(value, dict):
        return {}
    found = cast(dict[str, Any], value)
    names = _BEGIN if begin else _ATTEMPT
    head = {n: v if type(v) is float else clip(v) for n in names if (v := found.get(n))}
    charged = found.get("charged")
    if not begin and isinstance(charged, dict):
        spend = cast(dict[str, Any], charged)
        head["charged"] = {name: spend[name] for name in _SPEND if isinstance(spend.get(name), int)}
    calls: Any = found.get("calls")
    if not begin and calls:
        head["calls"] = [clip(str(call.get("name"))) for call in calls[:ITEMS]]
    return head


def _refused(key: str, text: str) -> bool:
    """Whether a tool says of itself that it failed."""
    if '"ok":false' not in text or not _TOOL.search(key):
        return False
    value = decode(text)
    return isinstance(value, dict) and cast(dict[str, Any], value).get("ok") is False


def page_of(journal: Journal, run_id: str, after: int, most: int) -> tuple[str, int]:
    """Up to ``most`` events after ``after`` as one JSON list; and the last one's seq.

    Ends before an event that cannot be read; where that is the first, raises `JournalUnreadable`.
    """
    lines: list[str] = []
    try:
        for row in journal.rows(run_id, after, after + most + 1):
            lines.append(_told(journal, row))
    except JournalUnreadable:
        if not lines:
            raise
    return (f"[{','.join(lines)}]" if lines else ""), after + len(lines)


def _told(journal: Journal, row: Row) -> str:
    try:
        return told(journal, row)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(journal.path, f"event {row[0]}: {type(error).__name__}: {error}") from error


def content_of(journal: Journal, run_id: str, seq: int, part: str) -> bytes | None:
    """The JSON text of one event's ``data`` or ``value``; None: there is none."""
    for event in journal.events(run_id, seq - 1, seq + 1):
        text = journal.value(event) if part == "value" else encode(event.data)
        return None if text is None else text.encode("utf-8", "replace")
    return None
