"""What the code team hands around and keeps. All of it is journaled, so all of it is frozen.

The ``…Answer`` types are what models are asked for; the rest is the harness's own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from manyhands.agents.crew import AgentCost


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
RoleName = Literal["explorer", "coder"]


class Order(Record):
    """What is to be done, to which folder, and how to go about it. The journal keeps it.

    ``check``: a command whose exit status 0 says that it is done ('': nothing says so).
    ``protect``: globs of files that no agent's change may touch. ``exclude``: globs of files that
    are not copied. ``keep_git``: changes below ``.git`` count (a terminal task's own repository).
    ``models``: role -> model, '' for all others. ``coders``: agents at once.
    ``sandbox``: auto, overlay, copy, docker (from ``image``), or unsafe-local (none at all).
    ``place``: where commands find the workspace ('': at the folder's own path). ``env``: variables
    of all commands. ``seconds``: of one command, and of the check. ``patience``: seconds of a
    model's silence that are taken for a hang. ``project``: whose ``.manyhands`` keeps the copy
    ('': that of ``repo``).
    ``as_is``: ``repo`` never changes (a prepared terminal task), so it is worked from without a
    copy. ``task``: the task folder that it was prepared from.
    """

    instruction: str = Field(min_length=1)
    repo: str
    check: str = ""
    protect: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    keep_git: bool = False
    models: dict[str, str] = Field(default_factory=dict)
    coders: int = Field(default=4, ge=1)
    sandbox: Literal["auto", "overlay", "copy", "docker", "unsafe-local"] = "auto"
    image: str = ""
    place: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    seconds: float = Field(default=300.0, gt=0)
    memory_mb: int = Field(default=2048, ge=64)
    disk_mb: int = Field(default=1024, ge=1)
    patience: float = Field(default=60.0, gt=0)
    project: str = ""
    as_is: bool = False
    task: str = ""


# -------------------------------------------------------------------- what models say


class Delegation(Record):
    """A task for a sub-agent."""

    id: Id = Field(description="Short and unique: a-z, 0-9, '-'.")
    role: RoleName = Field(description="explorer: finds out, cannot write. coder: changes files.")
    title: str = Field(min_length=1, max_length=120)
    instructions: str = Field(min_length=1, description="All that it needs to know to do this.")
    returns: str = Field(default="", description="What its report has to hold.")
    checks: tuple[str, ...] = Field(
        default=(), description="Commands that must succeed before a coder's work is accepted."
    )
    max_turns: int | None = Field(default=None, ge=1, le=200)
    minutes: float | None = Field(
        default=None, gt=0, description="Its time, after which it reports."
    )
    context: tuple[str, ...] = Field(
        default=(), description="Items of the context store, by id, or all of a task, by its id."
    )
    files: tuple[str, ...] = Field(default=(), description="Files or folders that it is shown.")
    depends_on: tuple[Id, ...] = Field(default=(), description="Tasks of this call it waits for.")
    takes_up: str = Field(
        default="", description="A task whose changes are not in the workspace: go on from them."
    )


class Found(Record):
    """Something worth knowing by others. ``file`` or ``command``: what it rests on."""

    id: Id
    kind: Literal["fact", "file", "plan", "decision", "command", "risk"] = "fact"
    content: str = Field(min_length=1)
    file: str = ""
    command: str = ""
    supersedes: str = ""


class ExplorerAnswer(Record):
    """``not_found``: what it looked for in vain."""

    summary: str = Field(min_length=1)
    findings: tuple[Found, ...] = ()
    not_found: tuple[str, ...] = ()


class CoderAnswer(Record):
    """``changed``: files that it changed. ``passed``: commands that it saw succeed on the final
    state of its work. ``open``: what is not done."""

    summary: str = Field(min_length=1)
    changed: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    findings: tuple[Found, ...] = ()
    open: tuple[str, ...] = ()


class FinishAnswer(Record):
    """``leave_out``: tasks whose changes are not in the workspace and shall not be."""

    summary: str = Field(min_length=1)
    leave_out: tuple[str, ...] = ()


# -------------------------------------------------------------------- what the harness keeps


class TaskState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"
    TIMED_OUT = "timed out"


class Merge(StrEnum):
    """What became of a coder's changes. ``HELD``: they are kept beside the workspace."""

    NOTHING = "nothing to merge"
    MERGED = "merged"
    CONFLICT = "conflict"
    HELD = "held back"
    REFUSED = "refused"


class Check(Record):
    """A command that the harness ran. ``output``: its end; ``blob``: all of it."""

    command: str
    passed: bool
    code: int | None = None
    output: str = ""
    blob: str = ""


class Held(Record):
    """Changes that are not in the workspace. ``start`` and ``end``: blobs of the trees between
    which they lie; ``conflicts``: paths; ``why``: in words."""

    start: str
    end: str
    conflicts: tuple[str, ...] = ()
    why: str = ""


class Task(Record):
    """A delegation and what came of it.

    ``ending``: how its agent's turns ended (`manyhands.agents.report.Ending`). ``changed``: what
    did change, whatever it said; ``unsupported``: what it said and no event bears out.
    ``findings``: items of the context store, each with what is to be said of it. ``takes_up``: the
    task whose changes it goes on from. ``by``: the person who reported in its agent's place.
    """

    id: str
    role: RoleName
    title: str
    state: TaskState
    agent: str = ""
    ending: str = ""
    summary: str = ""
    detail: str = ""
    open: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    unsupported: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    merge: Merge = Merge.NOTHING
    held: Held | None = None
    takes_up: str = ""
    turns: int = 0
    by: str = ""

    @property
    def at_work(self) -> bool:
        """Or it will be: one that is not to be started says why."""
        return self.state in (TaskState.WAITING, TaskState.RUNNING) and not self.detail


class Step(Record):
    """Of the orchestrator's plan."""

    text: str = Field(min_length=1, max_length=400)
    status: Literal["pending", "doing", "done", "dropped"] = "pending"


class FileChange(Record):
    path: str
    kind: Literal["added", "changed", "deleted"]


class Outcome(Record):
    """The whole result.

    ``complete``: the check passes on the final workspace (without one: the orchestrator said so,
    and nothing was left open). ``patch``: the blob of the change, as `git apply` takes it;
    ``tree``: that of the final state, relative to the copy ``base``.
    ``left``: what is not in the patch, and why. ``notes``: what the user should know.
    """

    instruction: str
    complete: bool
    summary: str
    check: Check | None
    patch: str
    tree: str
    base: str
    files: tuple[FileChange, ...]
    tasks: tuple[Task, ...]
    plan: tuple[Step, ...]
    context: tuple[str, ...]
    left: tuple[str, ...]
    notes: tuple[str, ...]
    ending: str
    agents: tuple[AgentCost, ...]
    seconds: float
    requests: int
    tokens: int
    micro_usd: int
