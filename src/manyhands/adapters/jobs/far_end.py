"""What runs on another machine: the job, under the same runner as at home, told of in lines.

It is sent along with each job, with the packages that it needs of Manyhands. Invariant: a job that
was begun ends in one fact, ``result`` or ``refused``, unless the machine ends before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import signal
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from manyhands.adapters.jobs.frames import fact, file_lines, output_lines
from manyhands.adapters.jobs.local import LocalJobRunner, remove_old
from manyhands.errors import JobError
from manyhands.isolation.endings import remove
from manyhands.ports import JobExit, JobLimits, JobResult, JobSpec

#: Parts of the bundle, as folders of the same names.
OWN = ("cwd", "out")
#: What a path of the home machine is called in a command, until it is known where it lies here.
PLACE = "{{{{manyhands:{}}}}}"

SLOT = "MANYHANDS_SLOT"
#: Seconds that the beginning of a line is held back.
_MOMENT = 0.2

_Stamps = dict[str, tuple[int, int]]


def main(root: Path, slot: str = "") -> None:
    """``slot``: the number of the place that it has there, where the machine has several."""
    told = json.loads((root / "spec.json").read_text("utf-8"))
    if slot and SLOT in told["env"]:
        told["env"][SLOT] = slot
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_run(root, told))
    for folder in filter(Path.is_dir, root.iterdir()):
        remove(folder)


def describe() -> None:
    """Print what this machine enforces, and clear away what killed runners have left."""
    remove_old()
    sys.stdout.write(json.dumps(asdict(LocalJobRunner().isolation)) + "\n")


async def _run(root: Path, told: dict[str, Any]) -> None:
    task = asyncio.current_task()
    assert task is not None
    # Told to end, it ends the job first, with all that belongs to it.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    spec = spec_of(root, told)
    for folder in (spec.cwd, spec.out):
        folder.mkdir(exist_ok=True)
    before = {name: _stamps(root / name) for name in OWN}
    printer = _Printer(_names(root, told))
    _print(fact("begun", {"python": sys.version.split()[0]}))
    try:
        result = await LocalJobRunner(told["isolation"]).run(spec, printer)
    except JobError as error:
        _print(fact("refused", {"what": error.what, "next": error.next}))
        return
    finally:
        printer.flush()
    about = asdict(result) | {"log_end": _after(spec.log, printer.size)}
    if result.exit in (JobExit.OK, JobExit.FAILED):
        about |= _send_back(root, before, result, told["most_returned"])
    _print(fact("result", about))


class _Printer:
    """Prints output by whole lines, for people read them there; what is no line yet waits a moment.
    ``size``: bytes that came."""

    def __init__(self, names: list[tuple[bytes, bytes]]) -> None:
        self._names = names
        self._open = b""
        self._due: asyncio.TimerHandle | None = None
        self.size = 0

    def __call__(self, data: bytes) -> None:
        self.size += len(data)
        lines, end, self._open = (self._open + data).rpartition(b"\n")
        if end:
            self._say(lines + end)
        if self._open and self._due is None:
            self._due = asyncio.get_running_loop().call_later(_MOMENT, self.flush)

    def flush(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        held, self._open = self._open, b""
        self._say(held)

    def _say(self, data: bytes) -> None:
        for here, there in self._names:
            data = data.replace(here, there)
        _print(*output_lines(data))


def _at(root: Path, told: dict[str, Any], name: str) -> Path:
    """Where a place lies here: what was sent in ``root``, the rest where it was before."""
    return Path(told["at"].get(name) or root / name)


def spec_of(root: Path, told: dict[str, Any]) -> JobSpec:
    def here(text: str) -> str:
        for name in told["places"]:
            text = text.replace(PLACE.format(name), str(_at(root, told, name)))
        return text

    python = [Path(p) for p in (sys.prefix, sys.base_prefix, *sys.path) if p and Path(p).is_dir()]
    return JobSpec(
        key=told["key"],
        command=tuple(map(here, told["command"])),
        cwd=root / "cwd",
        out=root / "out",
        log=root / "log",
        limits=JobLimits(**told["limits"]),
        read=(*(_at(root, told, name) for name in told["places"] if name not in OWN), *python),
        hidden=tuple(Path(here(text)) for text in told["hidden"]),
        env={name: here(value) for name, value in told["env"].items()},
        network=told["network"],
    )


def _names(root: Path, told: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """Paths here and what they are at home, so that a log reads as if it was written there."""
    lying = [(_at(root, told, name), path) for name, path in told["places"].items()]
    return [
        (os.fsencode(each), os.fsencode(path))
        for here, path in lying
        for each in dict.fromkeys((here, Path(os.path.realpath(here))))
        if str(each) != path
    ]


def _print(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _after(log: Path, size: int) -> str:
    """What the runner itself has written below a job's output."""
    with log.open("rb") as file:
        file.seek(size)
        return file.read(1_000).decode("utf-8", "replace")


# -------------------------------------------------------------------- files


def _stamps(folder: Path) -> _Stamps:
    return {
        str(path.relative_to(folder)): (about.st_size, about.st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink() and path.is_file()
        for about in (path.stat(),)
    }


def _send_back(
    root: Path, before: dict[str, _Stamps], result: JobResult, most: int
) -> dict[str, Any]:
    """Print what is new or changed in the job's own folders; say what is gone."""
    made = io.BytesIO()
    gone: list[str] = []
    with tarfile.open(fileobj=made, mode="w:gz", compresslevel=6) as tar:
        for name in OWN:
            after = _stamps(root / name)
            gone += [f"{name}/{path}" for path in sorted(before[name].keys() - after.keys())]
            for path, stamp in after.items():
                if before[name].get(path) != stamp:
                    tar.add(root / name / path, f"{name}/{path}", recursive=False)
                if made.tell() > most:
                    return _too_much(result, most)
    data = made.getvalue()
    if len(data) > most:
        return _too_much(result, most)
    _print(*file_lines(data))
    return {"gone": gone, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _too_much(result: JobResult, most: int) -> dict[str, Any]:
    told = f"what it left behind is more than the {most / 1e6:g} MB that come back from there"
    return {"exit": JobExit.DISK_LIMIT, "detail": "; ".join(filter(None, (result.detail, told)))}


if __name__ == "__main__":
    if sys.argv[1] == "--describe":
        describe()
    else:
        main(Path(sys.argv[1]), *sys.argv[2:])
