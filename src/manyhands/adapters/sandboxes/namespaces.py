"""The namespaces of a sandbox as its harness holds them: three descriptors, and no process.

Invariant: while the descriptors are open the sandbox exists; once they are closed (or this
process is gone, however it ended) the kernel takes down all that was mounted and written in it.
"""

from __future__ import annotations

import array
import contextlib
import marshal
import os
import socket
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from manyhands.errors import SandboxError

from . import stage

SCRIPT = str(Path(stage.__file__))
SECONDS = 30.0
#: The interpreter itself: that of an environment may lie in a workspace, and be replaced there.
PYTHON = os.path.realpath(sys.executable)
#: A file costs the kernel memory, too: one for so many bytes.
BYTES_PER_FILE = 4096
FEWEST_FILES = 4096
MB = 2**20
FD_ADVICE = "raise the limit of open files (ulimit -n): a sandbox holds three"


@dataclass(slots=True)
class Namespaces:
    """``layers``: how many lie below the writable one. ``folder``: where all is mounted."""

    mnt: int
    net: int
    root: int
    folder: str
    layers: int

    def close(self) -> None:
        for fd in (self.mnt, self.net, self.root):
            if fd >= 0:
                os.close(fd)
        self.mnt = self.net = self.root = -1

    def push(self) -> int:
        """Freeze what was written; the number of the snapshot."""
        ask(("push", self.folder, 0, 0, "", self.layers, (self.mnt,)))
        self.layers += 1
        return self.layers - 1

    def fork(self, disk_mb: int) -> Namespaces:
        """Above all that is frozen: what lies in the writable layer is not seen."""
        size, files = sizes(disk_mb)
        order = ("fork", self.folder, size, files, "", self.layers, (self.mnt,))
        return held(order, self.layers)


def open_namespaces(base: str, disk_mb: int) -> Namespaces:
    """``base``: below the writable layer; empty: no workspace is made. Raises SandboxError."""
    folder = meeting_place()
    size, files = sizes(disk_mb)
    return held(("open", folder, size, files, base, 0, ()), 1)


def held(order: stage.Order, layers: int) -> Namespaces:
    mnt, net, root = ask(order)
    return Namespaces(mnt, net, root, order[1], layers)


def sizes(disk_mb: int) -> tuple[int, int]:
    size = max(1, disk_mb) * MB
    return size, max(FEWEST_FILES, size // BYTES_PER_FILE)


def meeting_place() -> str:
    """An empty folder of this user, the same for all sandboxes: each mounts there what only it
    can see."""
    path = Path(tempfile.gettempdir()) / f"manyhands-sandboxes-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise SandboxError(
            f"{path} is not a folder of this user, and sandboxes are mounted there",
            next="remove it, or set TMPDIR to a folder that only you can write to",
        )
    return str(path)


def ask(order: stage.Order) -> list[int]:
    """Have ``stage`` do it. Blocks for some milliseconds."""
    try:
        return _ask(order)
    except OSError as error:
        raise SandboxError(
            f"a sandbox could not be made: {error.strerror or error}", next=FD_ADVICE
        ) from error


def _ask(order: stage.Order) -> list[int]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(SECONDS)
        handed = (theirs.fileno(), *order[-1])
        with subprocess.Popen(
            [PYTHON, "-I", "-S", SCRIPT, str(theirs.fileno())],
            pass_fds=handed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={},
            cwd="/",
        ) as process:
            theirs.close()
            ours.send(marshal.dumps(order))
            text, rights, _, _ = ours.recvmsg(4096, socket.CMSG_LEN(3 * 4))
            found = array.array("i")
            for _, kind, data in rights:
                if kind == socket.SCM_RIGHTS:
                    found.frombytes(data[: len(data) - len(data) % found.itemsize])
            said = process.communicate()[1]
    if text == b"ok":
        return list(found)
    reason = text.decode(errors="replace") or said.decode(errors="replace").strip()[-300:]
    raise SandboxError(
        f"the kernel refused a sandbox: {reason}",
        next="`manyhands doctor` says what this machine offers",
    )
