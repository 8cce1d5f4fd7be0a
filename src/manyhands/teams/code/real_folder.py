"""The user's own folder: looked at and opened component by component, never along a link.

Invariant: a path that leads out of the folder, or through a link, is an `OSError`, not a look.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from manyhands.agents.workspace.tree import Node, blob_name
from manyhands.errors import ConfigError
from manyhands.teams.code.states import ancestors, link_node

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def opened(folder: Path) -> Generator[int]:
    try:
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be opened: {error.strerror}", next="name a folder that is there"
        ) from error
    try:
        yield root
    finally:
        os.close(root)


@contextmanager
def parent_of(root: int, path: str, *, make: bool = False) -> Generator[tuple[int, str]]:
    """The open folder that ``path`` lies in, and its name there. Raises OSError where a link or a
    file is on the way."""
    *folders, name = path.split("/")
    if any(part in ("", ".", "..") for part in (*folders, name)):
        raise ConfigError(f"{path!r} is no path within a folder", next="leave it out of the change")
    here = os.dup(root)
    try:
        for part in folders:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=here)
            below = os.open(part, FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here, name
    finally:
        os.close(here)


def node_at(root: int, path: str) -> Node | None:
    """Raises OSError for what cannot be looked at, such as anything behind a link."""
    try:
        with parent_of(root, path) as (folder, name):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                return link_node(os.readlink(name, dir_fd=folder))
            if stat.S_ISDIR(status.st_mode):
                return Node(kind="folder")
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "neither a file nor a link")
            with open(os.open(name, _READ, dir_fd=folder), "rb") as file:
                content = file.read()
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None if _file_above(root, path) else _raise_link(path)
    mode = stat.S_IMODE(status.st_mode)
    return Node(kind="file", mode=mode, size=len(content), blob=blob_name(content))


def _file_above(root: int, path: str) -> bool:
    """Whether a file, and no link, is what ends the way to ``path``."""
    for above in ancestors(path):
        found = node_at(root, above)
        if found is None or found.kind != "folder":
            return found is not None and found.kind == "file"
    return False


def _raise_link(path: str) -> None:
    raise OSError(errno.ELOOP, "a link is on the way to it")


def files_below(root: int, folder: str) -> Iterable[str]:
    """All that lies below and is no folder."""
    with parent_of(root, f"{folder}/*") as (here, _):
        names = sorted(os.listdir(here))
        kinds = {name: os.stat(name, dir_fd=here, follow_symlinks=False).st_mode for name in names}
    for name in names:
        path = f"{folder}/{name}"
        if stat.S_ISDIR(kinds[name]):
            yield from files_below(root, path)
        else:
            yield path
