"""What a job may see of the machine at every confined level: enough to run programs, no more.

Nothing of a home directory but the interpreter's own folders, no keys, no sockets.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from glob import glob
from pathlib import Path

PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
#: Of /etc: the loader, users' names, time, fonts and public certificates. Not: anything private.
SETTINGS = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/localtime",
    "/etc/fonts",
    "/etc/OpenCL",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
)
NETWORK_SETTINGS = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
)
#: Names of folders that hold installed packages, and nothing else of a user's.
PACKAGES = ("site-packages", "dist-packages")
#: How many cores and memory nodes there are.
TOPOLOGY = ("/sys/devices/system/cpu", "/sys/devices/system/node")
#: What a GPU's driver asks the machine for; only where there is one.
GPU_DEVICES = ("/dev/nvidia*", "/dev/dri", "/dev/kfd")
GPU_SYSTEM = ("/sys/bus/pci", "/sys/devices/pci*", "/sys/module/nvidia*", "/sys/class/drm")


def interpreter() -> list[Path]:
    """The folders of the running interpreter: of its environment, of the one below it, and those
    of packages that it takes from elsewhere (a ``.pth`` file names an environment beside it)."""
    real = Path(os.path.realpath(sys.executable))
    named = {Path(sys.prefix), Path(sys.exec_prefix), Path(sys.base_prefix), real.parent.parent}
    packages = {Path(name) for name in sys.path if Path(name).name in PACKAGES}
    named |= {path for path in packages if not any(path.is_relative_to(each) for each in named)}
    return sorted(path for path in named if path != path.parent)


def devices() -> list[Path]:
    return [Path(name) for pattern in GPU_DEVICES for name in sorted(glob(pattern))]


def readable(*, network: bool) -> list[Path]:
    """Existing paths, as they are named (a link is not resolved)."""
    names: list[str] = [*PROGRAMS, *SETTINGS, *TOPOLOGY]
    if network:
        names += NETWORK_SETTINGS
    if devices():
        names += [name for pattern in GPU_SYSTEM for name in sorted(glob(pattern))]
    return existing([*map(Path, names), *interpreter()])


def existing(paths: Iterable[Path]) -> list[Path]:
    """Those that are there, as far as this user can tell."""
    return [path for path in paths if os.path.exists(path)]


def real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def absolute(path: Path) -> Path:
    """Without ``..``, links kept."""
    return Path(os.path.abspath(path))
