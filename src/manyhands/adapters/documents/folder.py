"""The files of a folder.

Invariant: nothing outside of the folder is opened, whatever links lie in it; what is no regular
file is not opened at all.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from manyhands.adapters.documents.names import file_of_name, name_of_file
from manyhands.adapters.documents.reading import Limits, holds_text
from manyhands.adapters.documents.text import Unreadable
from manyhands.errors import LibraryError

_SKIPPED = frozenset({"node_modules", "__pycache__"})
#: A file changed so shortly ago may change again within the same tick of the file system's clock.
_SETTLED_NS = 2_000_000_000
_NO_LINK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Stamp:
    """Size and time of change; ``-1`` for the latter: cannot be relied on yet."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the folder. ``reason``: why it is not to be read at all."""

    name: str
    stamp: Stamp
    reason: str = ""

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(file_of_name(self.name))


def walk(folder: Path, limits: Limits) -> list[Found]:
    """All files that may hold text, by name. Raises `LibraryError`."""
    root = os.path.realpath(folder)
    if not os.path.isdir(root):
        raise LibraryError(
            f"documents folder {folder} is not there, or is no folder",
            next="name a folder that exists",
        )
    found: list[Found] = []
    for each in _below(root):
        found.append(each)
        if len(found) > limits.files:
            raise LibraryError(
                f"documents folder {folder} holds more than {limits.files:,} files",
                next="name the folder further down that holds the documents",
            )
    return sorted(found, key=lambda each: each.name)


def _below(root: str) -> Iterator[Found]:
    waiting = [root]
    while waiting:
        here = waiting.pop()
        try:
            entries = list(os.scandir(here))
        except OSError as error:
            if here == root:
                raise LibraryError(
                    f"documents folder {root} cannot be read: {error.strerror}",
                    next="give this user permission to read it, or name another",
                ) from error
            yield _refused(root, here, f"folder cannot be read: {error.strerror}")
            continue
        if here != root and any(entry.name == "pyvenv.cfg" for entry in entries):
            continue  # a virtual environment, whatever it is called
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _SKIPPED:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_symlink():
                yield from _link(root, entry)
            else:
                yield from _file(root, entry)


def _link(root: str, entry: os.DirEntry[str]) -> Iterator[Found]:
    """What a link inside of the folder points at is found at its own place."""
    target = os.path.realpath(entry.path)
    if os.path.commonpath([root, target]) != root:
        yield _refused(root, entry.path, "a link that leaves the folder; it is not followed")


def _file(root: str, entry: os.DirEntry[str]) -> Iterator[Found]:
    if not holds_text(PurePosixPath(entry.name)):
        return
    try:
        about = entry.stat(follow_symlinks=False)
    except OSError as error:
        yield _refused(root, entry.path, f"cannot be read: {error.strerror}")
        return
    if stat.S_ISREG(about.st_mode):
        yield Found(_name(root, entry.path), _stamp(about))


def _refused(root: str, path: str, reason: str) -> Found:
    return Found(_name(root, path), Stamp(0, 0), reason)


def _name(root: str, path: str) -> str:
    return name_of_file(os.path.relpath(path, root))


def _stamp(about: os.stat_result) -> Stamp:
    settled = time.time_ns() - about.st_mtime_ns > _SETTLED_NS
    return Stamp(about.st_size, about.st_mtime_ns if settled else -1)


def read_file(folder: Path, found: Found, limits: Limits) -> tuple[bytes, Stamp]:
    """The content, and the stamp from before it was read. Raises `Unreadable`."""
    path = os.path.join(os.path.realpath(folder), os.fspath(found.path))
    try:
        with os.fdopen(os.open(path, _NO_LINK), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise Unreadable("no regular file")
            if about.st_size > limits.file_bytes:
                raise Unreadable(_too_large(about.st_size, limits))
            data = file.read(limits.file_bytes + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    if len(data) > limits.file_bytes:
        raise Unreadable(_too_large(len(data), limits))
    return data, _stamp(about)


def _too_large(size: int, limits: Limits) -> str:
    return f"{size / 1e6:.1f} MB; the limit is {limits.file_bytes / 1e6:g} MB"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
