"""Tools that need no workspace: ``todo``, an agent's own list, and ``read_more`` in what was cut.

Invariant: neither changes anything but the run's own record. The name of a blob is the right to
read it: it is a hash, so only who was shown it, or has the content, knows it.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from manyhands.agents.tools import Tool
from manyhands.agents.workspace.shown import excerpt, text_of_bytes, visible, whole_characters
from manyhands.errors import JournalUnreadable, ToolError
from manyhands.runtime import Run

#: The type of the record of a list. Its ``data``: ``items``, each with content and status.
TODO = "agent:todo"
MOST_ITEMS, MOST_CHARACTERS = 100, 500
DEFAULT_BYTES, MOST_BYTES = 12_000, 32_000

_REF = re.compile(r"sha256:[0-9a-f]{64}")
_MARKS = {"pending": "[ ]", "doing": "[>]", "done": "[x]"}


class TodoItem(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    content: str = Field(description="What is to be done.")
    status: Literal["pending", "doing", "done"] = "pending"


async def todo(run: Run, items: list[TodoItem]) -> str:
    """Keep a list of what is to be done. Each call replaces the list.

    Args:
        items: All of it, in order.
    """
    if len(items) > MOST_ITEMS:
        raise ToolError(f"{len(items)} items; at most {MOST_ITEMS}", next="put some together")
    for i, item in enumerate(items):
        if not item.content.strip() or len(item.content) > MOST_CHARACTERS:
            raise ToolError(
                f"item {i + 1} has {len(item.content.strip())} characters; 1 to "
                f"{MOST_CHARACTERS} are allowed",
                next="say it in one line",
            )
    await run.record("todo", TODO, {"items": [item.model_dump() for item in items]})
    lines = [f"{_MARKS[item.status]} {' '.join(item.content.split())}" for item in items]
    done = sum(item.status == "done" for item in items)
    return "\n".join([f"{done} of {len(items)} done", *lines])


async def read_more(run: Run, ref: str, offset: int = 0, limit: int = DEFAULT_BYTES) -> str:
    """Read on in something that was cut or left out, where a text names it as sha256:….

    Args:
        ref: The whole name, as it was shown.
        offset: The byte to begin at.
        limit: How many bytes at most.
    """
    name = ref.strip()
    if _REF.fullmatch(name) is None:
        raise ToolError(
            f"{excerpt(ref)} is no reference; one is sha256: and 64 digits or letters a-f",
            next="give one exactly as a text has shown it, or read the file or source again",
        )
    if not 1 <= limit <= MOST_BYTES or offset < 0:
        raise ToolError(
            f"offset={offset}, limit={limit}: offset from 0, limit 1 to {MOST_BYTES}",
            next="correct them",
        )
    try:
        found = run.read_blob(name)
    except JournalUnreadable as error:
        raise ToolError(
            f"nothing is kept under {name}",
            next="give a reference exactly as a text has shown it",
        ) from error
    message = _content_of_message(found)
    if message is None:
        return _piece(name, found, offset, limit)
    return _piece(f"{name} (a chat message; this is its text)", message, offset, limit)


def _piece(name: str, data: bytes, offset: int, limit: int) -> str:
    if offset > len(data) or (offset == len(data) and data):
        raise ToolError(
            f"{name} has {len(data)} bytes; offset {offset} is behind its end",
            next="give a smaller offset",
        )
    while offset and 0x80 <= data[offset] < 0xC0 and _in_character(data, offset):
        offset -= 1  # the beginning of the character
    part = data[offset : offset + limit]
    if offset + len(part) < len(data):
        part = whole_characters(part)
    end = offset + len(part)
    text, hidden = visible(text_of_bytes(part))
    on = f"; read on with offset={end}" if end < len(data) else "; this is its end"
    note = f"; {hidden} hidden characters or bytes are shown as \\xNN, \\uNNNN" if hidden else ""
    return f"{name}: bytes {offset}-{end} of {len(data)}{on}{note}\n{text}"


def _in_character(data: bytes, at: int) -> bool:
    """Whether the byte there goes on with a character that began up to three bytes before."""
    for back in range(1, 4):
        if at - back >= 0 and data[at - back] >= 0xC0:
            try:
                return len(data[at - back : at + 4].decode("utf-8", "ignore")[0].encode()) > back
            except IndexError:
                return False
        if at - back < 0 or data[at - back] < 0x80:
            return False
    return False


def _content_of_message(data: bytes) -> bytes | None:
    """The text of a chat message, which is what a shortened history names; None: it is none."""
    if not data.startswith(b'{"role":'):
        return None
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError):
        return None
    message = cast(dict[str, Any], found)
    text = message.get("content")
    if not isinstance(text, str) or message.get("role") not in ("tool", "user", "assistant"):
        return None
    calls = message.get("tool_calls")
    told = f"\n{json.dumps(calls, ensure_ascii=False)}" if calls else ""
    return (text + told).encode("utf-8", "replace")


def todo_tool() -> Tool:
    return Tool.from_function(todo, None, result_bytes=65_536)


def read_more_tool() -> Tool:
    return Tool.from_function(read_more, None, result_bytes=8 * MOST_BYTES)
