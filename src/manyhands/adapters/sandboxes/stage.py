"""Makes the namespaces of a sandbox and what is mounted in them; hands them over; ends.

It runs as a script (``python -I -S stage.py FD``), so it imports nothing of the package. FD is a
socket on which the harness sends one ``Order`` (marshal). Back comes ``ok`` with descriptors (the
mount namespace, the network namespace, the root of the sandbox's tmpfs), or the error's text.

Invariants: no process is needed to keep a sandbox: it lives as long as its descriptors are open,
and all that was written in it is gone with the last of them. All that it holds lies on one tmpfs
with a limit, at a folder that is empty for everybody else::

    tmp home shm       what commands see as /tmp, their home, /dev/shm
    lower/0..N         the layers below: the base, then what was frozen
    layers/N/up|work   what was written since the last freeze
    view               all of them merged: the workspace
    views/K            as it was at snapshot K
"""

from __future__ import annotations

import _socket
import array
import ctypes
import marshal
import os
import sys

#: Modes: ``open`` (a new one), ``push`` (freeze the top layer), ``fork`` (a new one above it).
#: mode, the folder, bytes, files, base ("": no overlay), layers frozen so far, (mnt) or ()
Order = tuple[str, str, int, int, str, int, "tuple[int, ...]"]

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV = 1, 2, 4
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
NS_GET_USERNS = 0xB701
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
LIBRARY = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    """A C library call that raises OSError when it fails."""
    result = int(getattr(LIBRARY, name)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name} {arguments[1:3]!r}: {os.strerror(number)}")
    return result


def mount(source: str, place: str, kind: str, flags: int, options: str = "") -> None:
    call(
        "mount",
        os.fsencode(source),
        os.fsencode(place),
        kind.encode(),
        ctypes.c_ulong(flags),
        os.fsencode(options),
    )


def write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def new_user() -> None:
    """A namespace of users in which this one may mount, and all that belongs to it."""
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET)
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{uid} {uid} 1")
    write("/proc/self/gid_map", f"{gid} {gid} 1")
    mount("", "/", "", MS_REC | MS_PRIVATE)


def enter(namespace: int) -> None:
    """The mount namespace, and the namespace of users that it belongs to."""
    owner = call("ioctl", namespace, ctypes.c_ulong(NS_GET_USERNS))
    call("setns", owner, CLONE_NEWUSER)
    call("setns", namespace, CLONE_NEWNS)


def loopback() -> None:
    """``lo`` comes down; programs expect it."""
    request = b"lo".ljust(16, b"\0") + IFF_UP.to_bytes(2, sys.byteorder) + bytes(22)
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM, 0)
    try:
        call("ioctl", sock.fileno(), ctypes.c_ulong(SIOCSIFFLAGS), request)
    finally:
        sock.close()


def ground(folder: str, size: int, files: int) -> None:
    """The tmpfs with its folders."""
    options = f"size={size},nr_inodes={files},mode=755"
    mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, options)
    os.chdir(folder)
    for name, mode in (("tmp", 0o1777), ("home", 0o700), ("shm", 0o1777)):
        os.mkdir(name)
        os.chmod(name, mode)
    for name in ("lower", "layers", "views", "view"):
        os.mkdir(name)


def merge(place: str, lower: int, top: int | None) -> None:
    """``lower`` layers, the newest first, and the writable one above them."""
    os.chdir("lower")
    options = "userxattr,lowerdir=" + ":".join(str(number) for number in reversed(range(lower)))
    flags = MS_NOSUID | MS_NODEV
    if top is None:
        flags |= MS_RDONLY
    else:
        options += f",upperdir=../layers/{top}/up,workdir=../layers/{top}/work"
    mount("overlay", f"../{place}", "overlay", flags, options)
    os.chdir("..")


def new_top(lower: int) -> None:
    """A writable layer above ``lower`` others; its folder is like the one that it covers."""
    os.mkdir(f"layers/{lower}")
    os.mkdir(f"layers/{lower}/work")
    os.mkdir(f"layers/{lower}/up")
    os.chmod(f"layers/{lower}/up", os.stat(f"lower/{lower - 1}").st_mode & 0o7777)
    merge("view", lower, lower)


def open_new(folder: str, size: int, files: int, base: str) -> None:
    new_user()
    source = os.open(base, os.O_PATH | os.O_CLOEXEC) if base else -1
    ground(folder, size, files)
    if base:
        os.mkdir("lower/0")
        mount(f"/proc/self/fd/{source}", "lower/0", "", MS_BIND | MS_REC)
        os.close(source)
        new_top(1)
    loopback()


def push(folder: str, lower: int) -> None:
    """What was written so far is frozen: the layer below a new, empty one."""
    os.chdir(folder)
    call("umount2", b"view", MNT_DETACH)
    os.mkdir(f"lower/{lower}")
    mount(f"layers/{lower}/up", f"lower/{lower}", "", MS_BIND)
    os.mkdir(f"views/{lower}")
    merge(f"views/{lower}", lower + 1, None)
    new_top(lower + 1)


def fork(folder: str, size: int, files: int, lower: int) -> None:
    """A sandbox of its own above the frozen layers of another, whose tmpfs it keeps alive."""
    call("unshare", CLONE_NEWNS | CLONE_NEWNET)
    sources = [os.open(f"{folder}/lower/{n}", os.O_PATH | os.O_CLOEXEC) for n in range(lower)]
    ground(folder, size, files)
    for number, source in enumerate(sources):
        os.mkdir(f"lower/{number}")
        mount(f"/proc/self/fd/{source}", f"lower/{number}", "", MS_BIND | MS_REC)
        os.close(source)
    os.mkdir("views/0")
    merge("views/0", lower, None)
    new_top(lower)
    loopback()


def work(order: Order) -> list[int]:
    mode, folder, size, files, base, lower, namespaces = order
    if mode == "open":
        open_new(folder, size, files, base)
    else:
        enter(namespaces[0])
        if mode == "push":
            push(folder, lower)
            return []
        fork(folder, size, files, lower)
    named = ("/proc/self/ns/mnt", "/proc/self/ns/net")
    return [os.open(name, os.O_RDONLY) for name in named] + [os.open(folder, os.O_PATH)]


def main(control: int) -> None:
    sock = _socket.socket(fileno=control)
    order: Order = marshal.loads(sock.recv(65536))
    try:
        made = work(order)
    except OSError as error:
        sock.send(f"{order[0]}: {error.strerror or error}".encode())
        os._exit(1)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", made))] if made else []
    sock.sendmsg([b"ok"], rights)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
