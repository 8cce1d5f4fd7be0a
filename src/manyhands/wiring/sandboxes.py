"""Sandboxes from configuration, and what this machine offers for them.

Invariant: a backend without isolation is never chosen; it is only made where it is named.
"""

from __future__ import annotations

import sys
from typing import Literal

from manyhands.adapters.sandboxes import tree
from manyhands.adapters.sandboxes.capabilities import describe
from manyhands.adapters.sandboxes.docker import DockerSandboxes
from manyhands.adapters.sandboxes.docker_daemon import Daemon
from manyhands.adapters.sandboxes.inside import (
    CopiedSandbox,
    begin_at,
    checked,
    exit_code,
    missing_tools,
    no_folder,
)
from manyhands.adapters.sandboxes.linux import LinuxSandboxes
from manyhands.adapters.sandboxes.rules import seconds_of
from manyhands.adapters.sandboxes.unsafe import UnsafeLocal
from manyhands.errors import SandboxError
from manyhands.ports import Capabilities, Sandboxes

#: For environments that somebody else has made (``evals.harbor_sandbox``).
__all__ = [
    "CopiedSandbox",
    "begin_at",
    "checked",
    "docker_state",
    "exit_code",
    "make_sandboxes",
    "missing_tools",
    "no_folder",
    "sandbox_capabilities",
    "sandbox_path",
    "seconds_of",
]

SandboxBackend = Literal["auto", "overlay", "copy", "docker", "unsafe-local"]


def make_sandboxes(backend: SandboxBackend = "auto", *, image: str = "") -> Sandboxes:
    """``image``: what containers are made from, where ``backend`` is "docker". Raises SandboxError
    where the machine does not offer what is asked for."""
    if backend == "docker":
        return DockerSandboxes(image)
    if image:
        raise SandboxError(
            f"an image ({image}) is for sandboxes in Docker, not for {backend}",
            next="ask for the backend docker, or leave the image out",
        )
    if backend == "unsafe-local":
        return UnsafeLocal()
    if sys.platform != "linux":
        raise SandboxError(
            f"sandboxes need Linux, this is {sys.platform}",
            next="run in a container or a virtual machine, or ask for unsafe-local by name",
        )
    return LinuxSandboxes(backend)


def sandbox_capabilities() -> Capabilities:
    """What the default backend enforces on this machine; "none" where there is none, and why."""
    try:
        return make_sandboxes().capabilities
    except SandboxError as error:
        return describe("none", [error.what, *([error.next] if error.next else [])])


def docker_state() -> tuple[bool, str]:
    """Whether sandboxes in Docker can be had here, and how or why not."""
    try:
        daemon = Daemon(seconds=5)
        facts = daemon.facts()
    except SandboxError as error:
        return False, "; ".join([error.what, *([error.next] if error.next else [])])
    if facts.system != "linux":
        return False, f"version {facts.version} runs {facts.system} containers"
    return True, f"version {facts.version}, cgroup {facts.cgroup}"


def sandbox_path() -> str:
    """The PATH of commands that are given none."""
    return tree.environment("", "", {})["PATH"]
