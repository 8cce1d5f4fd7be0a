"""Where a sandbox's files lie: layers that the kernel merges, or a copy.

Both keep the base as it was, have every snapshot at hand as a folder, and forget all at `close`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from manyhands.errors import SandboxError
from manyhands.isolation import processes
from manyhands.isolation.endings import remove
from manyhands.isolation.limits import DiskMeter
from manyhands.ports import Change, JobLimits, SandboxLimits

from .beneath import DIRECTORY
from .changes import ALL, Comparison, Touched, touched
from .namespaces import Namespaces, open_namespaces
from .rules import no_snapshot

PREFIX = "manyhands-sandbox-"
#: The most layers: the kernel takes their names on one page.
LAYERS = 400


class Workspace(Protocol):
    """``path``: where it lies for who mounts it, or for commands without isolation."""

    @property
    def path(self) -> str: ...

    @property
    def namespaces(self) -> Namespaces | None: ...

    def view(self, number: int | None) -> int:
        """An open folder: the present state, or that of a snapshot. Who asks closes it."""
        ...

    def changes(self, since: int) -> list[Change]: ...

    def snapshot(self) -> int: ...

    def fork(self, limits: SandboxLimits) -> Workspace: ...

    def disk(self) -> DiskMeter | None:
        """Watches what is written, where the kernel does not limit it."""
        ...

    def full(self) -> bool: ...

    def close(self) -> None: ...


@contextmanager
def opened(workspace: Workspace, number: int | None) -> Generator[int]:
    fd = workspace.view(number)
    try:
        yield fd
    finally:
        os.close(fd)


@dataclass(slots=True)
class Layers:
    """An overlay: the base below, what is written above it on a tmpfs of limited size.

    ``start``: how many layers lay below at the start (more than one in a fork).
    """

    base: str
    space: Namespaces
    start: int = 1

    @property
    def path(self) -> str:
        return f"{self.space.folder}/view"

    @property
    def namespaces(self) -> Namespaces | None:
        return self.space

    def view(self, number: int | None) -> int:
        if number is None:
            name = "view"
        elif number == 0:
            name = "lower/0" if self.start == 1 else "views/0"
        else:
            name = f"views/{self.start + number - 1}"
        try:
            return os.open(name, DIRECTORY, dir_fd=self.space.root)
        except FileNotFoundError:
            raise no_snapshot(number or 0) from None

    def changes(self, since: int) -> list[Change]:
        look = Touched()
        for number in range(self.start + since, self.space.layers + 1):
            layer = os.open(f"layers/{number}/up", DIRECTORY, dir_fd=self.space.root)
            try:
                touched(layer, look)
            finally:
                os.close(layer)
        with opened(self, since) as old, opened(self, None) as new:
            return list(Comparison().folders(old, new, "", look))

    def snapshot(self) -> int:
        if self.space.layers >= LAYERS:
            raise SandboxError(
                f"a sandbox has {LAYERS} snapshots at most",
                next="take its diff, and go on in a new one",
            )
        return self.space.push() - self.start + 1

    def fork(self, limits: SandboxLimits) -> Layers:
        self.snapshot()
        space = self.space.fork(limits.disk_mb)
        return Layers(self.base, space, start=space.layers)

    def disk(self) -> DiskMeter | None:
        return None

    def full(self) -> bool:
        free = os.fstatvfs(self.space.root)
        return free.f_bavail == 0 or free.f_favail == 0

    def close(self) -> None:
        self.space.close()


def open_layers(base: Path, limits: SandboxLimits) -> Layers:
    return Layers(str(base), open_namespaces(str(base), limits.disk_mb))


@dataclass(slots=True)
class Copy:
    """A copy on the disk, watched against its limit; a snapshot is another copy.

    ``space``: the namespaces of its commands; None: they have none. ``stamps``: of each snapshot
    a change time of the file system, taken after the copy: what carries an older one is unchanged.
    """

    folder: Path
    limits: SandboxLimits
    space: Namespaces | None = None
    stamps: list[int] = field(default_factory=list[int])

    @property
    def path(self) -> str:
        return str(self.folder / "work")

    @property
    def namespaces(self) -> Namespaces | None:
        return self.space

    def view(self, number: int | None) -> int:
        name = "work" if number is None else f"snapshot-{number}"
        try:
            return os.open(self.folder / name, DIRECTORY)
        except FileNotFoundError:
            raise no_snapshot(number or 0) from None

    def changes(self, since: int) -> list[Change]:
        with opened(self, since) as old, opened(self, None) as new:
            return list(Comparison(self.stamps[since]).folders(old, new, "", ALL))

    def snapshot(self) -> int:
        number = len(self.stamps)
        copy(self.folder / "work", self.folder / f"snapshot-{number}")
        self.stamps.append(stamp(self.folder))
        return number

    def fork(self, limits: SandboxLimits) -> Copy:
        return open_copy(self.folder / "work", limits, isolated=self.space is not None)

    def disk(self) -> DiskMeter | None:
        parts = [self.folder / name for name in ("work", "tmp", "home") if self.has(name)]
        meter = DiskMeter(parts, JobLimits(disk_mb=self.limits.disk_mb))
        meter.begin()
        return meter

    def has(self, name: str) -> bool:
        return (self.folder / name).is_dir()

    def full(self) -> bool:
        return False

    def close(self) -> None:
        if self.space is not None:
            self.space.close()
        remove(self.folder)


def open_copy(base: Path, limits: SandboxLimits, *, isolated: bool) -> Copy:
    """``base`` itself may be given up or change afterwards: the start is copied, too."""
    remove_old()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{processes.owner()}."))
    try:
        copy(base, folder / "snapshot-0")
        copy(folder / "snapshot-0", folder / "work")
        space = open_namespaces("", limits.disk_mb) if isolated else None
        if not isolated:
            for name in ("tmp", "home"):
                (folder / name).mkdir()
        return Copy(folder, limits, space, [stamp(folder)])
    except BaseException:
        remove(folder)
        raise


def stamp(folder: Path) -> int:
    """A change time of this moment, as the file system counts it."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        return os.stat(file.name).st_ctime_ns


def copy(source: Path, target: Path) -> None:
    """Contents, links, permissions and times; all belongs to this user. Where the file system can
    share blocks until they are written to, it does; no file is linked to another."""
    how = ["--reflink=auto", "--preserve=mode,timestamps,links"] if sys.platform == "linux" else []
    target.mkdir()
    command = ["cp", "-RP", *(how or ["-p"]), "--", f"{source}/.", str(target)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SandboxError(
            f"{source} could not be copied: {done.stderr.strip()[-300:]}",
            next="is there room on the disk, and may this user read all of it?",
        )


def remove_old() -> None:
    """Copies of processes that are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if not processes.owner_lives(folder.name.removeprefix(PREFIX)):
            remove(folder)
