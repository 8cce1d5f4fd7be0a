"""Reads what ``read`` shows back into the bytes that it was made from."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:\\|r|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_LINE = re.compile(r" *(\d+)(e?)(c?)\t(.*)", re.S)


def unescaped(text: str) -> bytes:
    out, at = b"", 0
    for found in _ESCAPE.finditer(text):
        out += text[at : found.start()].encode()
        at = found.end()
        word = found[0]
        if word in ("\\\\", "\\r"):
            out += b"\\" if word == "\\\\" else b"\r"
        elif word[1] == "x":
            out += bytes([int(word[2:], 16)])
        else:
            out += chr(int(word[2:], 16)).encode()
    rest = text[at:]
    assert "\\" not in rest
    return out + rest.encode()


def parsed(shown: str) -> tuple[dict[int, bytes], set[int], list[str]]:
    """Line number -> its bytes (as far as they are shown), which are cut, and the notes."""
    head, *rest = shown.split("\n")
    lines: dict[int, bytes] = {}
    cut: set[int] = set()
    notes = [head]
    for text in rest:
        found = _LINE.fullmatch(text)
        if found is None:
            assert re.match(r"\[.*\]\Z", text), text
            notes.append(text)
            continue
        number, body = int(found[1]), found[4]
        if found[3]:
            cut.add(number)
            body = body[: body.rindex(" [columns ")]
        lines[number] = unescaped(body) if found[2] else body.encode()
    return lines, cut, notes


def whole(shown: str) -> bytes:
    """The file, from a text that shows all of it."""
    lines, cut, notes = parsed(shown)
    assert not cut
    end = b"\r\n" if "[all lines end with CRLF]" in notes else b"\n"
    closed = "[the last line has no newline at its end]" not in notes
    data = end.join(lines[number] for number in sorted(lines))
    return data + end if closed and lines else data
