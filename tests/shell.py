"""The command line as people run it: real processes, in a folder and a home of their own."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manyhands.cli import app
from manyhands.errors import ManyhandsError

EXAMPLES = Path(__file__).parents[1] / "examples"


class Shell:
    """``example``: a folder of ``examples`` whose files are in the folder, too."""

    def __init__(self, folder: Path, example: str = "") -> None:
        self.folder = folder
        if example:
            shutil.copytree(EXAMPLES / example, folder, dirs_exist_ok=True)
        self.env = os.environ | {"MANYHANDS_HOME": str(folder / "home"), "COLUMNS": "120"}

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "manyhands.cli", *words]

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.words(*words),
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def __call__(self, *words: str, code: int = 0) -> str:
        """What it prints; where it is to fail, what it complains of as well."""
        done = self.run(*words, code=code)
        return done.stdout + (done.stderr if code else "")

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.words(*words),
            env=self.env,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill_at(self, run_id: str, step: str, *words: str) -> None:
        """Start it as that run, and kill it with -9 once ``step`` is in the name of one of its
        steps."""
        process = self.start(*words, "--run-id", run_id)
        deadline = time.monotonic() + 60
        while not self._has(run_id, step):
            assert time.monotonic() < deadline
            assert process.poll() is None, "it was over before it could be killed"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    def _has(self, run_id: str, step: str) -> bool:
        """Asked of the file: a command takes as long to start as some runs."""
        journal = self.folder / "home/journal.db"
        query = "SELECT 1 FROM events WHERE run_id = ? AND instr(key, ?) LIMIT 1"
        try:
            database = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
        except sqlite3.OperationalError:
            return False  # it is not there yet
        try:
            return database.execute(query, (run_id, step)).fetchone() is not None
        except sqlite3.OperationalError:
            return False  # it is just being made
        finally:
            database.close()


def complaint(folder: Path, example: str, patch: pytest.MonkeyPatch, *words: str) -> ManyhandsError:
    """What a command refuses as bad input, with what to do next, before there is a journal."""
    shell = Shell(folder, example)
    patch.chdir(folder)
    patch.setenv("MANYHANDS_HOME", shell.env["MANYHANDS_HOME"])
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, ManyhandsError)
    assert error.exit_code == 2
    assert error.next
    assert not (folder / "home/journal.db").exists()
    return error
