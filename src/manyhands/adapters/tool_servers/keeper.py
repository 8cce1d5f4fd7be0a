"""The process between Manyhands and a tool server: starts it, and ends all that it leaves.

Invariant: the server's process group does not outlive the other end of the socket, however that end
was lost; kill -9 closes it too. Run as ``python -I -S keeper.py SOCKET COMMAND ARGUMENT…`` in a
session of its own; the server has the keeper's standard streams to itself. Two lines are written to
the socket: the server's process group at its start, how it ended at its end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from typing import NoReturn

#: Seconds from the end of its standard input to SIGTERM, and from there to SIGKILL.
PATIENCE = 2.0
LAST_PATIENCE = 1.0
_PR_SET_PDEATHSIG = 1


def main() -> NoReturn:
    life = socket.socket(fileno=int(sys.argv[1]))
    life.set_inheritable(False)
    # Forked while there is one thread: what runs in the child before `exec` may then be Python.
    server = os.fork()
    if server == 0:
        _become(sys.argv[2:])
    with contextlib.suppress(OSError):
        os.setpgid(server, server)
    _let_go()
    _tell(life, server)
    signal.signal(signal.SIGTERM, lambda how, _: _end(server, signal.Signals(how)))
    threading.Thread(target=_watch, args=(life, server), daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(server, 0)[1])
    _end(server, signal.SIGKILL)
    _tell(life, code)
    os._exit(0)


def _tell(life: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):
        life.sendall(f"{number}\n".encode())


def _become(command: list[str]) -> NoReturn:
    try:
        os.setpgid(0, 0)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
    os._exit(127)


def _let_go() -> None:
    """A pipe that the keeper still held would not end with the server."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


def _watch(life: socket.socket, server: int) -> None:
    with contextlib.suppress(OSError):
        while life.recv(64):
            pass
    time.sleep(PATIENCE)
    _end(server, signal.SIGTERM)
    time.sleep(LAST_PATIENCE)
    _end(server, signal.SIGKILL)


def _end(group: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, how)


if __name__ == "__main__":
    main()
