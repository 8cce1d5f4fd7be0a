"""Files of a workspace, by an open folder: read a range, replace as a whole, list.

Invariant: a file is replaced by a rename, so no reader and no crash sees half of one, and what
goes wrong leaves the old one as it was.
"""

from __future__ import annotations

import errno
import fnmatch
import itertools
import os
import stat
from collections.abc import Iterator

from manyhands.errors import SandboxError, SandboxFull
from manyhands.ports import FileSlice

from . import beneath
from .beneath import missing, refused

_numbers = itertools.count(1)
#: Deeper trees than any project has are not walked: each level holds a descriptor open.
DEPTH = 128


def too_deep(where: str) -> SandboxError:
    return SandboxError(
        f"folders lie more than {DEPTH} deep in each other below {where[:60]!r}",
        next="remove them: no deeper tree is listed or compared",
    )


def read(root: int, path: str, offset: int, limit: int | None) -> FileSlice:
    fd = beneath.open_regular(root, path)
    try:
        status = os.fstat(fd)
        offset = max(0, offset)
        left = max(0, status.st_size - offset)
        data = bytearray()
        wanted = left if limit is None else min(limit, left)
        while len(data) < wanted:
            chunk = os.pread(fd, min(wanted - len(data), 1 << 20), offset + len(data))
            if not chunk:
                break
            data += chunk
        return FileSlice(bytes(data), offset, status.st_size, stat.S_IMODE(status.st_mode))
    finally:
        os.close(fd)


def write(root: int, path: str, data: bytes, mode: int | None) -> None:
    with beneath.parent_of(root, path, make=True) as (folder, name):
        if not name:
            raise refused(path or ".", "is a folder")
        kept = existing_mode(folder, name, path)
        wanted = kept if mode is None else mode
        try:
            _replace(folder, name, data, 0o644 if wanted is None else wanted)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise SandboxFull(
                    f"{path!r} with {len(data)} bytes does not fit: the sandbox's disk is full",
                    next="remove files, or give it a larger limits.disk_mb",
                ) from error
            raise


def existing_mode(folder: int, name: str, path: str) -> int | None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise refused(path, f"is {beneath.kind_of(status.st_mode)}, not a regular file")
    return stat.S_IMODE(status.st_mode)


def _replace(folder: int, name: str, data: bytes, mode: int) -> None:
    new = f".manyhands-{os.getpid()}-{next(_numbers)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(new, flags, 0o600, dir_fd=folder)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fchmod(fd, mode & 0o777)
        finally:
            os.close(fd)
        os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(new, dir_fd=folder)
        raise


def delete(root: int, path: str) -> None:
    with beneath.parent_of(root, path, follow=False) as (folder, name):
        if not name:
            raise refused(path or ".", "is a folder")
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            raise missing(path, "is a folder, not a file")
        os.unlink(name, dir_fd=folder)


def glob(root: int, pattern: str, limit: int) -> list[str]:
    """Names that begin with a dot are found where the pattern says the dot, as in a shell."""
    parts = beneath.parts_of(pattern)
    if ".." in parts:
        raise refused(pattern, "leads out of the workspace")
    found: dict[str, None] = {}
    for path in _matches(root, "", parts, 0):
        found[path] = None
        if len(found) >= limit:
            break
    return sorted(found)


def _matches(folder: int, where: str, parts: list[str], depth: int) -> Iterator[str]:
    if not parts:
        return
    if depth > DEPTH:
        raise too_deep(where)
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _matches(folder, where, rest, depth)
    for name, is_folder in entries(folder):
        if name.startswith(".") and not part.startswith("."):
            continue
        if part != "**" and not fnmatch.fnmatchcase(name, part):
            continue
        if is_folder:
            below = parts if part == "**" else rest
            yield from _below(folder, name, where, below, depth)
        elif not rest:
            yield where + name


def _below(folder: int, name: str, where: str, parts: list[str], depth: int) -> Iterator[str]:
    if not parts:
        return
    try:
        fd = os.open(name, beneath.DIRECTORY, dir_fd=folder)
    except OSError:
        return  # gone, replaced by a link, or not readable
    try:
        yield from _matches(fd, f"{where}{name}/", parts, depth + 1)
    finally:
        os.close(fd)


def entries(folder: int) -> list[tuple[str, bool]]:
    """(name, whether it is a folder), in order. Pipes, sockets and devices are left out."""
    with os.scandir(folder) as found:
        return sorted(
            (entry.name, entry.is_dir(follow_symlinks=False))
            for entry in found
            if entry.is_dir(follow_symlinks=False)
            or entry.is_file(follow_symlinks=False)
            or entry.is_symlink()
        )
