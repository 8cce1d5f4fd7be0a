"""A workspace in a run of its own, and its tools called as an agent's turn calls them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manyhands.adapters.sandboxes.unsafe import UnsafeLocal
from manyhands.agents.calls import CallResult, Calls
from manyhands.agents.deadline import Deadline
from manyhands.agents.encoding import encode
from manyhands.agents.request import Limits
from manyhands.agents.tools import Toolbox
from manyhands.agents.workspace.ground import Ground
from manyhands.agents.workspace.toolset import workspace_tools
from manyhands.agents.workspace.tree import Tree
from manyhands.agents.workspace.workspace import Act, Workspace
from manyhands.ports import Sandboxes, SandboxLimits, ToolCall
from manyhands.runtime import Run, Runtime, Workflow


@dataclass
class Hands:
    """Uses the tools of one workspace. ``results``: of all calls so far."""

    run: Run
    workspace: Workspace
    results: list[CallResult] = field(default_factory=list)
    _calls: Calls | None = None

    @property
    def toolbox(self) -> Toolbox:
        return Toolbox.of(*workspace_tools(self.workspace))

    async def turn(self, *calls: tuple[str, dict[str, Any]]) -> list[CallResult]:
        """Calls of one turn, by their names and arguments."""
        if self._calls is None:
            self._calls = Calls(self.run, self.toolbox, Limits(), "", Deadline(self.run, 0.0))
        key = f"turn/{len(self.results)}"
        made = [ToolCall(f"c{i}", n, encode(a).decode()) for i, (n, a) in enumerate(calls)]
        self._calls.named(key, made)
        results = await self._calls.run(key, made)
        self.results += results
        return results

    async def use(self, tool: str, /, **arguments: Any) -> str:
        """What a tool says of a call that goes well."""
        (result,) = await self.turn((tool, arguments))
        assert result.ok, result.text
        return result.text

    async def refused(self, tool: str, /, **arguments: Any) -> str:
        (result,) = await self.turn((tool, arguments))
        assert not result.ok, result.text
        return result.text

    @property
    def last(self) -> Act:
        return self.workspace.acts[-1]

    def holds(self, path: str) -> bytes | None:
        return self.workspace.ground.content(self.workspace.tree, path, self.run.read_blob)


@dataclass
class Bench:
    """``base``: the folder that workspaces begin as."""

    folder: Path
    sandboxes: Sandboxes = field(default_factory=UnsafeLocal)
    limits: SandboxLimits = field(default_factory=lambda: SandboxLimits(seconds=20))
    secrets: Iterable[str] = ()

    def __post_init__(self) -> None:
        self.base.mkdir(exist_ok=True)

    @property
    def base(self) -> Path:
        return self.folder / "base"

    def ground(self) -> Ground:
        return Ground(self.sandboxes, self.base, self.limits)

    async def run(self, fn: Callable[[Run], Awaitable[Any]], run_id: str = "r") -> Any:
        """What ``fn`` gives, run as a run; one that is known goes on."""
        given: list[Any] = []

        async def program(run: Run, _: None) -> None:
            given.append(await fn(run))

        flow = Workflow("bench", program)
        journal = self.folder / "journal.db"
        async with Runtime.open(journal, workflows=[flow], secrets=self.secrets) as runtime:
            if any(info.run_id == run_id for info in runtime.runs()):
                await (await runtime.resume(run_id)).result()
            else:
                await runtime.run(flow, run_id=run_id)
        return given[0]

    async def use(
        self,
        fn: Callable[[Hands], Awaitable[Any]],
        *,
        writable: bool = True,
        tree: Tree | None = None,
        run_id: str = "r",
    ) -> Any:
        async def program(run: Run) -> Any:
            async with Workspace(self.ground(), tree or Tree(), writable=writable) as workspace:
                return await fn(Hands(run, workspace))

        return await self.run(program, run_id)


def list_folder(place: Path) -> dict[str, tuple[str, int, bytes]]:
    found: dict[str, tuple[str, int, bytes]] = {}
    for path in sorted(place.rglob("*")):
        mode = path.lstat().st_mode & 0o777
        name = str(path.relative_to(place))
        if path.is_symlink():
            found[name] = ("link", 0, str(path.readlink()).encode())
        elif path.is_dir():
            found[name] = ("folder", 0, b"")
        else:
            found[name] = ("file", mode, path.read_bytes())
    return found
