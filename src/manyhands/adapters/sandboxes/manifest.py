"""What lies in a folder that only commands can look at, and how two such listings differ."""

from __future__ import annotations

import base64
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manyhands.ports import Change, ChangeKind


@dataclass(frozen=True, slots=True)
class Entry:
    """``kind``: as find has it: f, d, l, or another."""

    kind: str
    mode: int
    size: int
    link: str
    digest: str


def read_manifest(text: str) -> dict[str, Entry]:
    """Path -> entry, from what `inside_scripts.MANIFEST` printed."""
    listed, sums, *_ = text.split("\n")
    hashes: dict[str, str] = {}
    for line in base64.b64decode(sums).decode(errors="surrogateescape").split("\0"):
        digest, _, name = line.partition("  ")
        hashes[name.removeprefix("./")] = digest
    fields = base64.b64decode(listed).decode(errors="surrogateescape").split("\0")
    found: dict[str, Entry] = {}
    for kind, mode, size, path, link in zip(*(fields[n::5] for n in range(5))):
        found[path] = Entry(kind, int(mode, 8), int(size), link, hashes.get(path, ""))
    return found


def fits(path: list[str], pattern: list[str]) -> bool:
    """As the other sandboxes' glob: a dot at the beginning of a name must be in the pattern."""
    if not pattern:
        return not path
    if not path:
        return False
    name, part = path[0], pattern[0]
    if part == "**":
        if fits(path, pattern[1:]):
            return True
        return not name.startswith(".") and (
            (len(path) == 1 and len(pattern) == 1) or fits(path[1:], pattern)
        )
    if name.startswith(".") and not part.startswith("."):
        return False
    return fnmatch.fnmatchcase(name, part) and fits(path[1:], pattern[1:])


def changes(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> list[Change]:
    """In order of the paths. Folders only where they are empty and new."""
    found: list[Change] = []
    full = {str(Path(path).parent) for path, entry in new.items() if entry.kind in "dfl"}
    for path in sorted({*old, *new}):
        was, now = old.get(path), new.get(path)
        before = was is not None and was.kind in "fl"
        if now is None or now.kind not in "dfl":
            if before:
                found.append(Change(path, ChangeKind.DELETED))
        elif now.kind == "d":
            if before:
                found.append(Change(path, ChangeKind.DELETED))
            elif was is None and path not in full:
                found.append(Change(path, ChangeKind.ADDED, now.mode, folder=True))
        elif now.kind == "l":
            if was is None or was.kind != "l" or was.link != now.link:
                found.append(Change(path, ChangeKind.SYMLINK, now.mode, link=now.link))
        elif was is None or not before:
            found.append(Change(path, ChangeKind.ADDED, now.mode, now.size))
        elif was.kind != "f" or was.digest != now.digest:
            found.append(Change(path, ChangeKind.MODIFIED, now.mode, now.size))
        elif was.mode != now.mode:
            found.append(Change(path, ChangeKind.MODE, now.mode, now.size))
    return found
