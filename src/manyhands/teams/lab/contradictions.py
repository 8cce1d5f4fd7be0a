"""Everything that can be wrong with a `study.toml`, each as one `Problem`.

Invariant: a problem names the key, the value and the limit; nothing of the study's folder is run.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from manyhands.teams.lab.paths import is_plain, matches
from manyhands.teams.lab.schema import (
    FILE,
    PLACEHOLDERS,
    About,
    Data,
    Files,
    Limits,
    Metric,
    Prepare,
    Promotion,
    Section,
    SettingRange,
    Slots,
    StudyBudget,
    StudyConfig,
    Train,
)

#: ``{name}``; ``{{`` and ``}}`` stand for braces.
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
PYTHON = frozenset({"python", "python3"})


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: ``what`` names key, value and limit; ``next`` the next action."""

    what: str
    next: str


# ------------------------------------------------ against the schema


def schema_problems(error: ValidationError, data: Mapping[str, Any]) -> Iterator[Problem]:
    """Where ``data``, the parsed TOML, is not of the schema's shape."""
    told: set[str] = set()
    for item in error.errors(include_url=False):
        path = _toml_path(item["loc"], data, keep_last=item["type"] == "missing")
        key = ".".join(path)
        # A union tells one error per member: the first is enough.
        if key in told:
            continue
        told.add(key)
        yield _schema_problem(item["type"], path, item["input"], item["msg"])


def _schema_problem(kind: str, path: Sequence[str], value: object, message: str) -> Problem:
    key = ".".join(path)
    limit = message.replace("Input should", "it should").replace("String should", "it should")
    if kind == "extra_forbidden":
        where = f"in [{'.'.join(path[:-1])}]" if path[:-1] else "at the top"
        known = _known(path)
        return Problem(
            f"unknown key {path[-1]!r} {where}{_meant(path[-1], known)}",
            f"take {key} out, or use one of: {', '.join(known)}",
        )
    if kind == "missing":
        return Problem(f"{key} is missing", f"add {key}")
    shown = f"{key} = {json.dumps(value, default=str, ensure_ascii=False)[:80]}"
    return Problem(f"{shown}: {limit}", f"change {key}")


def _toml_path(loc: Sequence[str | int], data: Any, *, keep_last: bool) -> tuple[str, ...]:
    """``loc`` without the parts that pydantic adds for the members of a union."""
    path: list[str] = []
    for part in loc:
        if isinstance(data, Mapping) and part in data:
            data = cast(Mapping[str | int, Any], data)[part]
        elif isinstance(data, list) and isinstance(part, int):
            data = cast(list[Any], data)[part]
        elif not keep_last:
            break
        path.append(str(part))
    return tuple(path)


def _known(path: Sequence[str]) -> list[str]:
    """The keys that may stand where ``path`` ends."""
    model: type[BaseModel] = StudyConfig
    for part in path[:-1]:
        if model is StudyConfig and part in _SECTIONS:
            model = _SECTIONS[part]
        elif model is not StudyConfig:
            break
    return list(model.model_fields)


_SECTIONS: Mapping[str, type[Section]] = {
    "study": About,
    "files": Files,
    "prepare": Prepare,
    "train": Train,
    "metric": Metric,
    "data": Data,
    "limits": Limits,
    "slots": Slots,
    "budget": StudyBudget,
    "promotion": Promotion,
    "settings": SettingRange,
}


# ------------------------------------------------ against itself


def own_problems(config: StudyConfig) -> Iterator[Problem]:
    """Where the configuration contradicts itself."""
    low, high = config.metric.min, config.metric.max
    if low is not None and high is not None and low >= high:
        yield Problem(f"metric.min = {low:g} is not below metric.max = {high:g}", "set min < max")
    yield from _numbers(config)
    yield from _globs(config.files)
    for name, searched in config.settings.items():
        yield from _range(f"settings.{name}", searched)
    for key in config.train.env:
        if key.startswith("MANYHANDS_"):
            yield Problem(f"train.env sets {key}, which the harness sets", f"rename {key}")
    for key, command in _named_commands(config):
        yield from _words(key, command, PLACEHOLDERS[key])
    for key, text in config.train.env.items():
        yield from _placeholders(f"train.env.{key}", text, PLACEHOLDERS["train.command"])
    yield from _prepared(config)


def _numbers(config: StudyConfig) -> Iterator[Problem]:
    promotion, budget = config.promotion, config.budget
    if promotion.screen_seeds > promotion.max_pairs:
        yield Problem(
            f"promotion.screen_seeds = {promotion.screen_seeds} is above "
            f"promotion.max_pairs = {promotion.max_pairs}",
            "screen with fewer seeds",
        )
    if budget.runs <= promotion.baseline_seeds:
        yield Problem(
            f"budget.runs = {budget.runs} leaves no run after the baseline "
            f"(promotion.baseline_seeds = {promotion.baseline_seeds})",
            "raise budget.runs",
        )


def _globs(files: Files) -> Iterator[Problem]:
    for key, globs in (("edit", files.edit), ("protect", files.protect)):
        for glob in globs:
            if not is_plain(glob.rstrip("/") or "/"):
                yield Problem(
                    f"files.{key} names {glob!r}, which is not a plain path below the study",
                    f"name files of the study's folder in files.{key}",
                )


def _range(key: str, searched: SettingRange) -> Iterator[Problem]:
    low, high, choices = searched.low, searched.high, searched.choices
    if choices:
        if low is not None or high is not None or searched.log:
            yield Problem(f"{key} has both choices and a range", f"keep one of the two in {key}")
        if len(set(map(repr, choices))) < 2:
            yield Problem(f"{key}.choices = {list(choices)}: at least 2 are needed", "add choices")
        return
    if low is None or high is None:
        yield Problem(f"{key} has neither choices nor both low and high", f"complete {key}")
    elif low >= high:
        yield Problem(f"{key}.low = {low:g} is not below {key}.high = {high:g}", "set low < high")
    elif searched.log and low <= 0:
        yield Problem(
            f"{key}.low = {low:g} with log = true: a logarithm needs low > 0",
            f"raise {key}.low, or leave log out",
        )


def _named_commands(config: StudyConfig) -> Iterator[tuple[str, str]]:
    if config.prepare:
        yield "prepare.command", config.prepare.command
    yield "train.command", config.train.command
    yield "metric.evaluate", config.metric.evaluate
    if config.metric.holdout:
        yield "metric.holdout", config.metric.holdout


def _words(key: str, command: str, allowed: Sequence[str]) -> Iterator[Problem]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        yield Problem(f"{key} = {command!r}: {error}", f"mend the quotes in {key}")
        return
    if not words:
        yield Problem(f"{key} is empty", f"write a command in {key}")
    yield from _placeholders(key, command, allowed)
    if key in ("metric.evaluate", "metric.holdout") and "out" not in _names(command):
        yield Problem(
            f"{key} = {command!r} does not name {{out}}, where training leaves its artifact",
            f"hand {{out}} to the evaluator in {key}",
        )


def _placeholders(key: str, text: str, allowed: Sequence[str]) -> Iterator[Problem]:
    for name in _names(text):
        if name in allowed:
            continue
        if name == "sealed":
            yield Problem(
                f"{key} uses {{sealed}}, which only prepare.command and metric.holdout may see",
                f"take {{sealed}} out of {key}",
            )
            continue
        known = ", ".join(f"{{{a}}}" for a in allowed)
        yield Problem(f"{key} uses {{{name}}}, which is none of {known}", f"mend {key}")


def _names(text: str) -> list[str]:
    return [m[1] for m in PLACEHOLDER.finditer(text) if m[1] is not None]


def _prepared(config: StudyConfig) -> Iterator[Problem]:
    """{data} and {sealed} are filled by prepare alone."""
    if config.prepare:
        return
    for key, command in _named_commands(config):
        for name in _names(command):
            if name in ("data", "sealed"):
                yield Problem(
                    f"{key} uses {{{name}}}, and there is no [prepare] that fills it",
                    "add [prepare], or name the data in data.read and in the command",
                )


# ------------------------------------------------ against the folder


def folder_problems(config: StudyConfig, root: Path, files: Sequence[str]) -> Iterator[Problem]:
    """Where the configuration contradicts the folder ``root`` that holds ``files``."""
    yield from _commands(config, root, files)
    for glob in config.files.edit:
        found = [f for f in files if matches(f, [glob])]
        yield from _nothing("edit", glob, found, files)
        for file in found:
            yield from _not_editable(file, root, config.files.protect)
    for glob in config.files.protect:
        yield from _nothing("protect", glob, [f for f in files if matches(f, [glob])], files)
    yield from _interpreter(config, root)
    yield from _hiding(config, root)


def _nothing(key: str, glob: str, found: Sequence[str], files: Sequence[str]) -> Iterator[Problem]:
    if not found:
        what = f"files.{key} names {glob!r}, which matches no file{_meant(glob, files)}"
        yield Problem(what, f"mend files.{key}")


def _meant(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _not_editable(file: str, root: Path, protect: Sequence[str]) -> Iterator[Problem]:
    if file == FILE:
        yield Problem(f"files.edit matches {FILE}, which is always protected", "narrow files.edit")
    if matches(file, protect):
        yield Problem(
            f"{file!r} is matched by both files.edit and files.protect",
            "decide for one of the two",
        )
    if (root / file).is_symlink():
        yield Problem(f"files.edit matches {file!r}, a symbolic link", "edit the file itself")


def _interpreter(config: StudyConfig, root: Path) -> Iterator[Problem]:
    named = config.study.python
    if named and not os.access(root / Path(named).expanduser(), os.X_OK):
        yield Problem(
            f"study.python = {named!r} is not an executable file",
            "create that environment, or name another interpreter",
        )


def _hiding(config: StudyConfig, root: Path) -> Iterator[Problem]:
    def real(text: str) -> Path:
        return (root / Path(text).expanduser()).resolve()

    for hidden in config.data.hidden:
        if root.is_relative_to(real(hidden)):
            yield Problem(f"data.hidden = {hidden!r} hides the study itself", "narrow data.hidden")
        for read in config.data.read:
            if real(read).is_relative_to(real(hidden)):
                yield Problem(
                    f"data.read = {read!r} lies within data.hidden = {hidden!r}",
                    "take one of the two out",
                )


def _commands(config: StudyConfig, root: Path, files: Sequence[str]) -> Iterator[Problem]:
    """Scripts must be there, and what measures must neither be editable nor import what is."""
    for key, command in _named_commands(config):
        script = _script(command)
        if script and is_plain(script) and script not in files:
            hint = _meant(script, files)
            yield Problem(f"{key} runs {script!r}, which is not there{hint}", f"mend {key}")
        if key.startswith("metric."):
            yield from _measuring(key, command, config.files.edit, root, files)


def measuring_files(config: StudyConfig, files: Sequence[str]) -> tuple[str, ...]:
    """Those of ``files`` that the commands of [metric] name."""
    commands = [c for key, c in _named_commands(config) if key.startswith("metric.")]
    return tuple(dict.fromkeys(file for c in commands for file in _named_files(c, files)))


def _named_files(command: str, files: Sequence[str]) -> list[str]:
    words = {_clean(word) for word in (*shlex.split(command), _script(command))}
    return sorted(words & set(files))


def _measuring(
    key: str, command: str, edit: Sequence[str], root: Path, files: Sequence[str]
) -> Iterator[Problem]:
    for file in _named_files(command, files):
        chain = _way_to(edit, file, root, files)
        if chain:
            imports = "".join(f", which imports {later!r}" for later in chain[1:])
            yield Problem(
                f"{key} runs {file!r}{imports}, which agents may edit",
                "let protected files alone measure, from data that training left in {out}",
            )


def _way_to(edit: Sequence[str], start: str, root: Path, files: Sequence[str]) -> tuple[str, ...]:
    """The shortest chain of imports from ``start`` to an editable file; () if there is none."""
    seen = {start}
    waiting: deque[tuple[str, ...]] = deque([(start,)])
    while waiting:
        chain = waiting.popleft()
        if matches(chain[-1], edit):
            return chain
        for file in _imported(chain[-1], root, files):
            if file not in seen:
                seen.add(file)
                waiting.append((*chain, file))
    return ()


def _imported(file: str, root: Path, files: Sequence[str]) -> Iterator[str]:
    """The files of the study that ``file`` imports, as its syntax tells."""
    try:
        tree = ast.parse((root / file).read_bytes()) if file.endswith(".py") else None
    except (OSError, SyntaxError, ValueError):
        return
    here = PurePosixPath(file).parent
    for name in _module_names(tree) if tree else ():
        path = name.replace(".", "/")
        for found in (path + ".py", path + "/__init__.py"):
            for place in dict.fromkeys((found, (here / found).as_posix())):
                if place in files:
                    yield place


def _module_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = f"{node.module}." if node.module else ""
            yield from (base + alias.name for alias in node.names)
            yield node.module or ""


def _script(command: str) -> str:
    """The Python file that ``command`` runs, as far as its words tell; '' if they don't."""
    words = shlex.split(command)
    for word, following in zip(words, [*words[1:], ""]):
        if word == "-m":
            return following.replace(".", "/") + ".py" if PYTHON & set(words) else ""
        if word.endswith(".py"):
            return _clean(word)
    return ""


def _clean(word: str) -> str:
    return PurePosixPath(word).as_posix()
