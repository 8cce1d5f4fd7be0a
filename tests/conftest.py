"""What every test may ask for. A test that needs something of the system says so and skips with
the reason; with ``CI=true`` (or ``MANYHANDS_TEST_STRICT=1``) a missing need fails the run instead.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

pytest_plugins = ["tests.tiny_model"]


def _bubblewrap() -> bool:
    if shutil.which("bwrap") is None:
        return False
    probe = ["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "bubblewrap": (_bubblewrap, "no working bwrap: run `make system`"),
    "llama": (
        lambda: importlib.util.find_spec("xllamacpp") is not None,
        "xllamacpp is not installed: pip install 'manyhands[local]'",
    ),
    "torch": (lambda: importlib.util.find_spec("torch") is not None, "torch is not installed"),
}
#: Only those who have them run these; their absence never fails CI.
OPTIONAL = {"torch"}


#: Seconds for a slow test that names no limit of its own: a hang, and not a busy machine.
_SLOW_SECONDS = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_SECONDS))
    strict = bool(os.environ.get("CI") or os.environ.get("MANYHANDS_TEST_STRICT"))
    found = {what: check() for what, (check, _) in NEEDS.items()}
    for item in items:
        for mark in item.iter_markers("needs"):
            what = mark.args[0]
            if found[what]:
                continue
            if strict and what not in OPTIONAL:
                raise pytest.UsageError(f"{item.nodeid} needs {what}: {NEEDS[what][1]}")
            item.add_marker(pytest.mark.skip(reason=NEEDS[what][1]))
