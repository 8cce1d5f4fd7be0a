"""Sandboxes from configuration, and what this machine offers for them.

Invariant: a backend without isolation is never chosen; it is only made where it is named.
"""

from __future__ import annotations

import sys
from typing import Literal

from manyhands.adapters.sandboxes.capabilities import describe
from manyhands.adapters.sandboxes.linux import LinuxSandboxes
from manyhands.adapters.sandboxes.unsafe import UnsafeLocal
from manyhands.errors import SandboxError
from manyhands.ports import Capabilities, Sandboxes

SandboxBackend = Literal["auto", "overlay", "copy", "unsafe-local"]


def make_sandboxes(backend: SandboxBackend = "auto") -> Sandboxes:
    """Raises SandboxError where the machine does not offer what is asked for."""
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
