"""A Dockerfile as instructions: lines are joined, comments dropped, variables and quotes resolved.

Follows the official parser in what it reads. What it does not read (heredocs, another escape
character, rare forms of variables) it refuses by line, value and next action; it guesses nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from manyhands.errors import TaskUnsupported

#: Those that are written as a JSON list, too.
LISTED = ("RUN", "CMD", "ENTRYPOINT", "COPY", "ADD", "SHELL", "VOLUME")
HEREDOC = re.compile(r"(?:^|\s)\d*<<-?\s*[\"']?[A-Za-z_]")
CONTINUED = re.compile(r"(?<!\\)\\[ \t]*$")
DIRECTIVE = re.compile(r"^#\s*([a-zA-Z]+)\s*=\s*(\S+)\s*$")
VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[-+])([^${}]*))?\})")


@dataclass(frozen=True, slots=True)
class Instruction:
    """``text``: all after the name and its flags; ``listed``: where that is a JSON list of texts.
    ``line``: where it begins, from 1."""

    file: Path
    line: int
    name: str
    flags: tuple[str, ...]
    text: str
    listed: tuple[str, ...] | None = None

    def refused(self, what: str, next: str) -> TaskUnsupported:
        shown = " ".join([self.name, *self.flags, self.text])[:160]
        return TaskUnsupported(f"{self.file}:{self.line}: {what}: {shown}", next=next)

    def words(self, variables: Mapping[str, str]) -> list[str]:
        """Split at white space outside of quotes, with quotes taken away and variables resolved."""
        if self.listed is not None:
            return [_resolved(self, each, variables) for each in self.listed]
        return list(_words(self, self.text, variables, split=True))

    def value(self, variables: Mapping[str, str], text: str | None = None) -> str:
        """All of it as one word."""
        text = self.text if text is None else text
        return "".join(_words(self, text, variables, split=False))


def read_dockerfile(path: Path) -> tuple[Instruction, ...]:
    """Raises TaskUnsupported, and what reading the file raises."""
    lines = path.read_bytes().decode("utf-8").split("\n")
    return tuple(_instruction(path, line, text) for line, text in _joined(path, lines))


def _joined(path: Path, lines: list[str]) -> Iterator[tuple[int, str]]:
    """Each instruction on one line, and the line that it begins on."""
    _check_directives(path, lines)
    begun, parts = 0, list[str]()
    for number, line in enumerate(lines, 1):
        text = line.removesuffix("\r") if parts else line.removesuffix("\r").lstrip()
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        begun = begun if parts else number
        more = CONTINUED.search(text)
        parts.append(text[: more.start()] if more else text)
        if not more:
            yield begun, "".join(parts)
            parts = []
    if parts:
        yield begun, "".join(parts)


def _check_directives(path: Path, lines: list[str]) -> None:
    for number, line in enumerate(lines, 1):
        found = DIRECTIVE.match(line)
        if not found:
            return
        if found[1].lower() == "escape" and found[2] != "\\":
            raise TaskUnsupported(
                f"{path}:{number}: the escape character {found[2]!r} is not read",
                next="write the file with the usual backslash",
            )


def _instruction(path: Path, line: int, text: str) -> Instruction:
    name, _, rest = text.strip().partition(" ")
    name, _, more = name.partition("\t")
    rest = f"{more} {rest}".strip()
    flags: list[str] = []
    while found := re.match(r"--[a-z]\S*\s*", rest):
        flags.append(found[0].strip())
        rest = rest[found.end() :]
    made = Instruction(path, line, name.upper(), tuple(flags), rest.strip())
    if made.name in LISTED and made.text.startswith("["):
        made = Instruction(path, line, made.name, made.flags, made.text, _listed(made.text))
    if made.name in ("RUN", "COPY", "ADD") and made.listed is None and HEREDOC.search(made.text):
        raise made.refused("a heredoc is not read", "put the text into a file, and COPY it")
    return made


def _listed(text: str) -> tuple[str, ...] | None:
    """None: it is no list of texts, so a shell reads it, as in Docker."""
    try:
        found: Any = json.JSONDecoder().raw_decode(text)[0]
    except ValueError:
        return None
    if not isinstance(found, list):
        return None
    items = cast(list[Any], found)
    return tuple(items) if all(isinstance(each, str) for each in items) else None


def _words(
    where: Instruction, text: str, variables: Mapping[str, str], *, split: bool
) -> Iterator[str]:
    word, begun, at = "", False, 0
    while at < len(text):
        char = text[at]
        if split and char.isspace():
            if begun:
                yield word
            word, begun, at = "", False, at + 1
            continue
        begun = True
        if char in "'\"":
            piece, at = _quoted(where, text, at, variables)
            word += piece
        elif char == "\\" and at + 1 < len(text):
            word, at = word + text[at + 1], at + 2
        elif char == "$":
            piece, at = _variable(where, text, at, variables)
            word += piece
        else:
            word, at = word + char, at + 1
    if begun:
        yield word


def _quoted(
    where: Instruction, text: str, at: int, variables: Mapping[str, str]
) -> tuple[str, int]:
    quote, at, inner = text[at], at + 1, ""
    while at < len(text) and text[at] != quote:
        if quote == '"' and text[at] == "\\" and text[at + 1 : at + 2] in ('"', "\\", "$"):
            inner, at = inner + text[at + 1], at + 2
        elif quote == '"' and text[at] == "$":
            piece, at = _variable(where, text, at, variables)
            inner += piece
        else:
            inner, at = inner + text[at], at + 1
    if at >= len(text):
        raise where.refused(f"a quote {quote} has no end", "close it")
    return inner, at + 1


def _variable(
    where: Instruction, text: str, at: int, variables: Mapping[str, str]
) -> tuple[str, int]:
    """One that is not set is empty, as in Docker."""
    found = VARIABLE.match(text, at)
    if found is None:
        if text[at : at + 2] == "${":
            raise where.refused(
                "this form of a variable is not read", "use $NAME, ${NAME} or ${NAME:-text}"
            )
        return "$", at + 1
    value = variables.get(found[1] or found[2])
    is_set = bool(value) if (found[3] or "").startswith(":") else value is not None
    if found[3] and found[3].endswith("-") and not is_set:
        value = found[4]
    elif found[3] and found[3].endswith("+"):
        value = found[4] if is_set else ""
    return value or "", found.end()


def _resolved(where: Instruction, text: str, variables: Mapping[str, str]) -> str:
    """Of a text in a JSON list: variables only."""
    out, at = "", 0
    while at < len(text):
        if text[at] == "$":
            piece, at = _variable(where, text, at, variables)
            out += piece
        else:
            out, at = out + text[at], at + 1
    return out
