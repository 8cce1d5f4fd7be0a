"""The strongest level: namespaces of its own, and a file tree of only what a job may see.

The tree starts empty. Folders are mounted from the outside in, so the deepest entry that names a
path decides: a hidden folder below a readable one is hidden, a job's own folder below a hidden
one is there. The supervisor is pid 1, which nothing inside the namespace can kill.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from manyhands.isolation import paths, supervisor
from manyhands.isolation.limits import MB
from manyhands.ports import JobSpec

SUPERVISOR = Path(supervisor.__file__)
INSIDE = "/run/manyhands/supervisor.py"
#: Where a job finds its private scratch folder.
SCRATCH = "/tmp"
#: Not writable though they are mounted so. /proc: whoever is root outside may set the kernel's
#: variables (/proc/sys), even without capabilities and in a namespace of users.
LOCKED = (Path("/proc"), Path("/dev"), Path("/"))
#: In a job's scratch folder, covered for the job: what stands for hidden files.
BLANKS = ".hidden"
NAMESPACES = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--new-session",
    "--as-pid-1",
)


@dataclass(frozen=True, slots=True)
class Bwrap:
    """The program and what its version can do."""

    path: str
    sizes: bool
    locks_userns: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """Something at ``place`` in the job's file tree."""

    place: Path
    arguments: tuple[str, ...]


def probe() -> Bwrap | str:
    """The program if a trial run works on this machine (asked once), else why not."""
    path = shutil.which("bwrap")
    return "bwrap is not installed" if path is None else _probe(path)


@functools.cache
def _probe(path: str) -> Bwrap | str:
    help_text = _try([path, "--help"]).stdout
    if "--as-pid-1" not in help_text:
        return f"{path} is older than 0.2"
    bwrap = Bwrap(path, "--size BYTES" in help_text, "--disable-userns" in help_text)
    with tempfile.TemporaryDirectory() as name:
        spec = JobSpec("probe", (), Path(name), Path(name), Path(name))
        tree = _flat(_tree(bwrap, spec, Path(name)))
        trial = [path, *_isolation(bwrap, network=False), *tree, "--"]
        result = _try([*trial, sys.executable, "-I", "-S", "-c", ""])
    if result.returncode == 0:
        return bwrap
    return f"a trial run of {path} failed: {result.stderr.strip()[-300:] or result.returncode}"


def _try(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def command(bwrap: Bwrap, spec: JobSpec, scratch: Path) -> tuple[list[str], IO[bytes]]:
    """The command line that starts the supervisor, and an open file that must be handed to it.

    Paths go through that file, not the command line: there may be thousands of hidden ones.
    """
    arguments = [*_isolation(bwrap, network=spec.network), *_flat(_tree(bwrap, spec, scratch))]
    file = tempfile.TemporaryFile()  # closed by who starts the job  # noqa: SIM115
    file.write(b"".join(os.fsencode(argument) + b"\0" for argument in arguments))
    file.seek(0)
    line = [bwrap.path, "--args", str(file.fileno()), "--", sys.executable, "-I", "-S", INSIDE]
    return line, file


def _isolation(bwrap: Bwrap, *, network: bool) -> list[str]:
    arguments = [*NAMESPACES, "--cap-drop", "ALL"]
    if not network:
        arguments.append("--unshare-net")
    if bwrap.locks_userns:
        arguments.append("--disable-userns")
    return arguments


def _tree(bwrap: Bwrap, spec: JobSpec, scratch: Path) -> list[Entry]:
    """All mounts in their order, then what makes the rest of the tree unwritable."""
    hidden = {paths.real(path) for path in paths.existing(spec.hidden)}
    own = {paths.real(spec.cwd), paths.real(spec.out)}
    given = [*paths.readable(network=spec.network), *spec.read]
    links = _reals(*given)
    read = _outermost(set(links.values()), hidden)
    masks, masked = _masks(bwrap, _covered(hidden, own | read), scratch)
    entries = [
        *_base(bwrap, spec, scratch),
        *(_mount("--ro-bind", path) for path in read),
        *masks,
        *(_mount("--bind", path) for path in own),
        *_links(links | _reals(spec.cwd, spec.out), own | read),
    ]
    entries.sort(key=lambda entry: len(entry.place.parts))
    return [*entries, *(_lock(path) for path in [*masked, *LOCKED])]


def _base(bwrap: Bwrap, spec: JobSpec, scratch: Path) -> list[Entry]:
    gpus = [_mount("--dev-bind-try", device) for device in paths.devices()]
    if bwrap.sizes:
        memory = ("--size", str(spec.limits.memory_mb * MB), "--tmpfs", "/dev/shm")
    else:
        shared = scratch / ".shm"
        shared.mkdir()
        memory = ("--bind", str(shared), "/dev/shm")
    return [
        Entry(Path("/proc"), ("--proc", "/proc")),
        Entry(Path("/dev"), ("--dev", "/dev")),
        Entry(Path("/dev/shm"), memory),
        Entry(Path(SCRATCH), ("--bind", str(scratch), SCRATCH)),
        Entry(Path(INSIDE), ("--ro-bind", str(SUPERVISOR), INSIDE)),
        *gpus,
    ]


def _outermost(places: set[Path], hidden: set[Path]) -> set[Path]:
    """Without those that lie below another, unless something hidden is in between."""
    return {
        path
        for path in places
        if not places.intersection(path.parents) or hidden.intersection(path.parents)
    }


def _covered(hidden: set[Path], visible: set[Path]) -> list[Path]:
    """The hidden paths that would be seen: those below something visible."""
    return sorted(
        path
        for path in hidden
        if visible.intersection([path, *path.parents]) and not hidden.intersection(path.parents)
    )


def _masks(bwrap: Bwrap, hidden: list[Path], scratch: Path) -> tuple[list[Entry], list[Path]]:
    """What covers the hidden paths, and the covering folders."""
    folders = [path for path in hidden if path.is_dir()]
    files = [path for path in hidden if path not in folders]
    blanks = scratch / BLANKS
    entries: list[Entry] = []
    if files:
        blanks.mkdir()
        folders.append(Path(SCRATCH) / BLANKS)
    for number, path in enumerate(files):
        blank = _blank(blanks / str(number), like=path)
        entries.append(Entry(path, ("--ro-bind", str(blank), str(path))))
    size = ("--size", "4096") if bwrap.sizes else ()
    entries += [Entry(path, (*size, "--tmpfs", str(path))) for path in folders]
    return entries, folders


def _blank(place: Path, like: Path) -> Path:
    """A file without content that opens for nobody. Size and time are those of the hidden file:
    they are what Python asks of a source before it loads a module from its bytecode, so a module
    whose source is hidden can still be imported."""
    status = like.stat()
    with place.open("wb") as file:
        file.truncate(status.st_size)
    os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
    place.chmod(0)
    return place


def _lock(path: Path) -> Entry:
    return Entry(path, ("--remount-ro", str(path)))


def _reals(*given: Path) -> dict[Path, Path]:
    """Path as it is named -> where it really is."""
    return {path: paths.real(path) for path in map(paths.absolute, given)}


def _links(named: Mapping[Path, Path], mounted: set[Path]) -> list[Entry]:
    """A link at each path that is named otherwise than where it really is."""
    links = {
        path: real
        for path, real in named.items()
        if real != path and not mounted.intersection(path.parents)
    }
    return [
        Entry(path, ("--symlink", str(real), str(path)))
        for path, real in links.items()
        if not links.keys() & set(path.parents)
    ]


def _mount(how: str, path: Path) -> Entry:
    return Entry(path, (how, str(path), str(path)))


def _flat(entries: Iterable[Entry]) -> list[str]:
    return [argument for entry in entries for argument in entry.arguments]
