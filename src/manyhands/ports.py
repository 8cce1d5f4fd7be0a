"""Every seam to the outside, in one file. Adapters implement these; only ``wiring`` names them.

A port is added with its first adapter. Data here is frozen and carries no behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

# ---------------------------------------------------------------- models


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request as the server reported them (not yet trusted)."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input_per_million: float
    output_per_million: float


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the model wrote it; ``arguments`` is JSON text, not yet validated."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One chat-completions request. ``messages`` and ``tools`` are encoded JSON, once each.

    ``seconds`` bounds the whole request, ``first_token_seconds`` the time to the first byte of it.
    ``agent`` is who asks (a scope's path): requests that wait are served fairly between agents. It
    is never sent.
    """

    messages: Sequence[bytes]
    tools: Sequence[bytes] = ()
    max_tokens: int = 2048
    temperature: float | None = None
    response_schema: bytes | None = None
    tool_choice: str | None = None
    seed: int | None = None
    seconds: float = 300.0
    first_token_seconds: float = 120.0
    agent: str = ""


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What came back. ``usage`` is None where the server did not say; ``raw`` is the body.

    ``reasoning``: what the server set apart as the model's thinking; never part of ``text``.
    ``queued_seconds``: how long it waited on our side before it was sent (not in ``seconds``).
    """

    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    usage: Usage | None
    raw: bytes
    seconds: float
    first_token_seconds: float | None = None
    reasoning: str = ""
    queued_seconds: float = 0.0


class Model(Protocol):
    """A chat model behind an endpoint. Raises only ``errors.ModelError`` and its children."""

    @property
    def name(self) -> str: ...

    @property
    def price(self) -> Price | None:
        """None: not known, so it cannot be used under a money budget without saying so."""
        ...

    @property
    def context_length(self) -> int | None: ...

    async def request(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """``on_text`` is given the pieces of the reply's text as they come, for somebody to watch.
        Where this raises, or is cancelled, the pieces so far are void: no reply has them."""
        ...

    async def close(self) -> None: ...


# ---------------------------------------------------------------- jobs


@dataclass(frozen=True, slots=True)
class JobLimits:
    """All enforced by the runner, on the whole process tree of a job."""

    seconds: float = 600.0
    memory_mb: int = 4096
    output_mb: float = 8.0
    disk_mb: int = 1024


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One command to run. ``key`` is stable: a re-run of the same work has the same key.

    ``cwd`` and ``out`` belong to this job alone and are writable; ``read`` is readable; ``hidden``
    must not be readable, even where it lies below something readable; nothing else is writable.
    ``log`` receives stdout and stderr together, cut at ``limits.output_mb``.
    """

    key: str
    command: tuple[str, ...]
    cwd: Path
    out: Path
    log: Path
    limits: JobLimits = field(default_factory=JobLimits)
    read: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    slot: int = 0
    network: bool = False


class JobExit(StrEnum):
    OK = "ok"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"
    DISK_LIMIT = "disk_limit"


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended. ``survivors`` counts processes that outlived it and were killed."""

    exit: JobExit
    code: int | None
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    log_tail: str
    survivors: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What is enforced on this machine, honestly. ``level``: bubblewrap, landlock or process."""

    level: str
    writes_confined: bool
    reads_confined: bool
    hides_paths: bool
    network_blocked: bool
    tree_killed: bool
    notes: tuple[str, ...] = ()


class JobRunner(Protocol):
    """Runs commands that agents may have written. A cancelled ``run`` leaves no process behind."""

    @property
    def isolation(self) -> Isolation: ...

    async def run(
        self, spec: JobSpec, on_output: Callable[[bytes], None] | None = None
    ) -> JobResult:
        """Run to the end or to a limit. Raises ``errors.JobError`` if it cannot be launched."""
        ...

    async def reap(self, key_prefix: str) -> int:
        """End what an earlier process, killed with -9, left running under these keys; how many."""
        ...
