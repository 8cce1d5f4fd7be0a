"""The copy of the user's folder that a run works from, so that the folder itself stays as it is.

Invariants: a copy is whole or not there; what looks like a secret is not in it; it does not change
while a run needs it.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from manyhands.errors import ConfigError

#: The largest folder that is copied, in bytes.
MOST_BYTES = 2_000_000_000
#: Files that hold secrets by custom, and those like them that do not.
SECRET = (
    ".env",
    ".env.*",
    "*.pem",
    "*.key",
    "id_rsa*",
    "id_ed25519*",
    ".netrc",
    ".npmrc",
    ".pypirc",
)
NO_SECRET = ("*.example", "*.sample", "*.template", "*.dist", "*.pub")
_OWN = ".manyhands"


class Copied(BaseModel):
    """``left_out``: files that were not copied, and why. ``tracked``: files that git keeps though a
    rule ignores them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: int
    size: int
    left_out: tuple[str, ...] = ()
    tracked: tuple[str, ...] = ()


def copy_of(source: Path, target: Path, exclude: Sequence[str]) -> Copied:
    """Copy ``source`` to ``target`` but for ``exclude`` (globs of relative paths or of names).

    A copy that is there already is left as it is. Raises `ConfigError` for a folder that is too
    large, naming its largest parts.
    """
    chosen = [(path, size) for path, size in _files(source, exclude)]
    left_out = tuple(f"{path} (it may hold a secret)" for path, size in chosen if size < 0)
    sizes = {path: size for path, size in chosen if size >= 0}
    total = sum(sizes.values())
    if total > MOST_BYTES:
        raise ConfigError(
            f"{source} holds {total / 1e9:.1f} GB; at most {MOST_BYTES / 1e9:g} GB are copied; "
            f"the largest: {_largest(sizes)}",
            next="leave parts out with --exclude GLOB",
        )
    found = Copied(files=len(sizes), size=total, left_out=left_out, tracked=_tracked(source))
    if target.exists():
        return found
    aside = target.with_name(f"{target.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    for path in sizes:
        to = aside / path
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / path, to, follow_symlinks=False)
    aside.mkdir(parents=True, exist_ok=True)
    os.replace(aside, target)
    return found


def _files(source: Path, exclude: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Relative path and size of each file and link; size -1: left out as a secret."""
    for folder, folders, names in os.walk(source):
        here = Path(folder).relative_to(source)
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = [
            name
            for name in folders
            if name not in links
            and name != _OWN
            and not _matches((here / name).as_posix(), name, exclude)
        ]
        for name in [*names, *links]:
            path = (here / name).as_posix()
            full = Path(folder) / name
            if _matches(path, name, exclude) or not (full.is_file() or full.is_symlink()):
                continue
            yield path, -1 if _secret(name) else full.lstat().st_size


def _tracked(source: Path) -> tuple[str, ...]:
    words = ["git", "-c", "core.fsmonitor=false", "ls-files", "-z", "-ci", "--exclude-standard"]
    try:
        done = subprocess.run(words, cwd=source, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
    return tuple(path for path in found.split("\0") if path)


def _matches(path: str, name: str, globs: Sequence[str]) -> bool:
    return any(
        fnmatch.fnmatchcase(path, each.rstrip("/")) or fnmatch.fnmatchcase(name, each.rstrip("/"))
        for each in globs
    )


def _secret(name: str) -> bool:
    is_one = any(fnmatch.fnmatchcase(name, each) for each in SECRET)
    return is_one and not any(fnmatch.fnmatchcase(name, each) for each in NO_SECRET)


def _largest(sizes: dict[str, int]) -> str:
    parts: dict[str, int] = {}
    for path, size in sizes.items():
        top = path.split("/", 1)[0]
        parts[top] = parts.get(top, 0) + size
    found = sorted(parts.items(), key=lambda each: -each[1])[:5]
    return ", ".join(f"{name} {size / 1e9:.1f} GB" for name, size in found)


def matches(path: str, globs: Sequence[str]) -> bool:
    """Whether a path is one of the globs, or below a folder that is."""
    parts = path.split("/")
    heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    return any(_matches(head, part, globs) for head, part in zip(heads, parts, strict=True))
