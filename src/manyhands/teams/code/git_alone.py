"""One git command on files of our own, in a fresh folder: no repository, configuration or hook of
anybody has a part in it.

Invariant: what a command does depends on the files in its folder and its words alone; a cancelled
call leaves no process behind.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from manyhands.errors import ConfigError

#: Seconds that one command may take: it works on files of an agent's choosing.
PATIENCE = 60.0


@contextmanager
def fresh_folder() -> Generator[Path]:
    """Gone at the end."""
    with tempfile.TemporaryDirectory(prefix="manyhands-git-") as folder:
        yield Path(os.path.realpath(folder))


async def git(folder: Path, *words: str, input: bytes = b"") -> tuple[int, bytes, str]:
    """Exit status, output and complaints. Raises `TimeoutError`, and `ConfigError` where git cannot
    be run."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *words,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=folder,
            env=_environment(folder),
        )
    except FileNotFoundError as error:
        raise ConfigError("git was not found on PATH", next="install git >= 2.38") from error
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(input)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode or 0, out, err.decode("utf-8", "replace").strip()


def failed(words: str, code: int, said: str) -> ConfigError:
    last = said.splitlines()[-1] if said else "it said nothing"
    return ConfigError(
        f"git {words} failed with {code}: {last[:300]}",
        next="see that `git version` is 2.38 or newer",
    )


def _environment(folder: Path) -> dict[str, str]:
    """``folder`` is the last place in which git looks for a repository, and there is none."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LC_ALL": "C",
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
