"""What a tool gave, as text: all that is text, and the name of all that is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from mcp_types import CallToolResult

#: Bytes of a result; an agent is shown far less of it, and the rest is kept as a blob.
MOST_TEXT = 1_000_000


def text_of(result: CallToolResult, most: int = MOST_TEXT) -> str:
    """Its blocks in order. Structured content only where no block is text: it is the same again."""
    told = [_NAMED[block.type](block) for block in result.content]
    spoken = any(block.type == "text" and block.text for block in result.content)
    if not spoken and result.structured_content is not None:
        told.append(json.dumps(result.structured_content, ensure_ascii=False))
    return _cut("\n".join(told), most)


def _media(block: Any) -> str:
    return f"[{block.type} {block.mime_type}, {_size(block.data)} bytes: not shown]"


def _link(block: Any) -> str:
    kind = f" {block.mime_type}" if block.mime_type else ""
    return f"[resource {block.uri}{kind}: named, not shown]"


def _resource(block: Any) -> str:
    """The text of one that is text; a blob by its name."""
    found = block.resource
    kind = f" {found.mime_type}" if found.mime_type else ""
    text = getattr(found, "text", None)
    if isinstance(text, str):
        return f"[resource {found.uri}{kind}]\n{text}"
    return f"[resource {found.uri}{kind}, {_size(found.blob)} bytes: not shown]"


def _text(block: Any) -> str:
    return block.text


_NAMED: Mapping[str, Callable[[Any], str]] = {
    "text": _text,
    "image": _media,
    "audio": _media,
    "resource_link": _link,
    "resource": _resource,
}


def _size(base64: str) -> int:
    return len(base64.rstrip("=")) * 3 // 4


def _cut(text: str, most: int) -> str:
    raw = text.encode("utf-8", "replace")
    if len(raw) <= most:
        return text
    head = raw[:most].decode("utf-8", "ignore")
    return f"{head}\n[… cut: {len(raw):,} bytes, and the limit of a result is {most:,} …]"
