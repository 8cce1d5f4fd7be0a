"""One suite for every maker of sandboxes."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from manyhands.adapters.sandboxes.linux import LinuxSandboxes, overlay_refused
from manyhands.adapters.sandboxes.sandbox import WorkspaceSandbox
from manyhands.adapters.sandboxes.unsafe import UnsafeLocal
from manyhands.ports import Sandboxes
from manyhands.testing import SANDBOX_CHECKS, check_sandboxes


def overlay() -> Sandboxes:
    if why := overlay_refused():
        pytest.skip(f"no overlay: {why}")
    return LinuxSandboxes("overlay")


def copy() -> Sandboxes:
    return LinuxSandboxes("copy")


def unsafe() -> Sandboxes:
    return UnsafeLocal()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(overlay, marks=pytest.mark.needs("bubblewrap")),
        pytest.param(copy, marks=pytest.mark.needs("bubblewrap")),
        unsafe,
    ],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("check", SANDBOX_CHECKS, ids=lambda f: f.__name__)
async def test_sandboxes(
    check: Callable[[Sandboxes, Path], Awaitable[None]],
    make: Callable[[], Sandboxes],
    tmp_path: Path,
) -> None:
    if make is unsafe and sys.platform != "linux" and check.__name__ == "check_limits":
        pytest.skip("memory is sampled too slowly there")
    await check(make(), tmp_path)


async def test_check_sandboxes_finds_one_that_reports_scribbles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def diff(self: WorkspaceSandbox, since: object = None) -> tuple[object, ...]:
        return tuple(self._workspace.changes(0))

    monkeypatch.setattr(WorkspaceSandbox, "diff", diff)
    with pytest.raises(AssertionError):
        await check_sandboxes(UnsafeLocal())
