"""What runs on the Hub's machine: the job, under the same runner as at home, told of in lines.

It is sent along with each job, with the packages that it needs of Manyhands. Invariant: a job that
was begun ends in one fact, ``result`` or ``refused``, unless the machine ends before it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from manyhands.adapters.jobs.hub_frames import fact, file_lines, output_lines
from manyhands.adapters.jobs.local import LocalJobRunner
from manyhands.errors import JobError
from manyhands.ports import JobExit, JobLimits, JobResult, JobSpec

#: Parts of the bundle, as folders of the same names.
OWN = ("cwd", "out")
#: What a path of the home machine is called in a command, until it is known where it lies here.
PLACE = "{{{{manyhands:{}}}}}"

#: Seconds that the beginning of a line is held back.
_MOMENT = 0.2

_Stamps = dict[str, tuple[int, int]]


def main(root: Path) -> None:
    told = json.loads((root / "spec.json").read_text("utf-8"))
    asyncio.run(_run(root, told))


async def _run(root: Path, told: dict[str, Any]) -> None:
    spec = spec_of(root, told)
    for folder in (spec.cwd, spec.out):
        folder.mkdir(exist_ok=True)
    before = {name: _stamps(root / name) for name in OWN}
    printer = _Printer(_names(root, told))
    _print(fact("begun", {"python": sys.version.split()[0]}))
    try:
        result = await LocalJobRunner().run(spec, printer)
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


def spec_of(root: Path, told: dict[str, Any]) -> JobSpec:
    def here(text: str) -> str:
        for name in told["places"]:
            text = text.replace(PLACE.format(name), str(root / name))
        return text

    python = [Path(p) for p in (sys.prefix, sys.base_prefix, *sys.path) if p and Path(p).is_dir()]
    return JobSpec(
        key=told["key"],
        command=tuple(map(here, told["command"])),
        cwd=root / "cwd",
        out=root / "out",
        log=root / "log",
        limits=JobLimits(**told["limits"]),
        read=(*(root / name for name in told["places"] if name not in OWN), *python),
        env={name: here(value) for name, value in told["env"].items()},
        network=told["network"],
    )


def _names(root: Path, told: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """Paths here and what they are at home, so that a log reads as if it was written there."""
    real = Path(os.path.realpath(root))
    return [
        (os.fsencode(base / name), os.fsencode(path))
        for name, path in told["places"].items()
        for base in dict.fromkeys((root, real))
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
    told = f"what it left behind is more than the {most / 1e6:g} MB that come back from the Hub"
    return {"exit": JobExit.DISK_LIMIT, "detail": "; ".join(filter(None, (result.detail, told)))}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
