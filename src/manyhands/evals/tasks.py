"""A task's directory, in Harbor's format: what to do, where, and how it is verified.

Invariant: a `Task` can be prepared and verified without Docker on this machine, as far as its files
say; whatever it asks for beyond that was refused by name when it was loaded.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from manyhands.errors import TaskError, TaskUnsupported
from manyhands.ports import SandboxLimits
from manyhands.wiring.sandboxes import sandbox_path

from .image import Image, read_image
from .installs import NEEDS_NETWORK, is_installer, segments

CONFIG = "task.toml"
AGENT_SECONDS = 1800.0
#: What is written in a sandbox is memory of the machine: a task's storage is held to this.
DISK_MB = 4096
TEMPLATE = re.compile(r"\$\{([^}:]+)(?::-(.*))?\}")


class _Part(BaseModel):
    """Harbor ignores keys that it does not know, and so is it here."""

    model_config = ConfigDict(extra="ignore")


class _Environment(_Part):
    build_timeout_sec: float = Field(600.0, gt=0)
    docker_image: str | None = None
    os: str = "linux"
    memory_mb: int | None = Field(None, gt=0)
    storage_mb: int | None = Field(None, gt=0)
    gpus: int | None = None
    tpu: dict[str, Any] | None = None
    mcp_servers: list[Any] = []
    env: dict[str, str] = {}
    healthcheck: dict[str, Any] | None = None
    workdir: str | None = None
    network_mode: str | None = None


class _Agent(_Part):
    timeout_sec: float | None = Field(None, gt=0)
    user: str | int | None = None


class _Verifier(_Part):
    timeout_sec: float = Field(600.0, gt=0)
    env: dict[str, str] = {}
    user: str | int | None = None
    environment_mode: str | None = None
    environment: dict[str, Any] | None = None
    collect: list[Any] = []


class _Solution(_Part):
    env: dict[str, str] = {}


class _Config(_Part):
    metadata: dict[str, Any] = {}
    environment: _Environment = _Environment.model_construct()
    agent: _Agent = _Agent.model_construct()
    verifier: _Verifier = _Verifier.model_construct()
    solution: _Solution = _Solution()
    steps: list[Any] = []


@dataclass(frozen=True, slots=True)
class Task:
    """``env``: of every command in its workspace. The seconds are limits: of the agent's whole
    work, of the verifier, and of each command of the preparation."""

    name: str
    path: Path
    instruction: str
    image: Image
    env: Mapping[str, str]
    verifier_env: Mapping[str, str]
    solution_env: Mapping[str, str]
    agent_seconds: float
    verifier_seconds: float
    build_seconds: float
    memory_mb: int
    disk_mb: int
    difficulty: str = ""

    @property
    def workdir(self) -> str:
        """Where the workspace lies in its sandboxes (their ``place``)."""
        return self.image.workdir

    @property
    def tests(self) -> Path:
        return self.path / "tests"

    @property
    def solution(self) -> Path | None:
        """The folder of the reference solution, where there is one."""
        folder = self.path / "solution"
        return folder if (folder / "solve.sh").is_file() else None

    def limits(self, seconds: float | None = None) -> SandboxLimits:
        """Of its sandboxes; ``seconds`` for each command (None: the agent's limit)."""
        return SandboxLimits(
            seconds=seconds or self.agent_seconds, memory_mb=self.memory_mb, disk_mb=self.disk_mb
        )


def load_task(path: Path) -> Task:
    """Raises TaskError for a directory that is no task, TaskUnsupported for one that cannot be run
    here."""
    path = path.resolve()
    file = path / CONFIG
    if not file.is_file():
        raise TaskError(
            f"{path} is no task: it has no {CONFIG}",
            next="name a task's directory, or a folder of tasks with `manyhands tasks list`",
        )
    for name in (CONFIG, "instruction.md", "tests", "solution", "environment/Dockerfile"):
        if not (path / name).resolve().is_relative_to(path):
            raise TaskError(
                f"{path / name} leads out of the task's directory", next="put a copy in its place"
            )
    config = _read(file)
    _refuse(file, config)
    instruction = _text(path / "instruction.md")
    if not (path / "tests" / "test.sh").is_file():
        raise TaskError(f"{path} has no tests/test.sh", next="write it: it writes the reward")
    _check_offline(path / "tests" / "test.sh")
    place = config.environment
    image = read_image(_dockerfile(path), path=sandbox_path(), workdir=place.workdir or "")
    return Task(
        name=path.name,
        path=path,
        instruction=instruction,
        image=image,
        env={**image.env, **resolved(file, "environment", place.env)},
        verifier_env=resolved(file, "verifier", config.verifier.env),
        solution_env=resolved(file, "solution", config.solution.env),
        agent_seconds=config.agent.timeout_sec or AGENT_SECONDS,
        verifier_seconds=config.verifier.timeout_sec,
        build_seconds=place.build_timeout_sec,
        memory_mb=place.memory_mb or SandboxLimits().memory_mb,
        disk_mb=min(place.storage_mb or SandboxLimits().disk_mb, DISK_MB),
        difficulty=str(config.metadata.get("difficulty", "")),
    )


def find_tasks(folder: Path) -> list[Path]:
    """The folder itself if it is a task, else those directly below it. Raises TaskError."""
    if (folder / CONFIG).is_file():
        return [folder]
    found = sorted(file.parent for file in folder.glob(f"*/{CONFIG}"))
    if not found:
        raise TaskError(
            f"{folder} holds no task: no {CONFIG} in it or one folder below",
            next="name a folder of tasks in Harbor's format, as examples/tasks",
        )
    return found


def _read(file: Path) -> _Config:
    try:
        return _Config.model_validate(tomllib.loads(file.read_text("utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TaskError(f"{file}: {where}: {first['msg']}", next="correct the value") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TaskError(f"{file}: {error}", next="mend the file") from error


def _refuse(file: Path, config: _Config) -> None:
    """What Harbor knows and a sandbox is not."""
    place, judge = config.environment, config.verifier
    apart = judge.environment is not None or judge.environment_mode == "separate"
    users = [user for user in (config.agent.user, judge.user) if user not in (None, "root", 0)]
    asked = {
        "steps": bool(config.steps),
        f"environment.os = {place.os!r}": place.os.lower() != "linux",
        f"environment.gpus = {place.gpus}": bool(place.gpus),
        "environment.tpu": place.tpu is not None,
        "environment.mcp_servers": bool(place.mcp_servers),
        "environment.healthcheck": place.healthcheck is not None,
        "environment.network_mode = 'allowlist'": place.network_mode == "allowlist",
        "verifier.collect": bool(judge.collect),
        "a verifier in an environment of its own": apart,
        f"user = {users[0] if users else ''!r}": bool(users),
    }
    for what, there in asked.items():
        if there:
            raise TaskUnsupported(
                f"{file}: {what} is not known without Docker",
                next="run the task in Docker, or leave that out",
            )


def _dockerfile(path: Path) -> Path:
    folder = path / "environment"
    for name in ("docker-compose.yaml", "docker-compose.yml"):
        if (folder / name).exists():
            raise TaskUnsupported(
                f"{folder / name}: services of docker compose are not started",
                next="run the task in Docker, or describe its one container in a Dockerfile",
            )
    file = folder / "Dockerfile"
    if not file.is_file():
        raise TaskUnsupported(
            f"{path} has no environment/Dockerfile: finished images are not fetched",
            next="write one, or run the task in Docker",
        )
    return file


def _check_offline(script: Path) -> None:
    for number, line in enumerate(_text(script).splitlines(), 1):
        for piece, _ in segments(line.split(" #")[0]) if not line.lstrip().startswith("#") else ():
            if NEEDS_NETWORK.match(piece.strip()) or is_installer(piece):
                raise TaskUnsupported(
                    f"{script}:{number}: the verifier has no network: {piece.strip()[:120]}",
                    next="use programs that are here, or run the task in Docker",
                )


def _text(file: Path) -> str:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{file} cannot be read: {error}", next="write it") from error
    if not text.strip():
        raise TaskError(f"{file} is empty", next="write it")
    return text


def resolved(file: Path, table: str, env: Mapping[str, str]) -> dict[str, str]:
    """``${NAME}`` and ``${NAME:-default}`` stand for variables of this process, as in Harbor."""
    found: dict[str, str] = {}
    for name, value in env.items():
        asked = TEMPLATE.fullmatch(value)
        if asked is None:
            found[name] = value
            continue
        default: str | None = asked[2]
        here = os.environ.get(asked[1], default)
        if here is None:
            raise TaskError(
                f"{file}: {table}.env.{name} needs the variable {asked[1]}, which is not set",
                next=f"set {asked[1]}",
            )
        found[name] = here
    return found
