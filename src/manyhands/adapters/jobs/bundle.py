"""A job and all that it needs, packed for another machine, and what it made, back in its folders.

Invariants: equal jobs are equal bundles, byte for byte; nothing hidden from a job, no interpreter
and no secret is in one; what comes back changes files of the job's two folders and nothing else,
whatever it says.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import manyhands
from manyhands.adapters.jobs.far_end import OWN, PLACE, SLOT
from manyhands.errors import JobError
from manyhands.isolation import paths
from manyhands.isolation.limits import MB
from manyhands.ports import JobSpec
from manyhands.redaction import secrets_of

#: What the other end needs of Manyhands.
_CODE = (
    *("__init__.py", "errors.py", "ports.py", "redaction.py", "isolation"),
    *(f"adapters/jobs/{name}.py" for name in ("__init__", "bubblewrap", "environment", "far_end")),
    *(f"adapters/jobs/{name}.py" for name in ("frames", "job", "landlock", "levels", "local")),
    *(f"adapters/jobs/{name}.py" for name in ("output", "slurm_far", "verdict")),
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """``tar``: the files, and what the far end is to do with them. ``digest`` names job and
    contents."""

    tar: bytes
    digest: str


def pack(
    spec: JobSpec,
    *,
    most_returned: int,
    there: Mapping[Path, str] | None = None,
    isolation: str = "auto",
) -> Bundle:
    """Raises `JobError` for what cannot be sent.

    ``there``: paths that the job may read and that the other machine has already, and where; they
    are not sent. ``most_returned``: bytes that may come back, packed. ``isolation``: as
    `LocalJobRunner` has it, on that machine.
    """
    _check_secrets(spec)
    there = there or {}
    places = places_of(spec)
    told: dict[str, Any] = {
        "key": spec.key,
        "places": {name: str(path) for name, path in places.items()},
        "at": {name: there[path] for name, path in places.items() if path in there},
        "command": [_placed(word, places) for word in _command(spec)],
        "env": {name: _placed(value, places) for name, value in sorted(_alone(spec).items())},
        "hidden": _hidden_there(spec, places, there),
        "limits": asdict(spec.limits),
        "network": spec.network,
        "most_returned": most_returned,
        "isolation": isolation,
    }
    sent = {name: path for name, path in places.items() if path not in there}
    try:
        tar = _tar(spec, sent, json.dumps(told, sort_keys=True))
    except OSError as error:
        raise JobError(
            f"job {spec.key!r}: its files cannot be sent: {error}",
            next="make them readable, or hide them from training",
        ) from error
    return Bundle(tar, hashlib.sha256(tar).hexdigest()[:32])


def places_of(spec: JobSpec) -> dict[str, Path]:
    """Name -> path of all that is the job's, or that it may read; no interpreter."""
    read = [path for path in spec.read if not _is_python(path)]
    return {"cwd": spec.cwd, "out": spec.out, **{f"read{n}": path for n, path in enumerate(read)}}


def sizes_of(spec: JobSpec) -> str:
    """Where the bytes are, for a person."""
    return ", ".join(f"{p} {_size(p) / 1e6:.1f} MB" for p in places_of(spec).values())


def _hidden_there(
    spec: JobSpec, places: Mapping[str, Path], there: Mapping[Path, str]
) -> list[str]:
    """What lies hidden in that which the other machine has, as places. (What is hidden is not
    sent.)"""
    return [
        _placed(str(path), places)
        for path in spec.hidden
        if any(path.is_relative_to(each) for each in there)
    ]


def _check_secrets(spec: JobSpec) -> None:
    told = [*spec.command, *spec.env.values()]
    for secret in secrets_of():
        if any(secret in text for text in told):
            raise JobError(
                f"job {spec.key!r}: its command or environment holds a secret of this machine",
                next="take it out: code that an agent wrote could read it there",
            )


def _is_python(path: Path) -> bool:
    """An interpreter's installation: the other machine has its own."""
    real = paths.real(path)
    known = {paths.real(Path(each)) for each in (sys.prefix, sys.base_prefix)}
    if (real / "pyvenv.cfg").is_file() or real in known:
        return True
    return (real / "bin").is_dir() and any((real / "lib").glob("python3*"))


def _command(spec: JobSpec) -> tuple[str, ...]:
    """With the other machine's Python where it names an interpreter of this one."""
    interpreters = [path for path in spec.read if _is_python(path)]
    first, *rest = spec.command or ("",)
    here = Path(first)
    named = here.is_absolute() and re.fullmatch(r"python[\d.]*", here.name)
    inside = any(here.is_relative_to(each) for each in interpreters) or first == sys.executable
    return ("python", *rest) if named and inside else (first, *rest)


def _alone(spec: JobSpec) -> dict[str, str]:
    """Which slot it took here would make a resumed run's job another one: it is told apart."""
    return {name: "0" if name == SLOT else value for name, value in spec.env.items()}


def _placed(text: str, places: Mapping[str, Path]) -> str:
    """Paths of the job as places; the longest first, for one may lie in another."""
    known = {
        str(each): PLACE.format(name)
        for name, path in places.items()
        for each in (path, paths.real(path))
    }
    for path in sorted(known, key=len, reverse=True):
        text = re.sub(rf"{re.escape(path)}(?![\w.-])", lambda _, p=path: known[p], text)
    return text


# -------------------------------------------------------------------- sending


def _tar(spec: JobSpec, places: Mapping[str, Path], told: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        _add(tar, "spec.json", told.encode(), 0o644)
        _add_code(tar)
        hidden = {paths.real(path) for path in spec.hidden}
        own = {paths.real(spec.cwd), paths.real(spec.out)}
        for name, path in places.items():
            for below, each in _files(
                paths.real(path), hidden | (own if name not in OWN else set())
            ):
                _put(tar, f"{name}/{below}" if below else name, each)
    return made.getvalue()


def code() -> bytes:
    """What the other end needs of Manyhands, alone."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        _add_code(tar)
    return made.getvalue()


def _add_code(tar: tarfile.TarFile) -> None:
    for name, path in _code(Path(manyhands.__file__).parent):
        _add(tar, f"code/manyhands/{name}", path.read_bytes(), 0o644)
    _add(tar, "code/manyhands/adapters/__init__.py", b"", 0o644)


def _code(home: Path) -> Iterator[tuple[str, Path]]:
    for name in _CODE:
        found = [home / name] if (home / name).is_file() else sorted((home / name).glob("*.py"))
        for path in found:
            yield str(path.relative_to(home)), path


def _files(root: Path, left_out: set[Path]) -> Iterator[tuple[str, Path]]:
    """All below ``root`` in order of their names, but for what is left out."""
    if not root.is_dir():
        yield "", root
        return
    yield "", root
    for folder, names, files in os.walk(root):
        here = Path(folder)
        names[:] = sorted(n for n in names if here / n not in left_out)
        for name in sorted([*files, *names]):
            if here / name not in left_out:
                yield str((here / name).relative_to(root)), here / name
        names[:] = [n for n in names if not (here / n).is_symlink()]


def _put(tar: tarfile.TarFile, name: str, path: Path) -> None:
    about = path.lstat()
    if stat.S_ISREG(about.st_mode):
        _add(tar, name, path.read_bytes(), 0o755 if about.st_mode & 0o100 else 0o644)
    elif stat.S_ISDIR(about.st_mode) or stat.S_ISLNK(about.st_mode):
        info = tarfile.TarInfo(name)
        info.mode = 0o755
        info.type = tarfile.DIRTYPE if stat.S_ISDIR(about.st_mode) else tarfile.SYMTYPE
        info.linkname = os.readlink(path) if stat.S_ISLNK(about.st_mode) else ""
        tar.addfile(info)


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)  # no time and no owner: equal files are equal bundles
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())


# -------------------------------------------------------------------- coming back


def unpack(spec: JobSpec, data: bytes, gone: list[str]) -> None:
    """Bring what a job has changed into its folders. Raises ValueError where that is not it."""
    folders = {"cwd": paths.real(spec.cwd), "out": paths.real(spec.out)}
    left = spec.limits.disk_mb * MB
    try:
        for name in gone:
            _place(folders, name).unlink(missing_ok=True)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
            for member in tar:
                left -= member.size
                if left < 0 or not member.isreg():
                    raise ValueError(f"{member.name!r} is too large, or no file")
                file = tar.extractfile(member)
                assert file is not None
                target = _place(folders, member.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.is_symlink():
                    target.unlink()
                elif target.is_dir():
                    shutil.rmtree(target)
                target.write_bytes(file.read())
                target.chmod(0o755 if member.mode & 0o100 else 0o644)
    except (OSError, ValueError, tarfile.TarError, EOFError) as error:
        raise ValueError(f"what came back cannot be unpacked: {error}") from error


def _place(folders: Mapping[str, Path], name: str) -> Path:
    """Raises ValueError for a path that is not below one of the folders."""
    first, *rest = PurePosixPath(name).parts
    root = folders.get(first)
    target = root.joinpath(*rest) if root else Path()
    inside = root is not None and paths.real(target.parent).is_relative_to(root)
    if not rest or ".." in rest or not inside:
        raise ValueError(f"{name!r} is not in the job's own folders")
    return target
