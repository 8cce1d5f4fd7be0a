"""A job and all that it needs as one command for the Hub, and what it made, back in its folders.

Invariants: equal jobs are equal bundles, byte for byte; nothing hidden from a job, no interpreter
and no secret is in one; what comes back changes files of the job's two folders and nothing else,
whatever it says.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import manyhands
from manyhands.adapters.jobs.hub_remote import OWN, PLACE
from manyhands.errors import JobError
from manyhands.isolation import paths
from manyhands.isolation.limits import MB
from manyhands.ports import JobSpec
from manyhands.redaction import secrets_of

#: Bytes of a bundle, packed: it travels in the job's environment, which is limited by the kernel.
MOST_SENT = 1_000_000
#: Bytes that come back, packed: they travel in the job's log.
MOST_RETURNED = 64_000_000
#: What the other end needs of Manyhands.
_CODE = ("__init__.py", "errors.py", "ports.py", "redaction.py", "isolation", "adapters/jobs")
_PIECE = 100_000
_SLOT = "MANYHANDS_SLOT"
_VARIABLE = "MANYHANDS_BUNDLE_{:03}"
#: Unpacks the bundle, and becomes what it holds: nothing of the bundle stays in the environment.
_BOOT = (
    "import base64,io,os,sys,tarfile,tempfile;"
    "names=sorted(n for n in os.environ if n.startswith('MANYHANDS_BUNDLE_'));"
    "data=base64.b64decode(''.join(os.environ.pop(n) for n in names));"
    "root=tempfile.mkdtemp(prefix='manyhands-hub-');"
    "tarfile.open(fileobj=io.BytesIO(data),mode='r:xz').extractall(root,filter='tar');"
    "os.environ['PYTHONPATH']=os.path.join(root,'code');"
    "os.execv(sys.executable,[sys.executable,'-m','manyhands.adapters.jobs.hub_remote',root])"
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """``command`` runs in a machine that has ``uv``; ``digest`` names job and contents."""

    command: tuple[str, ...]
    env: dict[str, str]
    digest: str


def pack(spec: JobSpec, packages: tuple[str, ...] = (), python: str = "") -> Bundle:
    """Raises `JobError` for what cannot be sent."""
    _check_secrets(spec)
    interpreters = [path for path in spec.read if _is_python(path)]
    read = {
        f"read{n}": path for n, path in enumerate(p for p in spec.read if p not in interpreters)
    }
    places = {"cwd": spec.cwd, "out": spec.out, **read}
    told = {
        "key": spec.key,
        "places": {name: str(path) for name, path in places.items()},
        "command": [_placed(word, places) for word in _command(spec, interpreters)],
        "env": {name: _placed(value, places) for name, value in sorted(_alone(spec).items())},
        "limits": asdict(spec.limits),
        "network": spec.network,
        "most_returned": MOST_RETURNED,
    }
    try:
        tar = _tar(spec, places, json.dumps(told, sort_keys=True))
    except OSError as error:
        raise JobError(
            f"job {spec.key!r}: its files cannot be sent: {error}",
            next="make them readable, or hide them from training",
        ) from error
    data = lzma.compress(tar, preset=6)
    sent = base64.b64encode(data).decode()
    if len(sent) > MOST_SENT:
        sizes = ", ".join(f"{p} {_size(p) / 1e6:.1f} MB" for p in places.values())
        raise JobError(
            f"job {spec.key!r}: its files are {len(sent) / 1e6:.1f} MB packed, and "
            f"{MOST_SENT / 1e6:g} MB can be sent to the Hub: {sizes}",
            next="let training fetch its data itself, or keep less in what the study prepares",
        )
    pieces = [sent[at : at + _PIECE] for at in range(0, len(sent), _PIECE)]
    needed = [word for each in ("psutil>=7", *packages) for word in ("--with", each)]
    version = ["--python", python] if python else []
    return Bundle(
        command=("uv", "run", "--no-project", *version, *needed, "python", "-c", _BOOT),
        env={_VARIABLE.format(n): piece for n, piece in enumerate(pieces)},
        digest=hashlib.sha256("\0".join([sent, *needed, *version]).encode()).hexdigest()[:32],
    )


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


def _command(spec: JobSpec, interpreters: list[Path]) -> tuple[str, ...]:
    """With the other machine's Python where it names one of these interpreters."""
    first, *rest = spec.command or ("",)
    here = Path(first)
    named = here.is_absolute() and re.fullmatch(r"python[\d.]*", here.name)
    inside = any(here.is_relative_to(each) for each in interpreters) or first == sys.executable
    return ("python", *rest) if named and inside else (first, *rest)


def _alone(spec: JobSpec) -> dict[str, str]:
    """The environment of a job that has a machine to itself. Which slot it took here would make a
    resumed run's job another one."""
    return {name: "0" if name == _SLOT else value for name, value in spec.env.items()}


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
        home = Path(manyhands.__file__).parent
        for name, path in _code(home):
            _add(tar, f"code/manyhands/{name}", path.read_bytes(), 0o644)
        _add(tar, "code/manyhands/adapters/__init__.py", b"", 0o644)
        hidden = {paths.real(path) for path in spec.hidden}
        own = {paths.real(spec.cwd), paths.real(spec.out)}
        for name, path in places.items():
            for below, each in _files(
                paths.real(path), hidden | (own if name not in OWN else set())
            ):
                _put(tar, f"{name}/{below}" if below else name, each)
    return made.getvalue()


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
        raise ValueError(f"what came back from the Hub cannot be unpacked: {error}") from error


def _place(folders: Mapping[str, Path], name: str) -> Path:
    """Raises ValueError for a path that is not below one of the folders."""
    first, *rest = PurePosixPath(name).parts
    root = folders.get(first)
    target = root.joinpath(*rest) if root else Path()
    inside = root is not None and paths.real(target.parent).is_relative_to(root)
    if not rest or ".." in rest or not inside:
        raise ValueError(f"{name!r} is not in the job's own folders")
    return target
