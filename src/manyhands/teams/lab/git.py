"""One git command at a time: isolated from the user's configuration, hooks, editors and prompts.

Invariant: no command asks anything, runs a hook, or depends on who runs it; a cancelled call leaves
no process behind.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from manyhands.errors import DiskFull, ManyhandsError, RepositoryError

#: `git merge-tree --write-tree` is from this version.
OLDEST = (2, 38)
_IDENTITY = {"NAME": "manyhands", "EMAIL": "manyhands@localhost"}
_ISOLATED: Mapping[str, str] = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_NO_REPLACE_OBJECTS": "1",
}
_ALWAYS: Mapping[str, str] = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    # `status` must not refresh an index that the user is about to write.
    "GIT_OPTIONAL_LOCKS": "0",
    **{f"GIT_{who}_{key}": v for who in ("AUTHOR", "COMMITTER") for key, v in _IDENTITY.items()},
}
_OPTIONS = (
    f"core.hooksPath={os.devnull}",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "gc.auto=0",
    "maintenance.auto=false",
)
_REPRODUCIBLE = (
    f"core.attributesFile={os.devnull}",
    "core.autocrlf=false",
    "core.safecrlf=false",
    "i18n.commitEncoding=UTF-8",
    "merge.renames=false",
)
_LOCKED = re.compile(r"\.lock'?: File exists|cannot lock ref|Another git process", re.IGNORECASE)
_MOVED = re.compile(r"but expected|reference already exists|unable to resolve reference")
_FULL = re.compile(r"No space left on device|Disk quota exceeded")
_TRIES = 6
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "surrogateescape").strip()


@dataclass(frozen=True, slots=True)
class Git:
    """git on one repository. ``folder`` is `.git` itself or what its file points to; naming it
    spares discovery, which depends on owners and on the user's configuration."""

    folder: Path
    top: Path

    async def __call__(
        self,
        *words: str,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        users_own: bool = False,
    ) -> Done:
        """Run to the end, again if another process holds a lock. Raises `RepositoryError` only if
        git cannot be run. ``users_own``: with the user's configuration (what they ignore)."""
        done = await self._once(words, input, env or {}, users_own)
        for attempt in range(1, _TRIES):
            if done.code == 0 or not _LOCKED.search(done.err) or _MOVED.search(done.err):
                break
            await asyncio.sleep(_PAUSE * 2**attempt)
            done = await self._once(words, input, env or {}, users_own)
        return done

    async def ok(
        self, *words: str, input: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> Done:
        """As a call; raises `RepositoryError` if git fails, `DiskFull` if for want of room."""
        done = await self(*words, input=input, env=env)
        if done.code != 0:
            raise failure(self.top, words, done)
        return done

    async def _once(
        self, words: tuple[str, ...], input: bytes | None, env: Mapping[str, str], users_own: bool
    ) -> Done:
        options = _OPTIONS if users_own else (*_OPTIONS, *_REPRODUCIBLE)
        argv = ["git", *(w for option in options for w in ("-c", option)), *words]
        return await _run(argv, input, self._environment(env, users_own), self.top)

    def _environment(self, env: Mapping[str, str], users_own: bool) -> dict[str, str]:
        outer = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        here = {"GIT_DIR": str(self.folder), "GIT_WORK_TREE": str(self.top)}
        return {**outer, **_ALWAYS, **here, **({} if users_own else _ISOLATED), **env}


async def _run(argv: list[str], input: bytes | None, env: Mapping[str, str], cwd: Path) -> Done:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL if input is None else pipe,
            stdout=pipe,
            stderr=pipe,
            env=env,
            cwd=cwd,
        )
    except FileNotFoundError as error:
        raise RepositoryError(
            "git was not found on PATH", next=f"install git >= {OLDEST[0]}.{OLDEST[1]}"
        ) from error
    try:
        out, err = await process.communicate(input)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return Done(process.returncode or 0, out, err.decode("utf-8", "replace").strip())


def failure(top: Path, words: tuple[str, ...], done: Done) -> ManyhandsError:
    """What to raise: a `RepositoryError`, or `DiskFull`."""
    said = done.err.splitlines()[-1] if done.err else "it said nothing"
    if _FULL.search(done.err):
        return DiskFull(f"{top}: git {words[0]}: there is no space left")
    return RepositoryError(
        f"{top}: git {words[0]} failed with {done.code}: {said}",
        next=f"see what `git -C {top} {words[0]}` says, and mend the repository",
    )


def find_git(folder: Path) -> tuple[Path, Path]:
    """(the repository's git folder, the top of its worktree) of what ``folder`` lies in."""
    for top in (folder, *folder.parents):
        dot = top / ".git"
        if dot.is_dir():
            return dot, top
        if dot.is_file():
            # A linked worktree or a submodule.
            target = dot.read_text("utf-8").partition("gitdir:")[2].strip()
            return (top / target).resolve(), top
    raise RepositoryError(
        f"{folder}: not in a git repository",
        next=f"run `git init {folder}`, add the study's files and commit them",
    )
