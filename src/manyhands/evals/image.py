"""What a Dockerfile asks for, as far as it can be had without Docker: a workspace and commands.

Programs are this machine's own; only the folder WORKDIR is made. Invariant: whatever else a
Dockerfile says is refused by line, value and next action, before anything is run.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from manyhands.errors import TaskError, TaskUnsupported
from manyhands.isolation.paths import PROGRAMS

from .dockerfile import Instruction, read_dockerfile
from .installs import installs

BASES = re.compile(
    r"(?:docker\.io/)?(?:library/)?(debian|ubuntu|python|buildpack-deps|busybox|scratch)"
    r"(?::([\w.-]+))?(?:@sha256:[0-9a-f]+)?"
)
#: The machine's own, seen in every sandbox and not writable there.
SYSTEM = (
    *(*PROGRAMS, "/etc", "/proc", "/dev", "/sys", "/run", "/tmp"),
    *("/tests", "/logs", "/solution"),
)
ARCHIVE = re.compile(r"\.(?:tar|tgz|tbz2?|txz|tar\.(?:gz|bz2|xz|zst))$")
SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True)
class Copy:
    """``sources``: patterns below the environment folder; ``target``: an absolute path.
    ``into``: it was written as a folder."""

    at: Instruction
    sources: tuple[str, ...]
    target: str
    into: bool


@dataclass(frozen=True, slots=True)
class Run:
    at: Instruction
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Need:
    """What must be here already: ``packages`` of the system, ``modules`` of Python."""

    at: Instruction
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    python: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """``actions`` in order make the content of ``workdir``; ``env`` is that of all commands."""

    base: str
    workdir: str
    env: Mapping[str, str]
    actions: tuple[Copy | Run | Need, ...]


@dataclass(slots=True)
class Reading:
    """Where the reader of a Dockerfile stands."""

    file: Path
    path: str
    base: str = ""
    workdir: str = "/"
    shell: tuple[str, ...] = SHELL
    env: dict[str, str] = field(default_factory=dict[str, str])
    arguments: dict[str, str] = field(default_factory=dict[str, str])
    before: dict[str, str] = field(default_factory=dict[str, str])
    actions: list[Copy | Run | Need] = field(default_factory=list[Copy | Run | Need])

    @property
    def variables(self) -> dict[str, str]:
        """A variable of the environment goes before an argument of the same name."""
        return {"PATH": self.path} | self.arguments | self.env


def read_image(file: Path, *, path: str, workdir: str = "") -> Image:
    """``path``: the PATH of sandboxes; ``workdir``: in place of the last WORKDIR.

    Raises TaskUnsupported, or TaskError where the file cannot be read.
    """
    try:
        instructions = read_dockerfile(file)
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{file} cannot be read: {error}", next="write a Dockerfile") from error
    if (file.parent / ".dockerignore").exists():
        raise TaskUnsupported(
            f"{file.parent / '.dockerignore'} is not read", next="remove it, and COPY by name"
        )
    reading = Reading(file, path)
    for each in instructions:
        if not reading.base and each.name not in ("ARG", "FROM"):
            raise each.refused("an instruction before FROM", "begin with FROM")
        READERS.get(each.name, unknown)(reading, each)
    if not reading.base:
        raise TaskError(f"{file} has no FROM", next="begin with FROM, as FROM debian:12-slim")
    made = Image(reading.base, workdir or reading.workdir, reading.env, tuple(reading.actions))
    check_places(file, made)
    return made


def check_places(file: Path, image: Image) -> None:
    """Only one folder is made: that in which commands start."""
    place = image.workdir
    if not place.startswith("/") or ".." in place.split("/") or place == "/":
        raise TaskUnsupported(
            f"{file}: the working folder is {place}, and all of / cannot be made",
            next="add WORKDIR, as WORKDIR /app",
        )
    if any(within(place, each) for each in SYSTEM):
        raise TaskUnsupported(
            f"{file}: WORKDIR {place} lies in a folder of this machine, which is not writable",
            next="use a folder of its own, as WORKDIR /app",
        )
    for action in image.actions:
        if isinstance(action, Copy) and not within(action.target, place):
            raise action.at.refused(
                f"{action.target} lies outside of WORKDIR {place}, the only folder that is made",
                f"copy to a folder below {place}",
            )


def within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


# ---------------------------------------------------------------- one instruction each


def from_base(reading: Reading, at: Instruction) -> None:
    words = at.words(reading.before)
    if reading.base or len(words) > 1:
        raise at.refused(
            "several stages, or a named one, are not made", "build from one base, in one stage"
        )
    if at.flags:
        raise at.refused(f"{at.flags[0]} is not known here", "leave it out")
    base = BASES.fullmatch(words[0] if words else "")
    if base is None:
        raise at.refused(
            f"the base {words[0] if words else ''!r} is not one that this machine stands in for",
            "use debian, ubuntu or python, or run the task in Docker",
        )
    reading.base = words[0]
    if base[1] == "python":
        version = re.match(r"\d+(?:\.\d+)?", base[2] or "")
        reading.actions.append(Need(at, python=version[0] if version else "3"))


def set_env(reading: Reading, at: Instruction) -> None:
    reading.env |= pairs(at, reading.variables)


def set_argument(reading: Reading, at: Instruction) -> None:
    for word in at.words(reading.variables if reading.base else reading.before):
        name, given, value = word.partition("=")
        if not reading.base:
            reading.before[name] = value
        elif given:
            reading.arguments[name] = value
        elif name in reading.before:
            reading.arguments[name] = reading.before[name]


def pairs(at: Instruction, variables: Mapping[str, str]) -> dict[str, str]:
    """``NAME=VALUE …``, or the old ``NAME VALUE``."""
    first = at.text.split(maxsplit=1)
    if first and "=" not in first[0]:
        if len(first) < 2:
            raise at.refused("a variable without a value", "write NAME=VALUE")
        return {first[0]: at.value(variables, first[1])}
    found: dict[str, str] = {}
    for word in at.words(variables):
        name, given, value = word.partition("=")
        if not given or not name:
            raise at.refused(f"{word!r} is no NAME=VALUE", "quote values with spaces")
        found[name] = value
    return found


def set_workdir(reading: Reading, at: Instruction) -> None:
    reading.workdir = placed(reading.workdir, at.value(reading.variables))


def placed(workdir: str, path: str) -> str:
    joined = posixpath.normpath(posixpath.join(workdir, path))
    return "/" + joined.lstrip("/")


def copy(reading: Reading, at: Instruction) -> None:
    for flag in at.flags:
        next = "build in one stage" if flag.startswith("--from") else "leave it out"
        raise at.refused(f"{flag.split('=')[0]} is not known here", next)
    words = at.words(reading.variables)
    if len(words) < 2:
        raise at.refused("it needs a source and a target", "write COPY source target")
    *sources, target = words
    for source in sources:
        if re.match(r"[a-z+]+://|git@", source):
            raise at.refused(
                f"{source} comes from the network, and there is none",
                "put it into the environment folder",
            )
        if at.name == "ADD" and ARCHIVE.search(source):
            raise at.refused("archives are not unpacked", "unpack it there, and use COPY")
        if ".." in source.split("/"):
            raise at.refused(f"{source} leads out of the environment folder", "put it there")
    into = target.endswith("/") or target in (".", "..") or len(sources) > 1
    made = Copy(at, tuple(sources), placed(reading.workdir, target), into)
    reading.actions.append(made)


def run(reading: Reading, at: Instruction) -> None:
    for flag in at.flags:
        if flag != "--network=none":
            raise at.refused(f"{flag.split('=')[0]} is not known here", "leave it out")
    if not at.text:
        raise at.refused("it runs nothing", "leave it out")
    found = installs(at)
    if found.packages or found.modules:
        reading.actions.append(Need(at, tuple(found.packages), tuple(found.modules)))
    if not found.rest:
        return
    whole = at.listed is not None and found.rest == " ".join(at.listed)
    argv = at.listed if whole and at.listed else (*reading.shell, found.rest)
    reading.actions.append(Run(at, argv, reading.workdir, reading.variables))


def set_shell(reading: Reading, at: Instruction) -> None:
    if not at.listed:
        raise at.refused("it is no list", 'write it as SHELL ["/bin/bash", "-c"]')
    reading.shell = at.listed


def nothing(reading: Reading, at: Instruction) -> None:
    """Says nothing of the workspace."""


def refusal(what: str, next: str) -> Callable[[Reading, Instruction], None]:
    def refuse(reading: Reading, at: Instruction) -> None:
        raise at.refused(what, next)

    return refuse


def unknown(reading: Reading, at: Instruction) -> None:
    raise at.refused(f"{at.name} is no instruction of a Dockerfile", "correct or remove it")


READERS: Mapping[str, Callable[[Reading, Instruction], None]] = {
    "FROM": from_base,
    "ENV": set_env,
    "ARG": set_argument,
    "WORKDIR": set_workdir,
    "COPY": copy,
    "ADD": copy,
    "RUN": run,
    "SHELL": set_shell,
    "LABEL": nothing,
    "MAINTAINER": nothing,
    "CMD": nothing,
    "STOPSIGNAL": nothing,
    "USER": refusal("there is one user only", "remove it, or run the task in Docker"),
    "EXPOSE": refusal("services are not reached from outside", "remove it, if nothing needs it"),
    "ENTRYPOINT": refusal("no program is started beforehand", "start it from the tests"),
    "VOLUME": refusal("there are no volumes", "remove it"),
    "HEALTHCHECK": refusal("no service is watched", "remove it"),
    "ONBUILD": refusal("nothing is built upon this", "remove it"),
}
