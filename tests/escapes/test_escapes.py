"""Every attempt, as the user who runs the tests and, where that is root, as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from manyhands.adapters.sandboxes.linux import LinuxSandboxes
from tests.escapes.attempts import ATTEMPTS, Attempt
from tests.escapes.world import World, attempt_in, world

pytestmark = [pytest.mark.needs("bubblewrap"), pytest.mark.timeout(120)]
NOBODY = 65534


@pytest.fixture(scope="module")
def place() -> Iterator[World]:
    """One world for all: each attempt must leave it as it was."""
    with world() as made:
        os.environ["MANYHANDS_TEST_TOKEN"] = made.marker
        yield made
        del os.environ["MANYHANDS_TEST_TOKEN"]


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
async def test_attempt(attempt: Attempt, place: World) -> None:
    assert await attempt_in(place, LinuxSandboxes(), attempt) == []


class OtherUser:
    """A program of an ordinary user that tries what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [
                *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
                *(interpreter(), "-m", "tests.escapes.world", str(folder / "own")),
            ],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder), "HOME": str(folder / "own")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the other user's program ended"
        return json.loads(line)

    def try_out(self, name: str) -> list[str]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        return self.read()["wrong"]

    def close(self) -> None:
        """Its program ends with its input, and takes its world with it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def interpreter() -> str:
    """One of this version that others may read."""
    wanted = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, f"/usr/bin/python{wanted}", f"/usr/local/bin/python{wanted}"):
        ask = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", path]
        code = (
            "import os, sys; assert os.access(os.path.realpath(sys.executable), os.X_OK);"
            "print('%d.%d' % sys.version_info[:2])"
        )
        try:
            found = subprocess.run(
                [*ask, "-c", code], capture_output=True, text=True, check=False, cwd="/"
            )
        except OSError:
            continue
        if found.stdout.strip() == wanted:
            return path
    pytest.skip(f"no Python {wanted} that an ordinary user may read")


@pytest.fixture(scope="module")
def other_user() -> Iterator[OtherUser]:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    here = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory(prefix="other-user-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        pycache = shutil.ignore_patterns("__pycache__")
        shutil.copytree(here / "src" / "manyhands", folder / "manyhands", ignore=pycache)
        shutil.copytree(Path(__file__).parent, folder / "tests" / "escapes", ignore=pycache)
        shutil.copytree(Path(psutil.__file__).parent, folder / "psutil", ignore=pycache)
        (folder / "tests" / "__init__.py").touch()
        (folder / "own").mkdir()
        os.chown(folder / "own", NOBODY, NOBODY)
        subprocess.run(["chmod", "-R", "a+rX", name], check=True)
        user = OtherUser(folder)
        try:
            assert user.about["uid"] == NOBODY
            yield user
        finally:
            user.close()


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
def test_attempt_of_an_ordinary_user(attempt: Attempt, other_user: OtherUser) -> None:
    assert other_user.try_out(attempt.name) == []


def test_there_are_enough() -> None:
    assert len({attempt.name for attempt in ATTEMPTS}) == len(ATTEMPTS) >= 60
