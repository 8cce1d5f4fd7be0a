"""A task's workspace on disk, made once from its Dockerfile.

Invariant: a folder under its final name is complete. It is made aside and renamed, so a process
that is killed leaves nothing but what the next preparation removes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from manyhands.config import home
from manyhands.errors import TaskError, TaskUnsupported
from manyhands.isolation import processes
from manyhands.isolation.endings import remove
from manyhands.ports import ExecResult, Sandbox, Sandboxes

from .image import Copy, Need, Run
from .installs import PROGRAMS
from .tasks import Task

#: Raised when what is made from the same files becomes another.
FORMAT = 1
ASIDE = ".making-"
#: What RUN lines may leave behind outside of the workspace.
IGNORED = (".cache",)
_numbers = itertools.count(1)


async def prepare(
    task: Task,
    sandboxes: Sandboxes,
    *,
    cache: Path | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Path:
    """The folder that a sandbox at ``place=task.workdir`` starts from; never write to it.

    It is made in a sandbox without network, once for each state of the task's environment folder,
    and kept in ``cache`` (default: the home of Manyhands). Safe to be called at once, and to be
    killed. ``on_step`` is told of each instruction. Raises TaskError where an instruction fails.
    """
    folder = cache or home() / "tasks"
    try:
        kept = folder / f"{task.name}-{await asyncio.to_thread(fingerprint, task)}"
    except OSError as error:
        where = task.path / "environment"
        raise TaskError(f"{where} cannot be read: {error}", next="may you read it?") from error
    if kept.is_dir():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(remove_dead, folder)
    aside = folder / f"{ASIDE}{processes.owner()}.{next(_numbers)}"
    (aside / "empty").mkdir(parents=True)
    try:
        await _make(task, sandboxes, aside, on_step or (lambda _: None))
        # Where another was faster, its folder is not empty, and is the same.
        with contextlib.suppress(OSError):
            (aside / "base").rename(kept)
        if not kept.is_dir():
            raise TaskError(f"{kept} could not be made", next="may this user write there?")
        return kept
    finally:
        await asyncio.to_thread(remove, aside)


def fingerprint(task: Task) -> str:
    """Of all that the workspace is made from."""
    found = hashlib.sha256(f"{FORMAT}\0{task.workdir}\0".encode())
    root = task.path / "environment"
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = b""
        if stat.S_ISLNK(status.st_mode):
            content = os.fsencode(os.readlink(path))
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).digest()
        name = os.fsencode(path.relative_to(root))
        found.update(b"%d\0%s\0%o\0%d\0" % (len(name), name, status.st_mode, len(content)))
        found.update(content)
    return found.hexdigest()[:16]


def remove_dead(folder: Path) -> None:
    """What preparations left that were killed."""
    for left in folder.glob(f"{ASIDE}*"):
        if not processes.owner_lives(left.name.removeprefix(ASIDE)):
            remove(left)


async def _make(
    task: Task, sandboxes: Sandboxes, aside: Path, on_step: Callable[[str], None]
) -> None:
    async with sandboxes.open(
        aside / "empty",
        place=task.workdir,
        env=task.image.env,
        limits=task.limits(task.build_seconds),
    ) as sandbox:
        before = await _outside(sandbox)
        for action in task.image.actions:
            on_step(f"{action.at.name} {action.at.text}")
            match action:
                case Need():
                    await _check_need(sandbox, action)
                case Copy():
                    await _copy(task, sandbox, action)
                case Run():
                    await _run(sandbox, action)
        _check_outside(task, await _outside(sandbox) - before)
        await export(sandbox, aside / "base")


async def export(sandbox: Sandbox, folder: Path) -> None:
    """Write what a sandbox that started from an empty folder holds. Permissions of folders that
    are not empty, and times, are not kept."""
    folder.mkdir()
    for change in await sandbox.diff():
        path = folder / change.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if change.link is not None:
            path.symlink_to(change.link)
        elif change.folder:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes((await sandbox.read(change.path)).data)
        if change.link is None:
            path.chmod(change.mode)


# ---------------------------------------------------------------- one instruction each


async def _run(sandbox: Sandbox, run: Run) -> None:
    script = 'cd "$1" && shift && exec "$@"'
    result = await sandbox.exec(["/bin/sh", "-c", script, "sh", run.cwd, *run.argv], env=run.env)
    if result.code != 0:
        raise TaskError(
            f"{run.at.file}:{run.at.line}: RUN failed with {ended(result)}: {last(result)}",
            next="commands run without network, and can write to WORKDIR only; correct the line",
        )


async def _check_need(sandbox: Sandbox, need: Need) -> None:
    missing = [p for p in need.packages if not await _has_package(sandbox, p)]
    missing += [m for m in need.modules if not await _has_module(sandbox, m)]
    if need.python and not await _has_python(sandbox, need.python):
        missing.append(f"Python {need.python} or newer")
    if missing:
        raise need.at.refused(
            f"this machine has no {', '.join(missing)}, and nothing is installed",
            "install it on this machine, or run the task in Docker",
        )


async def _has_package(sandbox: Sandbox, package: str) -> bool:
    """By its programs; else by what the system's package manager says."""
    programs = PROGRAMS.get(package, (package,))
    look = 'for p; do command -v -- "$p" || exit 1; done'
    if (await sandbox.exec(["/bin/sh", "-c", look, "sh", *programs])).code == 0:
        return True
    query = shutil.which("dpkg-query")
    if query is None:
        return False
    command = [query, "-W", "-f", "${db:Status-Status}", package]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, timeout=30
    )
    return done.returncode == 0 and done.stdout == "installed"


async def _has_module(sandbox: Sandbox, name: str) -> bool:
    code = "import sys, importlib.metadata as m; m.version(sys.argv[1])"
    return (await sandbox.exec(["python3", "-c", code, name])).code == 0


async def _has_python(sandbox: Sandbox, version: str) -> bool:
    """The same major version, and this minor one or a newer."""
    code = (
        "import sys; asked = tuple(map(int, sys.argv[1].split('.')));"
        "sys.exit(sys.version_info[0] != asked[0] or sys.version_info[:len(asked)] < asked)"
    )
    return (await sandbox.exec(["python3", "-c", code, version])).code == 0


async def _copy(task: Task, sandbox: Sandbox, copy: Copy) -> None:
    root = task.path / "environment"
    found = [path for source in copy.sources for path in _matches(root, copy, source)]
    is_folder = (await sandbox.exec(["test", "-d", copy.target])).code == 0
    into = copy.into or is_folder or len(found) > 1
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in found:
            if path.is_dir() and not path.is_symlink():
                for inner in sorted(path.rglob("*")):
                    tar.add(inner, str(inner.relative_to(path)), recursive=False)
            else:
                tar.add(path, path.name if into else Path(copy.target).name, recursive=False)
    whole = into or all(path.is_dir() for path in found)
    target = copy.target if whole else str(Path(copy.target).parent)
    result = await unpack(sandbox, packed.getvalue(), target)
    if result.code != 0:
        raise copy.at.refused(f"it failed: {last(result)}", "correct the line")


def _matches(root: Path, copy: Copy, source: str) -> list[Path]:
    pattern = source.lstrip("/").removeprefix("./").rstrip("/")
    found = [root] if pattern in ("", ".") else sorted(root.glob(pattern))
    if not found:
        raise copy.at.refused(
            f"there is no {source} in the environment folder", "add it, or correct the name"
        )
    if any(not path.parent.resolve().is_relative_to(root.parent.resolve()) for path in found):
        raise copy.at.refused(
            f"{source} leads out of the environment folder", "put a copy in its place"
        )
    return found


async def unpack(sandbox: Sandbox, packed: bytes, target: str) -> ExecResult:
    """A tar archive, into a folder of the sandbox wherever it lies."""
    script = 'mkdir -p -- "$1" && exec tar -xpf - --no-same-owner -C "$1"'
    return await sandbox.exec(["/bin/sh", "-c", script, "sh", target], stdin=packed)


async def _outside(sandbox: Sandbox) -> set[str]:
    """What lies beside the workspace where commands may write (with nothing written: where an
    interpreter is mounted)."""
    look = 'find "$HOME" /tmp -mindepth 1 -maxdepth 1 -print0'
    found = (await sandbox.exec(look)).output.decode(errors="replace")
    return set(found.split("\0")) - {""}


def _check_outside(task: Task, made: set[str]) -> None:
    """Only the workspace is kept: what was left elsewhere would be missing without a word."""
    left = sorted(path for path in made if Path(path).name not in IGNORED)
    if left:
        raise TaskUnsupported(
            f"{task.path}: preparing it leaves {', '.join(left)[:200]}, and only WORKDIR is kept",
            next=f"write to {task.workdir}, or remove it in the same RUN line",
        )


def ended(result: ExecResult) -> str:
    return f"its limit on {result.killed}" if result.killed else f"exit code {result.code}"


def last(result: ExecResult, size: int = 600) -> str:
    """The end of its output."""
    return result.output.decode(errors="replace").strip()[-size:] or "no output"
