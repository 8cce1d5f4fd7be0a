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

    ``seconds`` bounds the whole request; of one that is streamed, ``first_token_seconds`` the time
    to its first piece and ``idle_seconds`` the silence between two of them.
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
    idle_seconds: float = 120.0
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


# ---------------------------------------------------------------- documents


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a source that can be cited. ``id``: ``<source>#<number from 1>``, stable for
    equal content; ``title``: the headings above it; ``hash``: sha256 of the whole source's bytes.

    ``score``: of the search that found it, higher is better (0 for one that was read by its id).
    """

    id: str
    source: str
    title: str
    text: str
    hash: str
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Indexed:
    """What a refresh found. ``unreadable``: path and reason of each file that was left out."""

    files: int
    passages: int
    changed: int
    removed: int
    unreadable: tuple[tuple[str, str], ...] = ()


class Library(Protocol):
    """Texts that agents search, read and cite. Safe to be called from many tasks at once."""

    async def refresh(self, on_file: Callable[[int, int], None] | None = None) -> Indexed:
        """Bring the index up to date with its folder: only what changed is read again.

        ``on_file``: told of files done and files in all. Raises `errors.LibraryError`.
        """
        ...

    async def search(self, query: str, limit: int = 5) -> list[Passage]:
        """The best first, by BM25. Any text is a query; one without a word finds nothing."""
        ...

    async def read(self, id: str) -> Passage | None:
        """The passage with this id; None: there is none."""
        ...

    async def source(self, name: str) -> list[Passage]:
        """All passages of a source in order; none where there is no such source."""
        ...

    async def add(self, source: str, title: str, text: str) -> list[Passage]:
        """Keep a text that was not in the folder (a page, a tool's result) so that it can be cited.

        The same source again takes the earlier one's place. It outlives the process.
        """
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Page:
    """What a URL gave. ``url``: after redirects; ``text``: readable text, headings as Markdown."""

    url: str
    title: str
    text: str
    media_type: str


class Fetcher(Protocol):
    """Reads web pages within an allow-list. Raises `errors.FetchError` for all that goes wrong."""

    async def fetch(self, url: str) -> Page: ...

    async def close(self) -> None: ...


# ---------------------------------------------------------------- tools of others


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """A tool that a server offers. ``schema``: JSON schema of its arguments.

    ``read_only`` and ``idempotent`` are the server's own word; False where it does not say.
    """

    name: str
    description: str
    schema: Mapping[str, object]
    read_only: bool = False
    idempotent: bool = False


class ToolServer(Protocol):
    """Tools behind a protocol such as MCP. Raises `errors.ToolServerError` where it fails."""

    @property
    def name(self) -> str: ...

    async def offers(self) -> list[ToolOffer]: ...

    async def call(self, tool: str, arguments: Mapping[str, object]) -> str:
        """The result as text. Raises `errors.ToolError` where the tool itself says that it failed:
        that is for the model."""
        ...

    async def close(self) -> None: ...
