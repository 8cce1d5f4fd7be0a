"""A change brought into the user's own folder.

Invariants: nothing is written unless every file that the change touches still is what it was when
the work began (or is what the change makes of it: an application that was cut off can be done
again); each file is replaced as a whole or not at all; no link is followed, and git's own records
are never touched.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from manyhands.agents.workspace.ground import Ground, Read
from manyhands.agents.workspace.tree import Node, Tree
from manyhands.errors import ConfigError
from manyhands.teams.code.real_folder import FOLDER, files_below, node_at, opened, parent_of
from manyhands.teams.code.states import PERMISSIONS, Changed, Ignored, States, ancestors, in_git

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_STAGE = ".manyhands-apply-"


@dataclass(frozen=True, slots=True)
class Applied:
    """Paths. ``left_out``: what lies below `.git`."""

    written: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def apply_to(
    folder: Path,
    ground: Ground,
    read: Read,
    start: Tree,
    end: Tree,
    ignored: Ignored,
) -> Applied:
    """Bring what leads from ``start`` to ``end`` into ``folder``, which is not the base itself.

    Raises `ConfigError`, with nothing written, naming every file that is not as it was. Nobody
    else may write there meanwhile.
    """
    states = States(ground, read)
    found = states.changed(start, end, ignored)
    left_out = tuple(change.path for change in found if in_git(change.path))
    changes = [change for change in found if not in_git(change.path)]
    with opened(folder) as root:
        if refused := list(_refused(root, changes)):
            raise ConfigError(
                f"{len(refused)} files of {folder} are not as they were when the work began: "
                + ", ".join(refused),
                next="bring them back as they were, or merge the patch by hand",
            )
        _apply(root, folder, states, end, changes)
    return Applied(
        tuple(change.path for change in changes if change.after is not None),
        tuple(change.path for change in changes if change.after is None),
        left_out,
    )


def _refused(root: int, changes: Sequence[Changed]) -> Iterable[str]:
    """Each file that is not as it was, and what else stands in the way."""
    gone = {change.path for change in changes if change.after is None}
    links = {each.path for each in changes if _is_link(each.before) or _is_link(each.after)}
    for change in changes:
        try:
            way = [path for path in ancestors(change.path) if path in links]
            behind = any(_is_link(node_at(root, path)) for path in way)  # of the change itself
            now = None if behind else node_at(root, change.path)
            if now is not None and now.kind == "folder" and _is_file(change.after):
                kept = [path for path in files_below(root, change.path) if path not in gone]
                yield from (f"{path} (where {change.path} is to be)" for path in kept)
            elif not any(_same(now, side) for side in (change.before, change.after)):
                yield change.path
        except OSError as error:
            yield f"{change.path} ({error.strerror})"


def _is_file(node: Node | None) -> bool:
    return node is not None and node.kind in ("file", "link")


def _is_link(node: Node | None) -> bool:
    return node is not None and node.kind == "link"


def _same(now: Node | None, side: Node | None) -> bool:
    """Empty folders and nothing are the same; of permissions, the owner's to execute counts."""
    if not _is_file(now) or not _is_file(side):
        return not _is_file(now) and not _is_file(side)
    assert now is not None
    assert side is not None
    same = (now.kind, now.blob, now.link) == (side.kind, side.blob, side.link)
    return same and not (now.mode ^ side.mode) & 0o100


def _apply(root: int, folder: Path, states: States, end: Tree, changes: Sequence[Changed]) -> None:
    """All new contents lie beside the files before the first is replaced; what need not make way
    is deleted last."""
    stage = f"{_STAGE}{secrets.token_hex(6)}"
    os.mkdir(stage, 0o700, dir_fd=root)
    try:
        with parent_of(root, f"{stage}/*") as (staged, _):
            placed = [change for change in changes if _is_file(change.after)]
            for number, change in enumerate(placed):
                _stage(root, staged, str(number), states, end, change)
            gone = {change.path for change in changes if change.after is None}
            new = {change.path for change in changes if change.after is not None}
            first = {path for path in gone if _makes_way(path, new)}
            _delete(root, sorted(first))
            for number, change in enumerate(placed):
                _place(root, staged, str(number), change.path)
            for change in changes:
                if change.after is not None and change.after.kind == "folder":
                    _make_folder(root, change.path)
            _delete(root, sorted(gone - first))
    finally:
        shutil.rmtree(folder / stage, ignore_errors=True)


def _makes_way(path: str, new: set[str]) -> bool:
    """A file whose place a folder takes, or one in a folder whose place a file takes."""
    return any(each.startswith(f"{path}/") for each in new) or not new.isdisjoint(ancestors(path))


def _stage(root: int, staged: int, name: str, states: States, end: Tree, change: Changed) -> None:
    after = change.after
    assert after is not None
    if after.kind == "link":
        os.symlink(after.link, name, dir_fd=staged)
        return
    mode = after.mode
    if change.before is not None and change.before.mode == mode:
        now = node_at(root, change.path)
        mode = now.mode if now is not None and now.kind == "file" else mode
    with open(os.open(name, _WRITE, 0o600, dir_fd=staged), "wb") as file:
        file.write(states.content(end, change.path))
        file.flush()
        os.fchmod(file.fileno(), mode & PERMISSIONS)
        os.fsync(file.fileno())


def _place(root: int, staged: int, name: str, path: str) -> None:
    with parent_of(root, path, make=True) as (folder, last):
        with suppress(FileNotFoundError, NotADirectoryError):
            _remove_empty(folder, last)
        os.rename(name, last, src_dir_fd=staged, dst_dir_fd=folder)


def _remove_empty(parent: int, name: str) -> None:
    """A folder with nothing but folders in it; all else is left as it is."""
    here = os.open(name, FOLDER, dir_fd=parent)
    try:
        for each in os.listdir(here):
            with suppress(NotADirectoryError):
                _remove_empty(here, each)
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=parent)


def _make_folder(root: int, path: str) -> None:
    with parent_of(root, path, make=True) as (folder, name), suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=folder)


def _delete(root: int, paths: Iterable[str]) -> None:
    """Files, and the folders that are empty without them."""
    for path in paths:
        try:
            with parent_of(root, path) as (folder, name):
                os.unlink(name, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue  # it was gone already
        for above in reversed(ancestors(path)):
            try:
                with parent_of(root, above) as (folder, name):
                    os.rmdir(name, dir_fd=folder)
            except OSError:
                break
