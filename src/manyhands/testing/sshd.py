"""A real OpenSSH server on this machine's loopback, of this user, with keys of its own.

``with SshServer(folder) as server: … server.target``; `SshServer.config` is a file for ``ssh -F``.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

SSHD = shutil.which("sshd", path=os.pathsep.join([os.defpath, "/usr/sbin", "/usr/local/sbin"]))
_SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
MaxStartups 50
LogLevel ERROR
"""
_CLIENT = """
Host played
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
"""


class SshServer:
    """``target``: the host's name in the configuration of the client. It can be taken away, with
    all its connections (`drop`), and come again (`start`)."""

    target = "played"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "client"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        for name in ("host_key", "user_key"):
            words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        self.trust((folder / "host_key.pub").read_text())
        told = {"port": self.port, "folder": folder, "user": getpass.getuser()}
        (folder / "server").write_text(_SERVER.format(**told))
        self.config.write_text(_CLIENT.format(**told))

    def trust(self, key: str) -> None:
        """What the client takes for the server's key."""
        kind, value = key.split()[:2]
        line = f"[127.0.0.1]:{self.port} {kind} {value}\n"
        (self.folder / "known_hosts").write_text(line)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drop()

    def start(self) -> None:
        assert SSHD is not None
        if os.geteuid() == 0:  # where privileges are separated, and nothing else
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        words = (SSHD, "-D", "-e", "-f", str(self.folder / "server"))
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True
            )
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            time.sleep(0.02)
        raise AssertionError("sshd does not listen")

    def cut(self) -> None:
        """End every connection; the server goes on, and so does what was started with them."""
        if self._process is None:
            return
        for each in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if each.name().startswith("sshd"):
                    each.kill()

    def drop(self) -> None:
        """The server and its connections; what it has started lives on."""
        if self._process is not None:
            self.cut()
            self._process.kill()
            self._process.wait()
            self._process = None
