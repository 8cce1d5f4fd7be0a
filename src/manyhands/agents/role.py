"""A role is a contract: a markdown file whose front matter says what an agent is handed.

Invariant: a `Role` that exists is valid. An unknown key, a value out of range, an unknown tool and
an unknown output are refused while the file is read, before any agent starts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import frontmatter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml import YAMLError

from manyhands.agents.approval import Approval
from manyhands.agents.contract import Completion
from manyhands.agents.flagging import OnFlag
from manyhands.errors import RoleError
from manyhands.runtime import Budget

Compaction = Literal["rules", "model"]

#: The name of the model of a role that a person fills.
HUMAN = "human"
_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Role:
    """What one kind of agent is told and handed.

    ``model``: a name for the caller to look up (None: its default model). ``temperature``: None
    leaves it to the server. ``max_tokens``: of one reply. ``max_turns``: model calls, the forced
    final one not counted. ``tools``: the only ones it gets. ``output``: the name of the type that
    its answer must have (None: plain text). ``completion``: when the work is done, and how it is
    pushed on until then. ``checks``: names of what its answer must pass. ``compaction``: when its
    context is full, old results become references and then old turns are left out (``rules``), or
    are first summed up by its model (``model``). ``on_flag``: what follows when a check of its
    steps flags one. ``approval``: what a person is asked before it is done. ``source``: the file,
    for messages.
    """

    name: str
    description: str
    instructions: str
    model: str | None = None
    temperature: float | None = None
    max_tokens: int = 2048
    max_turns: int = 20
    tools: tuple[str, ...] = ()
    budget: Budget | None = None
    output: str | None = None
    completion: Completion = Completion()  # noqa: RUF009 - frozen
    checks: tuple[str, ...] = ()
    compaction: Compaction = "rules"
    on_flag: OnFlag = OnFlag()  # noqa: RUF009 - frozen
    approval: Approval = Approval()  # noqa: RUF009 - frozen
    source: Path | None = None


class _FrontMatter(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = Field(min_length=1)
    model: str | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int = Field(2048, ge=16)
    max_turns: int = Field(20, ge=1)
    tools: tuple[str, ...] = ()
    budget: Budget | None = None
    output: str | None = None
    completion: Completion = Completion()
    checks: tuple[str, ...] = ()
    compaction: Compaction = "rules"
    on_flag: OnFlag = OnFlag()
    approval: Approval = Approval()


def parse_role(
    text: str,
    source: Path,
    *,
    tools: Collection[str] | None = None,
    outputs: Collection[str] | None = None,
    checks: Collection[str] | None = None,
) -> Role:
    """The role in ``text``; its name is the file's stem.

    ``tools``, ``outputs`` and ``checks``: the names that exist (None: not checked here). Raises
    `RoleError` naming the file, the field, the value and what is allowed.
    """
    name = source.stem
    if not _NAME.fullmatch(name):
        raise RoleError(
            f"{source}: a role cannot be called {name!r}; allowed: a-z, then a-z, 0-9 and '-'",
            next="rename the file",
        )
    found, instructions = _split(text, source)
    try:
        front = _FrontMatter.model_validate(found)
    except ValidationError as error:
        raise _explain(error, source) from error
    _check_names(source, "tools", front.tools, tools)
    _check_names(source, "output", [front.output] if front.output else [], outputs)
    _check_names(source, "checks", front.checks, checks)
    _check_names(source, "completion.requires", front.completion.requires, front.tools)
    return Role(name=name, instructions=instructions, source=source, **dict(front))


def load_roles(
    package_dir: Path,
    override_dir: Path | None = None,
    *,
    tools: Collection[str] | None = None,
    outputs: Collection[str] | None = None,
    checks: Collection[str] | None = None,
) -> dict[str, Role]:
    """Every ``*.md`` of ``package_dir`` by name; a file of the same name in ``override_dir`` wins.

    An override replaces the packaged file wholly: nothing is merged. Raises `RoleError` for an
    override of a role that does not exist, and as `parse_role` does.
    """
    files = {path.stem: path for path in sorted(package_dir.glob("*.md"))}
    if not files:
        raise RoleError(f"{package_dir}: no role files (*.md)", next="check the installation")
    for path in sorted(override_dir.glob("*.md")) if override_dir is not None else ():
        if path.stem not in files:
            raise RoleError(
                f"{path}: there is no role {path.stem!r}; allowed: {_listed(files)}",
                next="rename the file after the role that it replaces",
            )
        files[path.stem] = path
    return {
        name: parse_role(_read(path), path, tools=tools, outputs=outputs, checks=checks)
        for name, path in files.items()
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RoleError(f"{path}: {error}", next="make it a readable UTF-8 file") from error


def _split(text: str, source: Path) -> tuple[Mapping[str, Any], str]:
    """Front matter and instructions. `frontmatter` takes a broken head for plain text; not here."""
    next_step = "begin the file with '---', 'description: …', '---', then the instructions"
    lines = text.lstrip("\ufeff").strip().splitlines()
    head = [i for i, line in enumerate(lines) if re.fullmatch(r"-{3,}\s*", line)]
    if len(head) < 2 or head[0] != 0:
        raise RoleError(f"{source}: no front matter between two '---' lines", next=next_step)
    try:
        post = frontmatter.loads("\n".join(lines))
    except YAMLError as error:
        raise RoleError(f"{source}: front matter is not YAML: {error}", next=next_step) from error
    if not post.metadata and any(line.strip() for line in lines[1 : head[1]]):
        raise RoleError(f"{source}: front matter is not 'key: value' lines", next=next_step)
    if not post.content.strip():
        raise RoleError(
            f"{source}: no instructions below the front matter",
            next="write what the agent is to do",
        )
    return post.metadata, post.content.strip()


def _explain(error: ValidationError, source: Path) -> RoleError:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "front matter"
    if first["type"] == "extra_forbidden":
        parts = {"budget": Budget, "completion": Completion, "approval": Approval}
        known = parts.get(field.partition(".")[0], _FrontMatter).model_fields
        return RoleError(
            f"{source}: unknown key {field!r} = {first['input']!r}; allowed: {_listed(known)}",
            next="correct or remove the key",
        )
    if first["type"] == "missing":
        return RoleError(f"{source}: {field!r} is missing", next=f"add '{field}: …'")
    return RoleError(
        f"{source}: {field} = {first['input']!r} is not allowed: {first['msg']}",
        next=f"correct {field!r}",
    )


def _check_names(
    source: Path, field: str, given: Iterable[str], allowed: Collection[str] | None
) -> None:
    seen: set[str] = set()
    for name in given:
        if name in seen:
            raise RoleError(f"{source}: {field} names {name!r} twice", next="name it once")
        seen.add(name)
        if allowed is not None and name not in allowed:
            raise RoleError(
                f"{source}: {field} = {name!r} does not exist; allowed: {_listed(allowed)}",
                next="correct or remove the name",
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
