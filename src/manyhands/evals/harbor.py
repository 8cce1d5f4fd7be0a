"""For Harbor: the code team as an agent, and sandboxes without Docker as an environment.

::

    harbor run -p TASK -a manyhands.evals.harbor:CodeTeam -m MODEL
    harbor run -p TASK -a oracle -e manyhands.evals.harbor:BubblewrapEnvironment

Needs the extra ``harbor`` (Python 3.12). Nothing else of Manyhands imports this module.
"""

# Harbor needs a newer Python than Manyhands, so it is not here when types are checked.
# pyright: reportMissingImports=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUntypedBaseClass=false
# pyright: reportUnknownLambdaType=false, reportMissingParameterType=false

from __future__ import annotations

import functools
import importlib
import io
import shlex
import tarfile
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path, PurePosixPath
from typing import Any, cast

from harbor.agents.base import BaseAgent
from harbor.environments.base import BaseEnvironment, ExecResult
from harbor.environments.capabilities import EnvironmentCapabilities
from harbor.models.agent.context import AgentContext
from harbor.models.task.config import NetworkMode

from manyhands import __version__
from manyhands.errors import ConfigError
from manyhands.evals.assignments import Assignment, Spent
from manyhands.ports import Sandbox, Sandboxes, SandboxLimits
from manyhands.wiring.sandboxes import make_sandboxes

from .harbor_sandbox import HarborSandboxes
from .landing import ForkedSandboxes, land
from .preparing import prepare, unpack
from .tasks import Task, load_task
from .verifying import LOGS, SOLUTION, TESTS

TEAM = "manyhands.evals.assigned:solve"
Solve = Callable[[Assignment], Awaitable[Spent]]
DAY = 86_400.0
#: Whole folders are fetched through a command's output.
FETCH_MB = 256
#: Of one command of the team.
AGENT_SECONDS = 600.0


class BubblewrapEnvironment(BaseEnvironment):
    """A task's environment in a sandbox of Manyhands: no Docker, no root, no network.

    Tasks that allow the network are refused, unless ``offline=true`` says that they may be run
    without it. What commands leave running goes on until the end, as in a container.
    """

    def __init__(self, *args: Any, offline: bool = False, **kwargs: Any) -> None:
        self._offline = offline
        self._open = AsyncExitStack()
        self.sandbox: Sandbox | None = None
        self.sandboxes: Sandboxes | None = None
        self.task: Task | None = None
        super().__init__(*args, **kwargs)

    @staticmethod
    def type() -> str:
        return "bubblewrap"

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities(disable_internet=True)

    def _validate_definition(self) -> None:
        """At the start: an error here would end the whole job, and not this trial."""

    async def start(self, force_build: bool) -> None:
        mode = self.network_policy.network_mode
        if mode != NetworkMode.NO_NETWORK and not self._offline:
            raise ConfigError(
                f"the task asks for network_mode = {mode.value!r}, and there is no network here",
                next='set [environment] network_mode = "no-network", or run with --ek offline=true',
            )
        self.task = load_task(Path(self.environment_dir).parent)
        self.sandboxes = make_sandboxes()
        cache = None
        if force_build:
            cache = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        base = await prepare(self.task, self.sandboxes, cache=cache)
        opened = self.sandboxes.open(
            base,
            place=self.task.workdir,
            env={**self.task.env, **self._startup_env()},
            limits=self._limits(self.task),
            scratch=(TESTS, SOLUTION, LOGS),
        )
        self.sandbox = await self._open.enter_async_context(opened)
        await self._checked("mkdir -p /logs/agent /logs/verifier /logs/artifacts")

    def _limits(self, task: Task) -> SandboxLimits:
        memory = self._effective_memory_mb or task.memory_mb
        shown = FETCH_MB * 1024
        return SandboxLimits(
            seconds=DAY,
            memory_mb=memory,
            disk_mb=task.disk_mb,
            output_mb=FETCH_MB,
            shown_kb=shown,
        )

    async def stop(self, delete: bool) -> None:
        self.sandbox = None
        await self._open.aclose()

    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
        user: str | int | None = None,
    ) -> ExecResult:
        """Output of both streams is in ``stdout``, in its order."""
        who = self._resolve_user(user)
        if who not in (None, "root", 0, "0"):
            raise RuntimeError(f"there is one user only, and {who!r} is another")
        result = await self._running().exec(
            ["/bin/sh", "-c", 'cd -- "$1" && exec /bin/bash -c "$2"', "sh", self._at(cwd), command],
            env=self._merge_env(env),
            timeout=timeout_sec,
            background=True,
        )
        if result.timed_out:
            raise RuntimeError(f"Command timed out after {timeout_sec} seconds")
        code = 137 if result.code is None else result.code
        return ExecResult(
            stdout=result.output.decode(errors="replace"),
            stderr=result.detail,
            return_code=code if code >= 0 else 128 - code,
        )

    def _running(self) -> Sandbox:
        if self.sandbox is None:
            raise RuntimeError("the environment was not started, or is stopped")
        return self.sandbox

    def _at(self, path: str | None) -> str:
        assert self.task is not None
        return str(PurePosixPath(self.task.workdir) / (path or ""))

    async def _checked(self, command: str, stdin: bytes = b"") -> bytes:
        result = await self._running().exec(command, stdin=stdin)
        if result.code != 0 or result.omitted:
            told = result.output.decode(errors="replace").strip()[-300:]
            raise RuntimeError(f"{command[:200]} failed: {result.detail or told}")
        return result.output

    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        target = shlex.quote(self._at(target_path))
        mode = f"{Path(source_path).stat().st_mode & 0o777:o}"
        script = f'mkdir -p "$(dirname {target})" && cat > {target} && chmod {mode} {target}'
        await self._checked(script, Path(source_path).read_bytes())

    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(source_dir, ".")
        result = await unpack(self._running(), packed.getvalue(), self._at(target_dir))
        if result.code != 0:
            raise RuntimeError(result.output.decode(errors="replace").strip()[-300:])

    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        data = await self._checked(f"cat -- {shlex.quote(self._at(source_path))}")
        Path(target_path).parent.mkdir(parents=True, exist_ok=True)
        Path(target_path).write_bytes(data)

    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        packed = await self._checked(f"tar -cf - -C {shlex.quote(self._at(source_dir))} .")
        Path(target_dir).mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            tar.extractall(target_dir, filter="data")


class CodeTeam(BaseAgent):
    """The code team, in whatever environment Harbor gives it; in a `BubblewrapEnvironment` over
    forks of its sandbox, elsewhere over copies in the container (see `HarborSandboxes`).

    ``team``: another function of an `Assignment`, as ``module:function``.
    """

    def __init__(self, *args: Any, team: str = TEAM, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._team = team

    @staticmethod
    def name() -> str:
        return "manyhands-code"

    def version(self) -> str:
        return __version__

    async def setup(self, environment: BaseEnvironment) -> None:
        """Nothing is installed in the environment; a team that is not there is told before."""
        team_of(self._team)

    async def run(
        self, instruction: str, environment: BaseEnvironment, context: AgentContext
    ) -> None:
        solve = team_of(self._team)
        self.logs_dir.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            sandboxes, target = await self._sandboxes(environment, stack)
            assignment = Assignment(
                instruction=instruction,
                sandboxes=sandboxes,
                base=Path(target.workspace),
                place=target.workspace,
                model=self.model_name or "",
                folder=self.logs_dir,
                land=functools.partial(_landed, target),
                limits=SandboxLimits(seconds=AGENT_SECONDS),
                seconds=seconds_of(environment),
            )
            spent = await solve(assignment)
        context.n_input_tokens = spent.input_tokens
        context.n_cache_tokens = spent.cached_tokens
        context.n_output_tokens = spent.output_tokens
        context.cost_usd = spent.usd
        context.metadata = {"outcome": spent.outcome, "sandboxes": sandboxes.capabilities.backend}

    async def _sandboxes(
        self, environment: BaseEnvironment, stack: AsyncExitStack
    ) -> tuple[Sandboxes, Sandbox]:
        """And the sandbox that is the environment itself, in which the result must land."""
        if isinstance(environment, BubblewrapEnvironment):
            assert environment.sandbox is not None
            assert environment.sandboxes is not None
            await environment.sandbox.end_background()
            made = ForkedSandboxes(environment.sandbox, environment.sandboxes)
            return made, environment.sandbox
        remote = await stack.enter_async_context(HarborSandboxes.over(cast(Any, environment)))
        return remote, remote.itself


def seconds_of(environment: BaseEnvironment) -> float | None:
    """Harbor tells an agent nothing of its time; our own environment has read the task."""
    if isinstance(environment, BubblewrapEnvironment) and environment.task is not None:
        return environment.task.agent_seconds
    return None


async def _landed(target: Sandbox, source: Sandbox) -> None:
    await land(source, target)


def team_of(name: str) -> Solve:
    """Raises ConfigError."""
    module, _, function = name.partition(":")
    try:
        return cast(Solve, getattr(importlib.import_module(module), function))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"there is no team {name!r}: {error}",
            next="name one as --ak team=module:function; the default is " + TEAM,
        ) from error


__all__ = ["BubblewrapEnvironment", "CodeTeam"]
