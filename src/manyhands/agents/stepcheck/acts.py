"""What a call did, told from its name, its arguments and its result.

Invariant: only an event makes an act: a call without a result that worked changed and showed
nothing. Where a trace does not say whether a call worked, its result's text is read for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from manyhands.agents.stepcheck.records import Call, Result, Step, texts


class Does(StrEnum):
    READ = "read"
    EDIT = "edit"
    COMMAND = "command"
    DELEGATE = "delegate"
    OTHER = "other"


_NAMES = (
    (Does.DELEGATE, r"delegat\w*|handoff\w*|transfer\w*|spawn\w*|ask_\w+"),
    (
        Does.EDIT,
        r"(multi_?)?(edit|write|create|patch|replace|insert|append|delete|remove|rename|move|save|"
        r"apply)(_?(file|files|patch|text|lines?|diff))?|str_replace\w*|file_(edit|write)\w*",
    ),
    (
        Does.COMMAND,
        r"bash|shell|sh|exec\w*|terminal|python|ipython|run\w*|command|code_interpreter|test\w*",
    ),
    (
        Does.READ,
        r"(read|view|open|cat|search|grep|glob|list|ls|find|fetch|look|get|query|browse|show|visit)"
        r"(_?\w+)?",
    ),
)
_BY_NAME = tuple((does, re.compile(pattern)) for does, pattern in _NAMES)

_TEST = re.compile(
    r"\b(py)?tests?\b|\btest_|_test\b|unittest|\b(tox|nox|make|build|compile|check|verify|lint|"
    r"ruff|mypy|pyright|jest|vitest|gradle|mvn|tsc)\b|\b(cargo|npm|yarn|pnpm|go) (run |test|build|"
    r"check|vet)",
    re.IGNORECASE,
)
#: Commands that say something by failing: what they look for is not there.
_LOOKS = re.compile(
    r"\s*(grep|rg|ls|find|which|diff|cat|head|stat|command -v|git (diff|log|show))\b"
)
_WRITES = re.compile(
    r">|\bsed\b.*-i|\b(tee|mv|cp|rm|touch|mkdir|patch|install)\b|\bpython|\bnode\b|\bperl\b|"
    r"\bcat <<|\bgit (apply|checkout|mv|rm|restore|stash)\b"
)
_FAILED_START = re.compile(
    r"\W*(error|failed|failure|traceback|exception|fatal|invalid|denied|timed out|timeout)\b|"
    r"\W*\w*(Error|Exception):|\W*(there is )?no such\b|\W*not found\b",
    re.IGNORECASE,
)
_FAILED_RUN = re.compile(
    r"Traceback \(most recent call last\)|command not found|No such file or directory|"
    r"exit(?:ed)?(?: with)?(?: code| status)?[:= ]+(?!0\b)-?\d+|\b[1-9]\d* (failed|errors?)\b|"
    r"exitcode: [1-9]|\bAssertionError\b"
)
_EXIT = re.compile(r"\Aexit (?:code|status) (-?\d+)|\Aended by signal")
#: How a delegated task ended, as the code team tells it, and as a report does.
_STATUS = re.compile(r'"status"\s*:\s*"(failed|partial)"|^Task \S+ \(\w+\): (?!complete)', re.M)


@dataclass(frozen=True, slots=True)
class Act:
    """``paths``: files that it names or changed; ``command``: what a shell or a test was given."""

    does: Does
    name: str
    at: int
    failed: bool
    text: str
    arguments: str
    paths: tuple[str, ...] = ()
    command: str = ""
    changed: tuple[str, ...] | None = None

    @property
    def tests(self) -> bool:
        """It runs something that judges the work."""
        return self.does is Does.COMMAND and bool(_TEST.search(f"{self.name} {self.command}"))

    @property
    def looks(self) -> bool:
        return self.does is Does.READ or bool(self.command and _LOOKS.match(self.command))

    @property
    def writes(self) -> bool:
        """It changed something, as far as can be told."""
        if self.failed and not self.changed:
            return False
        if self.changed is not None:
            return bool(self.changed) or (self.does is Does.EDIT)
        return self.does is Does.EDIT or bool(self.command and _WRITES.search(self.command))


def does(name: str, arguments: Mapping[str, Any]) -> Does:
    """What a tool of this name is for."""
    plain = name.rsplit(".", 1)[-1].rsplit("__", 1)[-1].lower().replace("-", "_")
    for kind, pattern in _BY_NAME:
        if pattern.fullmatch(plain):
            return kind
    if any(isinstance(arguments.get(key), str) for key in ("command", "cmd", "script")):
        return Does.COMMAND
    return Does.OTHER


def acts_of(step: Step) -> Iterator[Act]:
    """The acts of a step's calls that have a result, and of results that have no call."""
    calls = step.calls or tuple(Call(result.name) for result in step.results)
    by_id = {result.id: result for result in step.results if result.id}
    for at, call in enumerate(calls):
        result = by_id.get(call.id) if call.id else None
        if result is None and at < len(step.results):
            result = step.results[at]
        if result is not None and not result.refused:
            yield _act(at, call, result)


def _act(at: int, call: Call, result: Result) -> Act:
    arguments = call.parsed or {}
    kind = does(call.name, arguments)
    named: list[str] = []
    command = ""
    for key, text in texts(arguments):
        lower = key.lower()
        if "path" in lower or "file" in lower:
            named.append(text)
        elif not command and lower in ("command", "cmd", "script", "code"):
            command = text
    failed = _failed(kind, result)
    changed = result.changed
    paths = tuple(dict.fromkeys((*named, *(changed or ()))))
    return Act(kind, call.name, at, failed, result.text, call.arguments, paths, command, changed)


def _failed(kind: Does, result: Result) -> bool:
    """A command that could be run may still have failed: its exit status and its output say so."""
    if result.ok is False or result.code is not None:
        return result.ok is False or result.code != 0
    head = result.text[:400]
    if kind is Does.COMMAND:
        if found := _EXIT.match(head):
            return found[1] is None or found[1] != "0"
        if _FAILED_RUN.search(head) or _FAILED_RUN.search(result.text[-400:]):
            return True
    if kind is Does.DELEGATE and _STATUS.search(result.text[:2000]):
        return True
    return result.ok is None and bool(_FAILED_START.match(head))
