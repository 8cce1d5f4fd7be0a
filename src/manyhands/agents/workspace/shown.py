"""Bytes as a model is shown them: what cannot be seen is escaped, and what is escaped says so.

Invariants: ``\\xNN`` is always a byte and ``\\uNNNN`` a character; nothing that is invisible, turns
the direction of writing or drives a terminal is shown as it is. A line that is marked as escaped
has its backslashes doubled, so that its bytes can be told from what is shown.
"""

from __future__ import annotations

import re

#: Controls but tab and newline, what has no width, what turns the direction of text, invisible
#: tags, line separators of Unicode, and halves of surrogate pairs (bytes that are no UTF-8).
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_HIDDEN_OR_BACKSLASH = re.compile(f"{_HIDDEN.pattern}|\\\\")
_PLAIN_PATH = re.compile(r"[^\s\"'`<>\\:](?:[^\"'`<>\\:]*[^\s\"'`<>\\:])?")


def text_of_bytes(data: bytes) -> str:
    """Each byte that is no UTF-8 is a lone surrogate; `bytes_of_text` is the way back."""
    return data.decode("utf-8", "surrogateescape")


def bytes_of_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def visible(text: str) -> tuple[str, int]:
    """``text`` with what is hidden escaped, and how many characters that were."""
    return _HIDDEN.subn(_escape, text)


def escaped(text: str) -> tuple[str, bool]:
    """One line, and whether it is escaped: then its backslashes are, too."""
    if _HIDDEN.search(text) is None:
        return text, False
    return _HIDDEN_OR_BACKSLASH.sub(_escape, text), True


def shown_path(path: str) -> str:
    """A path as it is, quoted and escaped where its name could be taken for something else."""
    if _PLAIN_PATH.fullmatch(path) and _HIDDEN.search(path) is None and "\n" not in path:
        return path
    text = _HIDDEN_OR_BACKSLASH.sub(_escape, path).replace("\n", "\\n").replace('"', '\\"')
    return f'"{text}"'


def cut_line(text: str, most: int) -> tuple[str, int]:
    """The beginning of a long line, and how many characters are left out."""
    return (text, 0) if len(text) <= most else (text[:most], len(text) - most)


def excerpt(text: str, most: int = 120) -> str:
    """A piece of text for an error: quoted, with all that is hidden escaped, and said to be cut."""
    head, left = cut_line(text, most)
    return f"{head!r}{f' … ({left} more characters)' if left else ''}"


def middle_out(data: bytes, head: int, tail: int) -> tuple[bytes, int, bytes]:
    """Head, how many bytes are left out, tail; cut between characters, at a line where one ends
    near the cut."""
    if len(data) <= head + tail:
        return data, 0, b""
    first = data[:head]
    line = first.rfind(b"\n") + 1
    first = first[:line] if line > head * 3 // 4 else _whole_characters(first)
    last = data[len(data) - tail :]
    line = last.find(b"\n") + 1
    last = last[line:] if 0 < line < tail // 4 else last.lstrip(_CONTINUED)
    return first, len(data) - len(first) - len(last), last


_CONTINUED = bytes(range(0x80, 0xC0))


def _whole_characters(data: bytes) -> bytes:
    """Without the beginning of a character at its end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if back < wanted else data
        if byte < 0x80:
            break
    return data


def whole_characters(data: bytes) -> bytes:
    """``data`` without the first bytes of a character at its end, but never nothing."""
    return _whole_characters(data) or data


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if character == "\\":
        return "\\\\"
    if character == "\r":
        return "\\r"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
