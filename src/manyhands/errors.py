"""Every failure that Manyhands raises, named by the boundary that it crossed.

::

    ManyhandsError
    ├── ConfigError              a file, a flag or a setting that a person wrote
    │   ├── RoleError            a role file (markdown with front matter)
    │   ├── StudyError           a study.toml, or the repository it stands in
    │   │   └── RepositoryError  not a git repository, dirty, no commit, a ref that moved
    │   └── TaskError            a task's directory: not there, malformed, or its own scripts fail
    │       └── TaskUnsupported  it asks for what there is not without Docker
    ├── JournalError             the journal's file
    │   ├── JournalUnreadable    not a journal, damaged, or not permitted
    │   ├── JournalTooNew        written by a newer schema
    │   ├── JournalFull          the disk is full
    │   ├── JournalBusy          another program keeps the file locked
    │   ├── ImportRefused        an export file that does not fit this journal
    │   ├── RunNotFound
    │   ├── RunHeld              another live process holds the run
    │   ├── LeaseHeld            another person drives the scope
    │   ├── LeaseLost            the lease under which a person drives has ended
    │   └── StaleEpoch           this process lost the run to a newer owner
    ├── WorkflowError            the workflow's own code
    │   ├── DuplicateKey         two steps with one key
    │   ├── ReplayMismatch       a step's arguments differ from the journaled ones
    │   ├── NotSerializable      a value that JSON cannot hold
    │   └── UnknownWorkflow      a run of a workflow that nobody handed in
    ├── RecordingError           a file of recorded requests: unreadable, too new, in use, full
    │   └── ReplayDiverged       what is asked is not what was recorded
    ├── StepFailed               a step ended in failure (live and on replay alike)
    │   └── ChildrenFailed       runs of a run ended in failure; all else of it is done
    ├── InDoubt                  a ``once`` step was started and never finished: a person decides
    ├── Halted                   nothing goes on until a person has done something; resumable
    │   └── DiskFull             there is no room for what a step writes
    ├── BudgetExceeded           a reservation that does not fit
    ├── RunEnded                 a command ended the run
    │   ├── RunStopped           ``stop``
    │   └── RunKilled            ``kill``
    ├── PortError                something outside of this process
    │   ├── ModelError           a model endpoint
    │   │   ├── ModelUnreachable   connection refused, reset, DNS
    │   │   ├── ModelTimeout       connect, first token, or the whole request
    │   │   ├── ModelOverloaded    429, 503, 529 (carries ``retry_after``)
    │   │   ├── ModelRefused       4xx that a retry does not mend
    │   │   │   └── ModelContextFull  the request is longer than the model can read
    │   │   └── ModelMalformed     an answer that is not the protocol
    │   ├── JobError             a job could not be launched at all
    │   │   └── JobsHalted         (also a Halted) no job can be run until a person has seen to it
    │   ├── SandboxError         a workspace with commands, or a machine that offers none
    │   │   ├── SandboxRefused     a path outside the workspace, a write where none is allowed
    │   │   ├── SandboxMissing     no such file, or not a regular one
    │   │   ├── SandboxFull        the workspace's limit on disk
    │   │   └── SandboxBusy        a command runs where all must stand still
    │   ├── LibraryError         a folder of documents, or the index of it
    │   ├── FetchError           a web page: not allowed, too large, too slow, not there
    │   ├── PaperError           a source of papers: not reached, refused, not the protocol
    │   ├── TrackerError         where a run is shown: not reached, too slow, gone
    │   ├── ToolServerError      a server of tools (MCP): not started, lost, not the protocol
    │   └── TelemetryError       a collector of traces: away for too long, or it will have none
    └── AgentError               an agent's own work
        ├── MalformedAnswer      not repaired within the allowed rounds
        ├── OutOfTurns           the turn limit came before the answer
        └── ToolError            a tool refused its arguments (shown to the model)

An error names the value, the limit and the next action: ``what`` holds the first two, ``next`` the
third. ``str(error)`` is both, on two lines.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence


class ManyhandsError(Exception):
    """Base of all; ``exit_code`` is what the command line exits with."""

    exit_code = 1

    def __init__(self, what: str, *, next: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.next = next

    def __str__(self) -> str:
        return f"{self.what}\n→ {self.next}" if self.next else self.what


class ConfigError(ManyhandsError):
    exit_code = 2


class RoleError(ConfigError): ...


class StudyError(ConfigError): ...


class RepositoryError(StudyError): ...


class TaskError(ConfigError): ...


class TaskUnsupported(TaskError): ...


class JournalError(ManyhandsError):
    exit_code = 3


class JournalUnreadable(JournalError): ...


class JournalTooNew(JournalError): ...


class JournalFull(JournalError): ...


class JournalBusy(JournalError): ...


class ImportRefused(JournalError): ...


class RunNotFound(JournalError): ...


class RunHeld(JournalError): ...


class LeaseHeld(JournalError): ...


class LeaseLost(JournalError): ...


class StaleEpoch(JournalError): ...


class WorkflowError(ManyhandsError):
    exit_code = 4


class DuplicateKey(WorkflowError): ...


class ReplayMismatch(WorkflowError): ...


class NotSerializable(WorkflowError): ...


class UnknownWorkflow(WorkflowError): ...


class StepFailed(ManyhandsError):
    """``kind`` is the class name of what the step raised; ``message`` its text. ``keys``: the steps
    whose failure it is: this one, and those of the same `Run.map` that failed with it."""

    exit_code = 5

    def __init__(self, key: str, kind: str, message: str, *, next: str = "") -> None:
        super().__init__(f"step {key!r} failed: {kind}: {message}", next=next)
        self.key = key
        self.kind = kind
        self.message = message
        self.keys: tuple[str, ...] = (key,)


class ChildrenFailed(StepFailed):
    """``keys``: the steps that waited for them and can be tried again; there may be none."""

    def __init__(self, keys: Sequence[str], what: str, *, next: str) -> None:
        ManyhandsError.__init__(self, what, next=next)
        self.key = keys[0] if keys else ""
        self.kind, self.message = type(self).__name__, what
        self.keys = tuple(keys)


class InDoubt(ManyhandsError):
    exit_code = 6

    def __init__(self, key: str, *, next: str = "") -> None:
        super().__init__(f"step {key!r} was started and its end is not known", next=next)
        self.key = key


class Halted(ManyhandsError):
    """A run cannot go on until a person has done something outside of it: money, a token, a
    machine. The step that raises it has not failed; the run is blocked, and goes on from there
    when it is resumed."""

    exit_code = 12


class DiskFull(Halted):
    """There is no room on a disk of this machine. It says nothing of what was being done."""

    def __init__(self, what: str) -> None:
        super().__init__(what, next="free some space and resume: what has ended is kept")

    @classmethod
    def behind(cls, error: BaseException) -> DiskFull | None:
        """What ``error`` means where it, or what a job could not be run for, is a full disk."""
        cause = error.__cause__ if isinstance(error, JobError) else error
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return cls(str(error) if error is not cause else f"{cause.filename}: {cause.strerror}")
        return None


class BudgetExceeded(ManyhandsError):
    """``unit`` ran out in scope ``scope``: ``asked`` more than ``limit`` with ``used`` gone."""

    exit_code = 7

    def __init__(self, scope: str, unit: str, asked: float, used: float, limit: float) -> None:
        super().__init__(
            f"budget of {scope or 'the run'}: {unit} {used:g} used + {asked:g} asked"
            f" > limit {limit:g}",
            next=f"raise the limit of {unit}, or ask for less",
        )
        self.scope = scope
        self.unit = unit
        self.asked = asked
        self.used = used
        self.limit = limit


class RunEnded(ManyhandsError):
    exit_code = 8


class RunStopped(RunEnded): ...


class RunKilled(RunEnded): ...


class RecordingError(ManyhandsError):
    exit_code = 11


class ReplayDiverged(RecordingError): ...


class PortError(ManyhandsError):
    """``retryable``: the same request may succeed later."""

    exit_code = 9
    retryable = False


class ModelError(PortError):
    """``may_have_spent``: the server may have done the work that was asked of it."""

    may_have_spent = False


class ModelUnreachable(ModelError):
    retryable = True


class ModelTimeout(ModelError):
    retryable = True
    may_have_spent = True


class ModelOverloaded(ModelError):
    """``retry_after``: seconds that the server asked for, or None."""

    retryable = True

    def __init__(self, what: str, *, retry_after: float | None = None, next: str = "") -> None:
        super().__init__(what, next=next)
        self.retry_after = retry_after


class ModelRefused(ModelError): ...


class ModelContextFull(ModelRefused): ...


class ModelMalformed(ModelError):
    retryable = True
    may_have_spent = True


class JobError(PortError): ...


class JobsHalted(JobError, Halted):
    exit_code = 12


class SandboxError(PortError): ...


class SandboxRefused(SandboxError): ...


class SandboxMissing(SandboxError): ...


class SandboxFull(SandboxError): ...


class SandboxBusy(SandboxError): ...


class LibraryError(PortError): ...


class FetchError(PortError): ...


class PaperError(PortError): ...


class TrackerError(PortError): ...


class ToolServerError(PortError): ...


class TelemetryError(PortError): ...


class AgentError(ManyhandsError):
    exit_code = 10


class MalformedAnswer(AgentError): ...


class OutOfTurns(AgentError): ...


class ToolError(AgentError): ...
