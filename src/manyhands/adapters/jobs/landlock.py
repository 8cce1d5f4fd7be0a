"""The level without privileges: the kernel's Landlock allow-list, and a filter of system calls.

Used where namespaces are not allowed (most containers). Nothing can be mounted over a path here,
so a hidden path is left out of the allow-list by allowing its neighbours one by one; its name
stays visible, its content does not. What appears beside it later is not readable either.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from manyhands.errors import JobError
from manyhands.isolation import paths
from manyhands.ports import JobSpec

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEVICE = 1 << 14, 1 << 15
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE
READ = EXECUTE | READ_FILE | READ_DIR
#: All rights of the file system that each version of the kernel's interface knows.
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
TCP_RIGHTS = 0b11
SCOPES = 0b11
CREATE_RULESET = 444
VERSION_FLAG = 1
#: Devices without which few programs run.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

#: audit architecture, then the numbers of socket and io_uring_setup
SYSTEM_CALLS = {"x86_64": (0xC000003E, 41, 425), "aarch64": (0xC00000B7, 198, 425)}
AF_UNIX = 1
EACCES, ENOSYS = 13, 38


@dataclass(frozen=True, slots=True)
class Landlock:
    """What this kernel's interface of version ``abi`` can enforce."""

    abi: int

    @property
    def rights(self) -> int:
        return RIGHTS[max(known for known in RIGHTS if known <= self.abi)]

    @property
    def guards_signals(self) -> bool:
        return self.abi >= 6

    @property
    def blocks_network(self) -> bool:
        return platform.machine() in SYSTEM_CALLS


@functools.cache
def probe() -> Landlock | str:
    """What the kernel offers, else why nothing."""
    if sys.platform != "linux":
        return "Landlock is a part of Linux"
    call = ctypes.CDLL(None, use_errno=True).syscall
    abi = int(call(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG))
    if abi >= 1:
        return Landlock(abi)
    return f"this kernel offers no Landlock: {os.strerror(ctypes.get_errno())}"


def attributes(landlock: Landlock, *, network: bool) -> bytes:
    """``struct landlock_ruleset_attr`` as long as this kernel knows it."""
    packed = struct.pack("=Q", landlock.rights)
    if landlock.abi >= 4:
        packed += struct.pack("=Q", 0 if network else TCP_RIGHTS)
    if landlock.abi >= 6:
        packed += struct.pack("=Q", SCOPES)
    return packed


def rules(landlock: Landlock, spec: JobSpec, scratch: Path) -> list[tuple[str, int]]:
    """(path, access bits): all that the job may reach."""
    hidden = {str(paths.real(path)) for path in paths.existing(spec.hidden)}
    above = {str(parent) for path in hidden for parent in Path(path).parents}
    own = [str(paths.real(folder)) for folder in (spec.cwd, spec.out, scratch)]
    for folder in own:
        if folder in above or folder in hidden:
            raise JobError(
                f"job {spec.key!r}: something hidden lies in its writable folder {folder}, "
                "which Landlock cannot enforce",
                next="install bubblewrap, or keep hidden files out of the job's folders",
            )
    found: dict[str, int] = {}
    for path in {paths.real(p) for p in [*paths.readable(network=spec.network), *spec.read]}:
        for name, access in _carve(str(path), path.is_dir(), hidden, above):
            found[name] = found.get(name, 0) | access
    found |= {"/proc": READ_FILE | READ_DIR} | dict.fromkeys(own, landlock.rights)
    file_access = (READ_FILE | WRITE_FILE | IOCTL_DEVICE) & landlock.rights
    for device in (*map(Path, DEVICES), *paths.devices()):
        found[str(device)] = file_access | (READ_DIR if device.is_dir() else 0)
    return list(found.items())


def _carve(path: str, folder: bool, hidden: set[str], above: set[str]) -> Iterator[tuple[str, int]]:
    """Rules that allow reading ``path`` but nothing of ``hidden``.

    The kernel refuses rights of folders on a file.
    """
    if path in hidden:
        return
    if path not in above:
        yield path, READ if folder else READ & FILE_RIGHTS
        return
    yield path, READ_DIR
    for entry in _entries(path):
        # What a link leads to has rules of its own.
        if not entry.is_symlink():
            yield from _carve(entry.path, entry.is_dir(follow_symlinks=False), hidden, above)


def _entries(path: str) -> Iterable[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:
        return ()


def network_filter() -> bytes | None:
    """A seccomp program: no socket but a Unix one, and no io_uring, which could open one too.

    None where this machine's system calls are not known here. Source: linux/filter.h (classic
    BPF), linux/seccomp.h (``struct seccomp_data``: number at 0, architecture at 4, arguments
    from 16, little-endian).
    """
    known = SYSTEM_CALLS.get(platform.machine())
    if known is None:
        return None
    architecture, socket, io_uring = known
    load, equal, at_least, leave = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000
    program = [
        (load, 0, 0, 4),
        (equal, 0, 7, architecture),  # another architecture's numbers: refused
        (load, 0, 0, 0),
        (at_least, 5, 0, 0x40000000),  # x32: refused
        (equal, 5, 0, io_uring),
        (equal, 0, 2, socket),
        (load, 0, 0, 16),
        (equal, 0, 1, AF_UNIX),
        (leave, 0, 0, allow),
        (leave, 0, 0, refuse | EACCES),
        (leave, 0, 0, refuse | ENOSYS),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in program)
