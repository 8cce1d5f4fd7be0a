"""What every test may ask for. A test that needs something of the system says so and skips with
the reason; with ``CI=true`` (or ``MANYHANDS_TEST_STRICT=1``) a missing need fails the run instead.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings

from manyhands.testing.slurm import missing
from manyhands.testing.sshd import SSHD

pytest_plugins = ["tests.tiny_model"]

# A busy machine takes long over one example, and is no finding.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def _bubblewrap() -> bool:
    if shutil.which("bwrap") is None:
        return False
    probe = ["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def harbor_python() -> str | None:
    """The interpreter with harbor, which needs a newer Python than Manyhands does."""
    made = Path(__file__).parents[1] / ".venv-harbor" / "bin" / "python"
    python = os.environ.get("MANYHANDS_HARBOR_PYTHON") or str(made)
    if not os.access(python, os.X_OK):
        return None
    probe = [python, "-c", "import importlib.util as u, sys; sys.exit(not u.find_spec('harbor'))"]
    found = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    return python if found else None


def phoenix_program() -> str | None:
    """Arize Phoenix: a collector of traces with a database and a page."""
    made = Path(__file__).parents[1] / ".venv-phoenix" / "bin" / "phoenix"
    program = os.environ.get("MANYHANDS_PHOENIX") or str(made)
    return program if os.access(program, os.X_OK) else None


#: Of the tests with a real daemon: with bash, python3, git and GNU's tools.
DOCKER_IMAGE = os.environ.get("MANYHANDS_DOCKER_IMAGE", "python:3.13")


def _docker() -> bool:
    if importlib.util.find_spec("docker") is None:
        return False
    import docker  # noqa: PLC0415

    try:
        docker.from_env(timeout=5).api.inspect_image(DOCKER_IMAGE)
    except docker.errors.DockerException:
        return False
    return True


NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "bubblewrap": (_bubblewrap, "no working bwrap: run `make system`"),
    "slurm": (
        lambda: not missing() and importlib.util.find_spec("submitit") is not None,
        "no Slurm or no submitit: run `make system` and `make setup`",
    ),
    "sshd": (
        lambda: SSHD is not None and bool(shutil.which("ssh")),
        "no OpenSSH server and client: run `make system`",
    ),
    "llama": (
        lambda: importlib.util.find_spec("xllamacpp") is not None,
        "xllamacpp is not installed: pip install 'manyhands[local]'",
    ),
    "harbor": (
        lambda: harbor_python() is not None,
        "no Python with harbor: run `make harbor`, or set MANYHANDS_HARBOR_PYTHON",
    ),
    "chromium": (
        lambda: (
            bool(shutil.which("chromium")) and importlib.util.find_spec("playwright") is not None
        ),
        "no chromium or no playwright: run `make system` and `make setup`",
    ),
    "phoenix": (
        lambda: phoenix_program() is not None,
        "no Arize Phoenix: run `make phoenix`, or set MANYHANDS_PHOENIX to its program",
    ),
    "docker": (
        _docker,
        f"no Docker daemon with {DOCKER_IMAGE}: start one, or set MANYHANDS_DOCKER_IMAGE",
    ),
    "torch": (lambda: importlib.util.find_spec("torch") is not None, "torch is not installed"),
}
#: Only those who have them run these; their absence never fails CI.
OPTIONAL = {"docker", "harbor", "phoenix", "torch"}


#: Seconds for a slow test that names no limit of its own: a hang, and not a busy machine.
_SLOW_SECONDS = 1800


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("real_hub") and "real_hub" not in config.option.markexpr:
            item.add_marker(pytest.mark.skip(reason="asks the real Hub: pytest -m real_hub"))
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


@pytest.fixture
def fast_path() -> Iterator[Path]:
    """Where to put a journal: in memory where the system has that, as nothing cuts the power."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder) / "journal.db"
