"""Every seam to the outside, in one file. Adapters implement these; only ``wiring`` names them.

A port is added with its first adapter. Data here is frozen and carries no behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
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
    ``log`` receives stdout and stderr together, cut at ``limits.output_mb``. ``labels``: what a
    person should see of it where it runs. ``trusted``: no agent has written any of its code, so it
    may be run where sealed data lie.
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
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    trusted: bool = False


class JobExit(StrEnum):
    OK = "ok"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"
    DISK_LIMIT = "disk_limit"


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended. ``survivors`` counts processes that outlived it and were killed;
    ``cost_usd`` is what it cost, where it ran on a machine that costs; ``host`` is the kind of
    machine it ran on ('': not known): numbers of different kinds are not compared."""

    exit: JobExit
    code: int | None
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    log_tail: str
    survivors: int = 0
    detail: str = ""
    cost_usd: float = 0.0
    host: str = ""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What is enforced, honestly. ``level``: bubblewrap, landlock or process on this machine, or
    hub. ``shares_files`` False: a job runs on another machine; it is sent its files at the start,
    and what it has made of ``cwd`` and ``out`` comes back when it has ended by itself."""

    level: str
    writes_confined: bool
    reads_confined: bool
    hides_paths: bool
    network_blocked: bool
    tree_killed: bool
    notes: tuple[str, ...] = ()
    shares_files: bool = True


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


# ---------------------------------------------------------------- sandboxes


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Of one sandbox. ``seconds``, ``cpu_seconds`` and ``output_mb`` hold for each command,
    ``memory_mb`` and ``processes`` for each command and all that it starts, ``disk_mb`` for all
    that is written in the sandbox. ``shown_kb``: how much of an output is kept (head and tail).

    ``address_space_mb``: for programs that are known to reserve little (None: not limited).
    """

    seconds: float = 120.0
    memory_mb: int = 2048
    disk_mb: int = 1024
    processes: int = 256
    open_files: int = 1024
    output_mb: float = 64.0
    shown_kb: int = 64
    cpu_seconds: int | None = None
    address_space_mb: int | None = None


class Killed(StrEnum):
    """Which limit ended a command before its own end."""

    TIME = "time"
    MEMORY = "memory"
    PROCESSES = "processes"
    OUTPUT = "output"
    DISK = "disk"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command ended.

    ``code``: its exit status, -N if signal N ended it, None if it is not known. ``output``: stdout
    and stderr in their order; ``omitted`` bytes of the middle are left out where a line says so (a
    program could print such a line, too: only ``omitted`` tells the truth). ``survivors``: the
    processes that it left behind, which were ended (or go on, if they were to be kept).
    """

    code: int | None
    output: bytes
    omitted: int
    seconds: float
    killed: Killed | None = None
    detail: str = ""
    survivors: int = 0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0

    @property
    def timed_out(self) -> bool:
        return self.killed is Killed.TIME


@dataclass(frozen=True, slots=True)
class FileSlice:
    """``data`` from ``offset`` of a file that has ``size`` bytes."""

    data: bytes
    offset: int
    size: int
    mode: int = 0o644


class ChangeKind(StrEnum):
    """``MODE``: the permissions alone. ``SYMLINK``: it is a link now, and was not that one."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    MODE = "mode"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class Change:
    """What differs at ``path`` (relative, POSIX). ``mode``: permissions now, 0 if it is gone.
    ``link``: where a symlink leads. Folders are not listed, but for empty ones that are new."""

    path: str
    kind: ChangeKind
    mode: int = 0
    size: int = 0
    link: str | None = None
    folder: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state of one sandbox that can be read and compared with. 0 is the state at its start."""

    number: int


class Sandbox(Protocol):
    """One workspace with commands and files. Raises `errors.SandboxError` and its children.

    Paths are relative to the workspace, in POSIX form. What leads out of it, by ``..`` or by a
    link, is refused. All that a command starts ends with it, unless it is to be kept; all ends
    with the sandbox, or when this process is killed.
    """

    @property
    def limits(self) -> SandboxLimits: ...

    @property
    def workspace(self) -> str:
        """Where commands find the workspace: an absolute path."""
        ...

    @property
    def writable(self) -> bool:
        """False: what commands write is seen by later ones, and reaches nobody else."""
        ...

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        on_output: Callable[[bytes], None] | None = None,
        background: bool = False,
    ) -> ExecResult:
        """Text is run by a shell, a sequence as it is. ``timeout`` can only shorten the limit.

        ``background``: what the command leaves behind goes on until `end_background` or the
        close, still under the limits on memory and processes; commands reach its ports.
        Cancelled: nothing of it is left. What ``on_output`` raises ends the command.
        """
        ...

    async def end_background(self) -> int:
        """End what earlier commands left running; how many processes there were."""
        ...

    async def read(
        self, path: str, offset: int = 0, limit: int | None = None, *, at: Snapshot | None = None
    ) -> FileSlice:
        """A regular file, now or as it was. Raises `errors.SandboxMissing` if there is none."""
        ...

    async def write(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """Replace the file as a whole, or not at all; folders are made; its mode is kept."""
        ...

    async def delete(self, path: str) -> None:
        """A file or a link, not a folder."""
        ...

    async def glob(self, pattern: str = "**/*", limit: int = 10_000) -> list[str]:
        """Files and links in order of their names; ``**`` is any number of folders."""
        ...

    async def snapshot(self) -> Snapshot:
        """Keep the present state. Raises `errors.SandboxBusy` while a command runs."""
        ...

    async def diff(self, since: Snapshot | None = None) -> tuple[Change, ...]:
        """What differs from a snapshot, or from the start, in order of the paths. ``read`` has
        the contents of both sides. Of a sandbox that is not writable: nothing, ever."""
        ...

    def fork(
        self,
        *,
        writable: bool = True,
        limits: SandboxLimits | None = None,
        scratch: Sequence[str] | None = None,
    ) -> AbstractAsyncContextManager[Sandbox]:
        """A new sandbox on top of this one's present state; neither sees the other from here on,
        and it may outlive this one. Raises `errors.SandboxBusy` while a command runs.

        ``scratch``: as in `Sandboxes.open`; None: at the places of this one's, empty all the same.
        """
        ...

    async def close(self) -> None:
        """Kill all that runs, remove all that was written. Twice is once."""
        ...


@dataclass(frozen=True, slots=True)
class Enforced:
    """One capability of this machine: ``holds``, and how, or why not."""

    name: str
    holds: bool
    how: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What sandboxes enforce here. ``backend``: overlay, copy, docker, unsafe-local, or
    none."""

    backend: str
    enforced: tuple[Enforced, ...]
    notes: tuple[str, ...] = ()


class Sandboxes(Protocol):
    """Makes sandboxes."""

    @property
    def capabilities(self) -> Capabilities: ...

    def open(
        self,
        base: Path,
        *,
        writable: bool = True,
        limits: SandboxLimits | None = None,
        env: Mapping[str, str] | None = None,
        readable: Sequence[Path] = (),
        place: str | None = None,
        scratch: Sequence[str] = (),
    ) -> AbstractAsyncContextManager[Sandbox]:
        """A sandbox whose workspace starts as the folder ``base``, which is never written to and
        must not change meanwhile.

        ``env``: variables of its commands, beside a minimal set of its own. ``readable``: paths of
        this machine that commands may read, too. ``place``: where commands find the workspace;
        None: at its own path, so that programs that know their path still work.

        ``scratch``: absolute paths of folders beside the workspace, empty at the start, that
        commands may write to, as /tmp. They are no part of any snapshot, diff or fork, and end
        with the sandbox. Refused where there is no isolation.
        """
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


# ---------------------------------------------------------------- papers


@dataclass(frozen=True, slots=True)
class Paper:
    """What a source says of a paper. ``id``: what it is read by; ``date``: of publication, as
    ``YYYY-MM-DD``. Empty is what the source does not say. No text holds a control character (but
    tab and line feed in ``abstract``), an escape sequence, or what turns text around."""

    id: str
    title: str
    authors: tuple[str, ...] = ()
    date: str = ""
    abstract: str = ""
    url: str = ""


class PaperIndex(Protocol):
    """Papers to search and read. Their text is a stranger's. Raises `errors.PaperError`."""

    @property
    def name(self) -> str:
        """As errors and reports call this source."""
        ...

    async def search(self, query: str, limit: int = 10) -> list[Paper]:
        """The best first, at most ``limit``. Any text is a query; an empty one finds nothing."""
        ...

    async def read(self, id: str) -> list[Passage]:
        """The full text (where there is none: the abstract) in passages ``<id>#<number>``, in
        order; their titles begin with the paper's. Empty: there is no such paper."""
        ...

    async def close(self) -> None: ...


# ---------------------------------------------------------------- trackers


class AlertLevel(StrEnum):
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Training:
    """The course of one training: a run of its own beside the one that it belongs to.

    ``steps``: by growing number, what was measured there. ``summary``: how it ended.
    """

    name: str
    about: Mapping[str, object]
    steps: Sequence[tuple[int, Mapping[str, float]]]
    summary: Mapping[str, float]


class Tracker(Protocol):
    """Shows a run where people look at many. Raises `errors.TrackerError`.

    Steps grow. What was told of a step is there for good once `close` has returned, and the next
    `begin` of the same run says how far it is.
    """

    async def begin(self, project: str, run: str, config: Mapping[str, object]) -> int:
        """The last step that it has of this run; -1: none."""
        ...

    async def log(self, step: int, values: Mapping[str, float], report: str = "") -> None:
        """``report``: Markdown."""
        ...

    async def alert(self, step: int, title: str, text: str, level: AlertLevel) -> bool:
        """Whether it is new: an alert that it has of this run, equal in step and words, is not
        shown again, whoever tells it."""
        ...

    async def training(self, told: Training) -> int:
        """How many of its steps are new. All of them are there for good once this has returned."""
        ...

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
