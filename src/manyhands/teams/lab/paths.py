"""Paths and globs of a study: relative, with ``/``, and never out of its folder.

Invariant: a path for which `is_plain` holds, joined to a folder, names something below that folder
and outside of git's own (as long as no symbolic link is followed).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

#: Folders that never hold a study's own files.
SKIPPED = frozenset({".git", ".manyhands", ".venv", "__pycache__", "node_modules"})
_WILDCARD = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]")


def is_plain(path: str) -> bool:
    """Relative, no empty, ``.`` or ``..`` part, no ``.git``, no backslash, no control character."""
    parts = path.split("/")
    odd = any(p in ("", ".", "..") or p.lower() == ".git" for p in parts)
    return not odd and not re.search(r"[\\\x00-\x1f\x7f]", path)


def matches(path: str, globs: Iterable[str]) -> bool:
    """``*`` and ``?`` stay in a folder, ``**/`` is any number of folders, ``folder/`` all in it."""
    return any(_compiled(glob).match(path) for glob in globs)


@lru_cache(maxsize=256)
def _compiled(glob: str) -> re.Pattern[str]:
    *folders, name = (glob + "**" if glob.endswith("/") else glob).split("/")
    parts = [r"(?:[^/]+/)*" if f == "**" else _part(f) + "/" for f in folders]
    return re.compile("".join(parts) + (".+" if name == "**" else _part(name)) + r"\Z", re.DOTALL)


def _part(text: str) -> str:
    done, pattern = 0, ""
    for found in _WILDCARD.finditer(text):
        pattern += re.escape(text[done : found.start()]) + _wildcard(found[0])
        done = found.end()
    return pattern + re.escape(text[done:])


def _wildcard(sign: str) -> str:
    if sign[0] != "[":
        return "[^/]*" if sign[0] == "*" else "[^/]"
    inside = sign[1:-1].replace("\\", "\\\\")
    return f"(?!/)[{'^' + inside[1:] if inside.startswith('!') else inside}]"


def list_files(root: Path) -> tuple[str, ...]:
    """All files below ``root`` but for git's, caches and virtual environments, sorted."""
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in SKIPPED]
        found += [(Path(folder) / n).relative_to(root).as_posix() for n in names]
    return tuple(sorted(found))
