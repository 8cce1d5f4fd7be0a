"""Names of sources and ids of passages.

Invariant: a name holds nothing that ends a marker ``[name#n]``, separates two in one, or cannot be
seen: such characters are percent-encoded, and two files never have one name.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import PurePosixPath
from urllib.parse import unquote_to_bytes

_RESERVED = frozenset('#[],;<>"`')
#: Controls, formats (which turn text around), surrogates (bytes that are no UTF-8), line ends.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

_ID = re.compile(r"(?P<source>.+)#(?P<number>[1-9][0-9]{0,8})", re.DOTALL)
#: What models put around an id that they repeat. None of it is in a name, ...
_AROUND = ' \t\r\n[]"`'
#: ... but these may be, so they go in pairs.
_PAIRS = (("(", ")"), ("'", "'"))


def name_of_file(path: PurePosixPath | str) -> str:
    """The name of a file by its path below the folder; ``%`` is encoded as well."""
    return _encoded(str(path), _RESERVED | {"%"})


def file_of_name(name: str) -> str:
    """The path below the folder, as the system's functions take it."""
    return os.fsdecode(unquote_to_bytes(name.encode("utf-8", "surrogateescape")))


def name_of_added(source: str) -> str:
    """The name of an added text. ``%`` stays: most are URLs, which have encoded theirs."""
    return _encoded(source.strip(), _RESERVED)


def _encoded(text: str, reserved: frozenset[str]) -> str:
    last = len(text) - 1
    return "".join(
        _percent(c) if _is_bad(c, reserved) or (c == " " and at in (0, last)) else c
        for at, c in enumerate(text)
    )


def _is_bad(char: str, reserved: frozenset[str]) -> bool:
    if char in reserved:
        return True
    return not char.isprintable() and (char.isspace() or unicodedata.category(char) in _UNSEEN)


def _percent(char: str) -> str:
    # Half of a pair, from a text of ours rather than from a file's name, has no bytes of its own.
    escaped = "\udc80" <= char <= "\udcff"
    found = char.encode("utf-8", "surrogateescape" if escaped else "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in found)


def id_of(name: str, number: int) -> str:
    return f"{name}#{number}"


def parse_id(text: str) -> tuple[str, int] | None:
    """The source and the number, whatever stands around them; None: that is no id."""
    text = text.strip(_AROUND)
    for left, right in _PAIRS:
        if text.startswith(left) and text.endswith(right):
            text = text[1:-1].strip(_AROUND)
    found = _ID.fullmatch(text)
    return (found["source"], int(found["number"])) if found else None
