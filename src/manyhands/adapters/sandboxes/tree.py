"""What a command finds in its sandbox: the file tree, the environment, the limits of the kernel.

The tree starts empty; nothing of the machine is there but what is named here. Folders are mounted
from the outside in, so the deepest entry that names a path decides.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manyhands.errors import SandboxRefused
from manyhands.isolation import limits as tree_limits
from manyhands.isolation import paths, supervisor
from manyhands.isolation.limits import MB
from manyhands.ports import JobLimits, SandboxLimits

SUPERVISOR = Path(supervisor.__file__)
INSIDE = "/run/manyhands/supervisor.py"
HOME = "/home/sandbox"
PYTHON = os.path.realpath(sys.executable)
#: Not writable though they are mounted so. /proc: whoever is root outside may set the kernel's
#: variables (/proc/sys), even without capabilities and in a namespace of users.
LOCKED = ("/proc", "/dev", "/")
#: Threads count, too: so many for each process that there may be (the kernel exempts root).
TASKS = 4
NPROC = getattr(resource, "RLIMIT_NPROC", -1)
NAMESPACES = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--new-session",
    "--as-pid-1",
    "--cap-drop",
    "ALL",
)


@dataclass(frozen=True, slots=True)
class Bwrap:
    path: str
    nsenter: str
    locks_userns: bool


@dataclass(frozen=True, slots=True)
class Tree:
    """``workspace``: where it lies for who mounts; ``place``: where commands find it."""

    workspace: str
    place: str
    ground: str
    readable: tuple[Path, ...] = ()
    scratch: tuple[str, ...] = ()


def arguments(bwrap: Bwrap, tree: Tree) -> list[str]:
    """Of bubblewrap, run inside of the sandbox's namespaces."""
    mounts = [
        ("/proc", ("--proc", "/proc")),
        ("/dev", ("--dev", "/dev")),
        ("/dev/shm", ("--bind", f"{tree.ground}/shm", "/dev/shm")),
        ("/tmp", ("--bind", f"{tree.ground}/tmp", "/tmp")),
        (HOME, ("--bind", f"{tree.ground}/home", HOME)),
        *_readable(tree),
        *((at, ("--bind", f"{tree.ground}/{name}", at)) for name, at in _scratch(tree)),
        (tree.place, ("--bind", tree.workspace, tree.place)),
        *_interpreter(tree),
        (INSIDE, ("--ro-bind", str(SUPERVISOR), INSIDE)),
    ]
    mounts.sort(key=lambda each: len(Path(each[0]).parts))
    locks = [argument for path in LOCKED for argument in ("--remount-ro", path)]
    more = ["--disable-userns"] if bwrap.locks_userns else []
    return [*NAMESPACES, *more, *(one for _, given in mounts for one in given), *locks]


def _scratch(tree: Tree) -> list[tuple[str, str]]:
    """(its name on the sandbox's tmpfs, where commands find it)"""
    return [(f"scratch-{number}", at) for number, at in enumerate(tree.scratch)]


def make_scratch(ground: int, tree: Tree) -> None:
    """``ground``: the open folder of the sandbox's tmpfs."""
    for name, _ in _scratch(tree):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=ground)


def scratch_places(asked: Sequence[str], place: str) -> tuple[str, ...]:
    """Raises SandboxRefused for one that would cover the workspace, or what commands need."""
    taken = [Path(each) for each in (place, HOME, "/tmp", "/proc", "/dev", "/run")]
    taken += paths.readable(network=False)
    for each in asked:
        path = Path(each)
        meets = [t for t in taken if path.is_relative_to(t) or t.is_relative_to(path)]
        if not path.is_absolute() or ".." in path.parts or meets:
            why = f"it meets {meets[0]}" if meets else "it is no absolute path"
            raise SandboxRefused(
                f"a scratch folder cannot be at {each!r}: {why}",
                next="name a folder of its own, as /logs",
            )
        taken.append(path)
    return tuple(os.path.normpath(each) for each in asked)


def _readable(tree: Tree) -> list[tuple[str, tuple[str, ...]]]:
    """Of the machine: programs, settings, the interpreter's packages. What lies in the workspace
    is seen as the workspace has it."""
    named = [*paths.readable(network=False), *tree.readable]
    place = Path(tree.place)
    real = {path: paths.real(path) for path in map(paths.absolute, named)}
    kept = {path: target for path, target in real.items() if not path.is_relative_to(place)}
    targets = _outermost(target for target in kept.values() if not target.is_relative_to(place))
    found: list[tuple[str, tuple[str, ...]]] = [
        (str(path), ("--ro-bind", str(path), str(path))) for path in targets
    ]
    for path, target in kept.items():
        if path != target and not any(path.is_relative_to(each) for each in targets):
            found.append((str(path), ("--symlink", str(target), str(path))))
    return found


def _interpreter(tree: Tree) -> list[tuple[str, tuple[str, ...]]]:
    """That of the supervisor: no workspace covers it, for the supervisor's word is trusted."""
    prefix = str(Path(PYTHON).parent.parent)
    if not prefix.startswith(f"{tree.place}/"):
        return []  # it is among what is readable
    return [(prefix, ("--ro-bind", prefix, prefix))]


def _outermost(found: Iterable[Path]) -> list[Path]:
    kept: list[Path] = []
    for path in sorted(set(found)):
        if not any(path.is_relative_to(each) for each in kept):
            kept.append(path)
    return kept


def environment(home: str, scratch: str, given: Mapping[str, str]) -> dict[str, str]:
    """Built from nothing: no variable of this process reaches a command but through ``given``."""
    folders = [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
    return {
        "PATH": os.pathsep.join(dict.fromkeys(folders)),
        "HOME": home,
        "TMPDIR": scratch,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "USER": "sandbox",
        # Output is streamed, and a killed command's last words shall be read.
        "PYTHONUNBUFFERED": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "PAGER": "cat",
    } | dict(given)


def rlimits(limits: SandboxLimits, *, own_namespace: bool) -> list[tuple[int, int]]:
    """(resource, value) for the command and all that it starts; each counts per process."""
    common = JobLimits(memory_mb=limits.memory_mb, disk_mb=limits.disk_mb)
    values = [
        (number, min(value, limits.processes * TASKS) if number == NPROC else value)
        for number, value in tree_limits.rlimits(common, 0, own_namespace=own_namespace)
    ]
    values.append((resource.RLIMIT_NOFILE, limits.open_files))
    if limits.cpu_seconds is not None:
        values.append((resource.RLIMIT_CPU, limits.cpu_seconds))
    if limits.address_space_mb is not None:
        values.append((resource.RLIMIT_AS, limits.address_space_mb * MB))
    return values


def shell(command: str | Sequence[str]) -> list[str]:
    """Text is for a shell, a sequence is run as it is."""
    if not isinstance(command, str):
        return list(command)
    name = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
    return [name, "-c", command]
