"""Folders of data that one makes and many read: published whole, by a manifest of checksums.

Invariants: what has no manifest was never published; the manifest is written last, in one piece;
while one fills a folder, nobody else does. A folder that is not what its manifest says is never
used. Nothing but the standard library is imported: this runs on other machines, too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Iterable, Mapping
from typing import Any, cast

MANIFEST = "checksums.json"
VERSION = 1
#: (size, SHA-256) of the files of a folder, by their paths in it.
Sums = Mapping[str, "tuple[int, str]"]

_known: dict[tuple[str, int, int, int], str] = {}


def sums_of(folder: str, left_out: Iterable[str] = ()) -> dict[str, tuple[int, str]]:
    """Of the regular files below ``folder`` (or of that one file, as ''), but for the real paths in
    ``left_out`` and what lies below them. A file that has not changed is read once."""
    skipped = {os.path.realpath(path) for path in left_out}

    def kept(here: str, names: list[str]) -> list[str]:
        real = ((os.path.realpath(os.path.join(here, name)), name) for name in sorted(names))
        return [name for path, name in real if path not in skipped]

    if os.path.isfile(folder):
        return {"": _sum(folder)}
    found: dict[str, tuple[int, str]] = {}
    for here, names, files in os.walk(folder):
        names[:] = kept(here, names)
        for path in (os.path.join(here, name) for name in kept(here, files)):
            below = os.path.relpath(path, folder)
            if below != MANIFEST and os.path.isfile(path):
                found[below] = _sum(path)
    return found


def _sum(path: str) -> tuple[int, str]:
    about = os.stat(path)
    key = (os.path.realpath(path), about.st_size, about.st_mtime_ns, about.st_ino)
    if key not in _known:
        _known[key] = sha256(path)
    return about.st_size, _known[key]


def sha256(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


def manifest_of(sums: Sums) -> bytes:
    return json.dumps({"version": VERSION, "files": sums}, sort_keys=True).encode()


def digest_of(manifest: bytes) -> str:
    """Names the contents."""
    return hashlib.sha256(manifest).hexdigest()[:32]


def publish(folder: str) -> str:
    """Write the manifest of what lies there; from here on it may be used. Returns its digest."""
    manifest = manifest_of(sums_of(folder))
    fresh = os.path.join(folder, f".{MANIFEST}.new")
    with open(fresh, "wb") as file:
        file.write(manifest)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, os.path.join(folder, MANIFEST))
    return digest_of(manifest)


def published(folder: str, *, full: bool = True) -> tuple[str, str]:
    """The digest of what is published there, and ''; or '' and why it is not to be used.

    ``full``: compare contents, not only sizes.
    """
    try:
        with open(os.path.join(folder, MANIFEST), "rb") as file:
            manifest = file.read()
    except FileNotFoundError:
        return "", "it was never finished" if os.path.isdir(folder) else "it is not there"
    except OSError as error:
        return "", f"its {MANIFEST} cannot be read: {error.strerror}"
    try:
        read: Any = json.loads(manifest)
        if read["version"] != VERSION:
            return "", f"it is of version {read['version']}, and this is version {VERSION}"
        files = cast("dict[str, list[Any]]", read["files"])
        wrong = _difference(folder, {name: (s, d) for name, (s, d) in files.items()}, full=full)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return "", f"its {MANIFEST} is none: {error!r}"
    return ("", wrong) if wrong else (digest_of(manifest), "")


def _difference(folder: str, sums: Sums, *, full: bool) -> str:
    for name, (size, digest) in sorted(sums.items()):
        path = os.path.join(folder, name)
        try:
            if os.stat(path).st_size != size:
                return f"{name} has {os.stat(path).st_size} bytes, and had {size}"
            if full and sha256(path) != digest:
                return f"{name} has other contents than it had"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return ""


# -------------------------------------------------------------------- locks


def try_lock(path: str, *, shared: bool = False) -> int | None:
    """An open file that holds the lock, which ends with it; None: somebody else does."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return lock


@contextlib.contextmanager
def locked(path: str) -> Generator[None]:
    """Waits for the lock."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
