"""Small studies that tests run for real, as git repositories of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def git(folder: Path, *words: str) -> str:
    dated = {"GIT_AUTHOR_DATE": "@1700000000 +0000", "GIT_COMMITTER_DATE": "@1700000000 +0000"}
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | dated,
    )
    return done.stdout.strip()


def lay_out(name: str, folder: Path, changes: dict[str, str] | None = None) -> Path:
    """A committed copy of a study in ``folder``, with ``changes`` made (path -> text)."""
    shutil.copytree(HERE / name, folder, ignore=shutil.ignore_patterns("__pycache__", ".manyhands"))
    for path, text in (changes or {}).items():
        (folder / path).write_text(text)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(
        folder,
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@invalid",
        "commit",
        "--quiet",
        "--no-gpg-sign",
        "-m",
        "the study",
    )
    return folder
