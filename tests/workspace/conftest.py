"""A bench over sandboxes without isolation, and one over real ones where the machine has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from manyhands.adapters.sandboxes.linux import LinuxSandboxes
from manyhands.adapters.sandboxes.unsafe import UnsafeLocal
from tests.workspace.bench import Bench

REAL = pytest.param("real", marks=pytest.mark.needs("bubblewrap"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where the system has that: nothing cuts the power."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(dir=memory) as made:
        yield Path(made)


@pytest.fixture
def bench(folder: Path) -> Bench:
    return Bench(folder, UnsafeLocal())


@pytest.fixture(params=["unsafe", REAL])
def each_bench(folder: Path, request: pytest.FixtureRequest) -> Bench:
    return Bench(folder, LinuxSandboxes() if request.param == "real" else UnsafeLocal())
