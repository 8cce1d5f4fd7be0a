"""What differs between two states of a workspace, both as open folders.

Invariant: what is reported is what the two views show, compared byte by byte; what a layer holds
only says where to look. Nothing is looked at through a link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from manyhands.ports import Change, ChangeKind

from .beneath import DIRECTORY
from .files import DEPTH, too_deep

OPAQUE = "user.overlay.opaque"
CHUNK = 1 << 16


@dataclass(slots=True)
class Touched:
    """Names below a folder that may differ; ``whole``: any may."""

    whole: bool = False
    below: dict[str, Touched] = field(default_factory=dict[str, "Touched"])


ALL = Touched(whole=True)


def touched(layer: int, into: Touched, depth: int = 0) -> None:
    """Add what an overlay's layer holds: entries, whiteouts, and folders that hide all below."""
    if depth > DEPTH:
        raise too_deep("the writable layer")
    into.whole = into.whole or _opaque(layer)
    with os.scandir(layer) as found:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, is_folder in names:
        child = into.below.setdefault(name, Touched())
        if not is_folder:
            child.whole = True  # a folder of a later layer may be there again, with other files
            continue
        fd = _open(name, layer)
        if fd is not None:
            try:
                touched(fd, child, depth + 1)
            finally:
                os.close(fd)


def _opaque(folder: int) -> bool:
    try:
        return os.getxattr(folder, OPAQUE) == b"y"
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Comparison:
    """``since``: where the new side's files carry an older change time (ns), they are those of
    the old side, for no program can set that time. 0: all are compared."""

    since: int = 0

    def folders(
        self, old: int | None, new: int | None, where: str, look: Touched, depth: int = 0
    ) -> Iterator[Change]:
        """Either side may be missing (None): then all of the other is new, or gone."""
        if depth > DEPTH:
            raise too_deep(where)
        if look.whole or old is None or new is None:
            names = sorted({*_names(old), *_names(new)})
        else:
            names = sorted(look.below)
        for name in names:
            below = look.below.get(name) or (ALL if look.whole else Touched())
            yield from self.entry(old, new, name, where + name, below, depth)

    def entry(
        self, old: int | None, new: int | None, name: str, path: str, look: Touched, depth: int
    ) -> Iterator[Change]:
        before, after = _status(name, old), _status(name, new)
        was_folder = before is not None and stat.S_ISDIR(before.st_mode)
        is_folder = after is not None and stat.S_ISDIR(after.st_mode)
        if was_folder or is_folder:
            yield from self._into(
                (name, old if was_folder else None),
                (name, new if is_folder else None),
                path,
                look if was_folder and is_folder else ALL,
                depth,
            )
        if not was_folder and before is not None and after is None:
            yield Change(path, ChangeKind.DELETED)
        elif not is_folder and after is not None:
            yield from self._file(old, new, name, path, None if was_folder else before, after)
        elif is_folder and not was_folder:
            if before is not None:
                yield Change(path, ChangeKind.DELETED)
            yield from _empty(new, name, path, after)

    def _into(
        self,
        old: tuple[str, int | None],
        new: tuple[str, int | None],
        path: str,
        look: Touched,
        depth: int,
    ) -> Iterator[Change]:
        one = _open(*old) if old[1] is not None else None
        two = _open(*new) if new[1] is not None else None
        try:
            yield from self.folders(one, two, f"{path}/", look, depth + 1)
        finally:
            for fd in (one, two):
                if fd is not None:
                    os.close(fd)

    def _file(
        self,
        old: int | None,
        new: int | None,
        name: str,
        path: str,
        before: os.stat_result | None,
        after: os.stat_result,
    ) -> Iterator[Change]:
        mode = stat.S_IMODE(after.st_mode)
        if stat.S_ISLNK(after.st_mode):
            link = os.readlink(name, dir_fd=new)
            same = before is not None and stat.S_ISLNK(before.st_mode)
            if not same or os.readlink(name, dir_fd=old) != link:
                yield Change(path, ChangeKind.SYMLINK, mode, len(link), link)
            return
        if not stat.S_ISREG(after.st_mode):
            if before is not None:  # a pipe, a socket or a device took its place
                yield Change(path, ChangeKind.DELETED)
            return
        if before is None:
            yield Change(path, ChangeKind.ADDED, mode, after.st_size)
        elif not stat.S_ISREG(before.st_mode) or self._differs(old, new, name, before, after):
            yield Change(path, ChangeKind.MODIFIED, mode, after.st_size)
        elif stat.S_IMODE(before.st_mode) != mode:
            yield Change(path, ChangeKind.MODE, mode, after.st_size)

    def _differs(
        self,
        old: int | None,
        new: int | None,
        name: str,
        before: os.stat_result,
        after: os.stat_result,
    ) -> bool:
        if before.st_size != after.st_size:
            return True
        if after.st_ctime_ns < self.since:
            return False
        return _content_differs(old, new, name)


def _content_differs(old: int | None, new: int | None, name: str) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with (
        open(os.open(name, flags, dir_fd=old), "rb", buffering=0) as one,
        open(os.open(name, flags, dir_fd=new), "rb", buffering=0) as two,
    ):
        while True:
            first, second = one.read(CHUNK), two.read(CHUNK)
            if first != second:
                return True
            if not first:
                return False


def _empty(
    folder: int | None, name: str, path: str, status: os.stat_result | None
) -> Iterator[Change]:
    """A new folder without anything in it is a change of its own."""
    fd = _open(name, folder)
    if fd is None or status is None:
        return
    try:
        if not os.listdir(fd):
            mode = stat.S_IMODE(status.st_mode)
            yield Change(path, ChangeKind.ADDED, mode, folder=True)
    finally:
        os.close(fd)


def _names(folder: int | None) -> list[str]:
    return [] if folder is None else os.listdir(folder)


def _status(name: str, folder: int | None) -> os.stat_result | None:
    if folder is None:
        return None
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _open(name: str, folder: int | None) -> int | None:
    try:
        return os.open(name, DIRECTORY, dir_fd=folder)
    except OSError:
        return None  # not readable: its content is nobody's
