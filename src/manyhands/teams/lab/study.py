"""A study: what `study.toml` says, checked as a whole before anything runs.

Invariant: a `Study` that `load_study` returns contradicts neither itself nor the folder it stands
in, and its metric cannot come from a file that agents may edit. Everything that is wrong is told
in one `StudyError`: the file, the key, the value, the limit, and the next action.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from manyhands.errors import StudyError
from manyhands.teams.lab.contradictions import (
    PLACEHOLDER,
    PYTHON,
    Problem,
    folder_problems,
    own_problems,
    schema_problems,
)
from manyhands.teams.lab.paths import is_plain, list_files, matches
from manyhands.teams.lab.schema import FILE, SettingRange, StudyConfig

__all__ = ["FILE", "SettingRange", "Study", "StudyConfig", "load_study", "parse_study"]


@dataclass(frozen=True)
class Study:
    """A checked study. ``dir`` is absolute; ``edit_files`` are the editable files that stand there
    now; ``fingerprint`` is the SHA-256 of the configuration and of what ``protect`` matches."""

    dir: Path
    config: StudyConfig
    edit_files: tuple[str, ...]
    fingerprint: str

    @property
    def name(self) -> str:
        return self.config.study.name

    def editable(self, path: str) -> bool:
        """May agents change ``path`` (relative, with ``/``)? A path that is not plain never is."""
        return path != FILE and is_plain(path) and matches(path, self.config.files.edit)

    # ------------------------------------------------ commands

    def prepare_argv(self, data: Path, sealed: Path) -> tuple[str, ...] | None:
        prepare = self.config.prepare
        return self.argv(prepare.command, data=data, sealed=sealed) if prepare else None

    def train_argv(self, seed: int, data: Path, out: Path) -> tuple[str, ...]:
        return self.argv(self.config.train.command, seed=seed, data=data, out=out)

    def train_env(self, seed: int, data: Path, out: Path) -> dict[str, str]:
        values = {"seed": seed, "data": data, "out": out}
        return {k: _fill(_at_home(v), values) for k, v in self.config.train.env.items()}

    def evaluate_argv(self, out: Path, data: Path) -> tuple[str, ...]:
        return self.argv(self.config.metric.evaluate, out=out, data=data)

    def holdout_argv(self, out: Path, data: Path, sealed: Path) -> tuple[str, ...] | None:
        command = self.config.metric.holdout
        return self.argv(command, out=out, data=data, sealed=sealed) if command else None

    def argv(self, command: str, **values: object) -> tuple[str, ...]:
        """``command`` as words, split as a POSIX shell splits them. No shell runs; a path with
        spaces stays one word. A word's leading ``~`` is the user's home; ``{{`` and ``}}`` stand
        for braces."""
        first, *rest = shlex.split(command)
        words = [str(self.python) if first in PYTHON else first, *rest]
        return tuple(_fill(_at_home(word), values) for word in words)

    @property
    def python(self) -> Path:
        """The interpreter that `python` in a command stands for. Symlinks are kept: through them
        an interpreter finds its virtual environment."""
        named = self.config.study.python
        return self._path(named) if named else Path(sys.executable)

    # ------------------------------------------------ paths

    @property
    def read_paths(self) -> tuple[Path, ...]:
        """What jobs may read: ``data.read`` and where the interpreter is installed."""
        named = [self._path(p) for p in self.config.data.read]
        return tuple(dict.fromkeys([*named, *_installation(self.python)]))

    def hidden_paths(self, sealed: Path | None = None) -> tuple[Path, ...]:
        """What training must not read: ``data.hidden``, ``sealed``, and the absolute paths in the
        JSON list ``sealed/hidden.json`` if there is one. Raises `StudyError` if it is no such list.
        """
        paths = [self._path(p) for p in self.config.data.hidden]
        if sealed is not None:
            paths += [sealed, *_listed(sealed / "hidden.json")]
        return tuple(dict.fromkeys(paths))

    def check_paths(self) -> None:
        """Raises `StudyError` where ``data.read`` names what is not there (yet)."""
        for key in self.config.data.read:
            path = self._path(key)
            if not path.exists():
                raise StudyError(
                    f"{self.dir / FILE}: data.read names {key!r}, and {path} is not there",
                    next="prepare the data, or take the path out of data.read",
                )

    def _path(self, text: str) -> Path:
        return Path(os.path.normpath(self.dir / Path(text).expanduser()))

    # ------------------------------------------------ numbers

    @property
    def slot_count(self) -> int:
        count = self.config.slots.count
        return _cores() if count == "auto" else count

    def gain(self, metric: float, master: float) -> float:
        """How much better ``metric`` is than ``master``: positive when better."""
        return master - metric if self.config.metric.direction == "lower" else metric - master

    def implausible(self, value: float) -> str:
        """Why ``value`` cannot be a result of this study; '' if it can."""
        low, high = self.config.metric.min, self.config.metric.max
        if not math.isfinite(value):
            return f"{value} is not a finite number"
        if low is not None and value < low:
            return f"{value:g} is below metric.min = {low:g}"
        if high is not None and value > high:
            return f"{value:g} is above metric.max = {high:g}"
        return ""


# ---------------------------------------------------------------- loading


def load_study(folder: Path | str) -> Study:
    """The study in ``folder`` (or named by its study.toml). Raises `StudyError`."""
    root = Path(folder).expanduser().resolve()
    root = root.parent if root.name == FILE else root
    config = parse_study(_read(root), root / FILE)
    files = list_files(root)
    _refuse(root / FILE, folder_problems(config, root, files))
    edit = tuple(f for f in files if matches(f, config.files.edit))
    return Study(root, config, edit, _fingerprint(config, root, files))


def parse_study(text: str, file: Path | str = FILE) -> StudyConfig:
    """The configuration in ``text``, checked as far as that goes without the study's folder.

    ``file`` is what errors name. Raises `StudyError`.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{file}: not TOML: {error}", next="mend that line") from error
    try:
        # Through JSON, so that types are strict ("4" is no number) and lists may become tuples.
        config = StudyConfig.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        _refuse(file, schema_problems(error, data))
        raise
    _refuse(file, own_problems(config))
    return config


def _read(root: Path) -> str:
    try:
        return (root / FILE).read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        there = "no such folder" if not root.is_dir() else f"no {FILE} in it"
        raise StudyError(
            f"{root}: {there}",
            next=f"write one with `manyhands lab init {root}`, or name a study's folder",
        ) from error
    except UnicodeDecodeError as error:
        raise StudyError(f"{root / FILE}: not UTF-8: {error}", next="save it as UTF-8") from error
    except OSError as error:
        raise StudyError(f"{root / FILE}: {error.strerror}", next="make it readable") from error


def _refuse(file: Path | str, problems: Iterable[Problem]) -> None:
    found = list(problems)
    if not found:
        return
    one = f" {found[0].what}"
    what = one if len(found) == 1 else "".join(f"\n  {p.what}" for p in found)
    raise StudyError(f"{file}:{what}", next="; ".join(dict.fromkeys(p.next for p in found)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _installation(python: Path) -> Iterator[Path]:
    """Where ``python`` and its packages lie: its virtual environment and what that is based on."""
    for exe, mark in ((python, "pyvenv.cfg"), (python.resolve(), "lib")):
        root = exe.parent.parent
        # Without these marks the folder above bin/ could be anything, a home for one.
        if (root / mark).is_file() or any((root / mark).glob("python3*")):
            yield root


def _listed(file: Path) -> list[Path]:
    if not file.exists():
        return []
    try:
        paths: object = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{file}: {error}", next="let prepare write a JSON list there") from error
    if not isinstance(paths, list):
        raise StudyError(f"{file}: not a JSON list", next="let prepare write a JSON list there")
    for path in cast(list[object], paths):
        if not isinstance(path, str) or not os.path.isabs(path):
            raise StudyError(
                f"{file}: {path!r} is not an absolute path", next="let prepare write absolute paths"
            )
    return [Path(p) for p in cast(list[str], paths)]


def _at_home(text: str) -> str:
    return str(Path(text).expanduser()) if text == "~" or text.startswith("~/") else text


def _fill(text: str, values: Mapping[str, object]) -> str:
    def value(found: re.Match[str]) -> str:
        return found[0][0] if found[1] is None else str(values[found[1]])

    return PLACEHOLDER.sub(value, text)


def _fingerprint(config: StudyConfig, root: Path, files: Sequence[str]) -> str:
    # Where ideas come from makes no result another.
    said = config.model_dump(mode="json", exclude={"papers"})
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for file in files:
        if matches(file, config.files.protect):
            digest.update(f"\0{file}\0".encode())
            digest.update(hashlib.sha256((root / file).read_bytes()).digest())
    return digest.hexdigest()
