"""What the tests of step checks share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def fast_path() -> Iterator[Path]:
    """Where to put a journal: in memory where the system has that, as nothing cuts the power."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder) / "journal.db"
