"""Paths that agents wrote, resolved component by component: nothing leads out of the workspace.

Invariant: no system call is ever given more than one component that somebody else could have
replaced by a link, so a link that appears between two looks cannot lead out either. Links within
the workspace are followed; absolute ones, and those that climb out, are refused.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from manyhands.errors import SandboxMissing, SandboxRefused

#: As the kernel's own limit on links in one path.
LINKS = 40
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def refused(path: str, why: str) -> SandboxRefused:
    return SandboxRefused(
        f"path {path!r} {why}", next="name a file of the workspace by a relative path"
    )


def missing(path: str, why: str = "does not exist") -> SandboxMissing:
    return SandboxMissing(f"{path!r} {why}", next="list the workspace to see what is there")


def parts_of(path: str) -> list[str]:
    """The components; raises SandboxRefused for an absolute path or one that no file can have."""
    if "\0" in path or len(path) > 4096:
        raise refused(path[:200], "is not a path")
    if path.startswith("/"):
        raise refused(path, "is absolute")
    return [part for part in path.split("/") if part not in ("", ".")]


@dataclass(slots=True)
class Walk:
    """Where a resolution stands: the open folders from the workspace down, and what is left."""

    path: str
    root: int
    todo: list[str]
    make: bool = False
    folders: list[int] = field(default_factory=list[int])
    links: int = 0

    @property
    def here(self) -> int:
        return self.folders[-1] if self.folders else self.root

    def close(self) -> None:
        for fd in self.folders:
            os.close(fd)
        self.folders.clear()

    def up(self) -> None:
        if not self.folders:
            raise refused(self.path, "leads out of the workspace")
        os.close(self.folders.pop())

    def follow(self, link: str) -> None:
        self.links += 1
        if self.links > LINKS:
            raise refused(self.path, f"has more than {LINKS} links in it")
        if link.startswith("/"):
            raise refused(self.path, f"leads through a link to {link!r}, an absolute path")
        self.todo[:0] = [part for part in link.split("/") if part not in ("", ".")]

    def down(self, name: str) -> None:
        """Into a folder, or along the link that stands there."""
        try:
            self.folders.append(os.open(name, DIRECTORY, dir_fd=self.here))
        except FileNotFoundError:
            if not self.make:
                raise missing(self.path) from None
            os.mkdir(name, 0o755, dir_fd=self.here)
            self.folders.append(os.open(name, DIRECTORY, dir_fd=self.here))
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            link = link_at(name, self.here)
            if link is None:
                raise missing(self.path, f"has {name!r} in it, which is no folder") from None
            self.follow(link)

    def to_parent(self) -> str:
        """Walk to the folder of the last component; its name, "" for the workspace itself."""
        while self.todo:
            name = self.todo.pop(0)
            if name == "..":
                self.up()
            elif self.todo:
                self.down(name)
            elif (link := link_at(name, self.here)) is not None:
                self.follow(link)
            else:
                return name
        return ""

    def to_folder(self) -> str:
        """As `to_parent`, but a link at the end is what is meant, not where it leads."""
        last = self.todo.pop() if self.todo and self.todo[-1] != ".." else ""
        while self.todo:
            name = self.todo.pop(0)
            if name == "..":
                self.up()
            else:
                self.down(name)
        return last


def link_at(name: str, folder: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None


@contextmanager
def parent_of(
    root: int, path: str, *, make: bool = False, follow: bool = True
) -> Generator[tuple[int, str]]:
    """The open folder and the name in it that ``path`` leads to; ``make``: folders on the way.

    ``follow``: along a link that is the last component, too.
    """
    walk = Walk(path, root, parts_of(path), make)
    try:
        name = walk.to_parent() if follow else walk.to_folder()
        yield walk.here, name
    except OSError as error:
        raise as_ours(path, error) from error
    finally:
        walk.close()


def as_ours(path: str, error: OSError) -> SandboxMissing | SandboxRefused:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return missing(path)
    return refused(path[:200], f"cannot be used: {error.strerror}")


def open_regular(root: int, path: str) -> int:
    """A descriptor of a regular file, for reading: no pipe is waited for, no device opened."""
    with parent_of(root, path) as (folder, name):
        if not name:
            raise missing(path or ".", "is a folder")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise missing(path, f"is {kind_of(status.st_mode)}, not a regular file")
        fd = os.open(name, flags, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise missing(path, "is not a regular file")
        return fd


def kind_of(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISLNK, "a link"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return name
    return "a device"
