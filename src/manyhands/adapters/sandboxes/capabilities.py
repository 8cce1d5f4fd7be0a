"""An honest account of what sandboxes enforce on this machine, and of what not, and why.

Each statement is checked on the machine, not assumed from a version.
"""

from __future__ import annotations

import os
import sys

from manyhands.isolation import cgroups
from manyhands.isolation.limits import counts_by_namespace
from manyhands.ports import Capabilities, Enforced

from . import calls

SAMPLED = "of the whole tree, sampled every 0.02 to 0.1 s: what is faster is stopped by RLIMIT_DATA"
COUNTED = "counted every 0.03 to 0.1 s by the first process of each command"
NOTHING = "commands run as you"


def describe(backend: str, notes: list[str]) -> Capabilities:
    """``backend``: overlay, copy, unsafe-local, or none."""
    isolated = backend in ("overlay", "copy")
    return Capabilities(
        backend,
        (
            _outside(isolated),
            _memory(backend),
            _processes(backend),
            _disk(backend),
            _network(isolated),
            _namespaces(isolated),
            _overlay(backend, notes),
            _calls(isolated),
            _cgroup(),
            _user(isolated),
        ),
        tuple(notes),
    )


def _outside(isolated: bool) -> Enforced:
    if isolated:
        how = "nothing outside of the workspace is writable; of the machine only programs are seen"
        return Enforced("files", True, how)
    return Enforced("files", False, NOTHING)


def _memory(backend: str) -> Enforced:
    if backend == "none":
        return Enforced("memory", False, "there is no sandbox")
    if backend != "unsafe-local" and cgroups.available():
        return Enforced("memory", True, "of each command's whole tree, by the kernel (cgroup)")
    return Enforced("memory", False, SAMPLED)


def _processes(backend: str) -> Enforced:
    if backend == "none":
        return Enforced("processes", False, "there is no sandbox")
    if backend != "unsafe-local":
        if cgroups.available():
            return Enforced("processes", True, "of each command, by the kernel (cgroup)")
        if os.geteuid() != 0 and counts_by_namespace():
            how = f"four times the limit by the kernel; the limit itself is {COUNTED}"
            return Enforced("processes", True, how)
    why = "the kernel exempts root" if os.geteuid() == 0 else "the kernel counts all of a user's"
    return Enforced("processes", False, f"{COUNTED} ({why})")


def _disk(backend: str) -> Enforced:
    if backend == "overlay":
        how = "all that is written lies on one tmpfs of limited size; it is memory of the machine"
        return Enforced("disk", True, how)
    if backend == "none":
        return Enforced("disk", False, "there is no sandbox")
    return Enforced("disk", False, "folders are walked every 0.5 s; one file by RLIMIT_FSIZE")


def _network(isolated: bool) -> Enforced:
    how = "a network of its own with nothing but a loopback" if isolated else NOTHING
    return Enforced("network", isolated, how)


def _namespaces(isolated: bool) -> Enforced:
    if isolated:
        return Enforced("user namespaces", True, "users, processes, mounts, IPC and host name")
    return Enforced("user namespaces", False, NOTHING)


def _overlay(backend: str, notes: list[str]) -> Enforced:
    if backend == "overlay":
        return Enforced("overlay", True, "the base is never copied; changes are a layer above it")
    return Enforced("overlay", False, notes[0] if notes else "workspaces are copied")


def _calls(isolated: bool) -> Enforced:
    if not isolated:
        return Enforced("seccomp", False, NOTHING)
    if calls.program() is None:
        return Enforced("seccomp", False, "the system calls of this machine are not known here")
    how = f"{len(calls.REFUSED) + 1} system calls and all but four families of sockets are refused"
    return Enforced("seccomp", True, how)


def _cgroup() -> Enforced:
    why = cgroups.refused()
    if why:
        return Enforced("cgroup", False, why)
    return Enforced("cgroup", True, "memory and processes of each command")


def _user(isolated: bool) -> Enforced:
    if sys.platform != "linux" or os.geteuid() != 0:
        return Enforced("non-root", True, "this process is an ordinary user")
    if isolated:
        how = "this process is root; commands are root without any capability, in a namespace"
        return Enforced("non-root", False, how)
    return Enforced("non-root", False, "this process is root, and commands are, too")
