"""One agent's workspace: every call that may change it is a step whose value holds the change.

Invariants: the state is a fold of the journal, so a replay has it without any sandbox; a sandbox is
opened when a call is made for the first time, in the state of the calls before it. A call that did
not come to its end (cancelled, timed out, killed) has left nothing: its sandbox is thrown away.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from manyhands.agents.workspace.ground import Ground, emptied
from manyhands.agents.workspace.tree import GONE, Delta, Node, Tree, blob_name
from manyhands.errors import SandboxError, SandboxMissing, ToolError
from manyhands.ports import Change, ChangeKind, Sandbox
from manyhands.runtime import Effect, Run

#: Of what one call leaves in the workspace: bytes, and paths.
MOST_BYTES, MOST_PATHS = 64_000_000, 20_000

_RESTARTED = (
    "(The sandbox was started anew. The workspace is as you left it; what was in /tmp or in the "
    "home folder and what ran in the background is gone.)\n"
)


class Act(BaseModel):
    """What one call did; a step's value.

    ``ok`` False: ``text`` says why. ``command`` and ``code``: of a command that was run;
    ``output``: the blob of all that it printed. ``paths``: files that it read or wrote;
    ``contents``: path -> the name of the content that it saw or left there, by its hash.
    ``delta``: what is different in the workspace since the call before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    ok: bool = True
    command: str = ""
    code: int | None = None
    output: str = ""
    paths: tuple[str, ...] = ()
    contents: dict[str, str] = Field(default_factory=dict)
    delta: dict[str, Node | None] = Field(default_factory=dict)


#: Does something in a sandbox; gets the step's arguments after it.
Doing = Callable[..., Awaitable[Act]]


class Workspace:
    """``async with`` ends its sandbox. ``acts``: what was done in it so far, in order."""

    def __init__(self, ground: Ground, tree: Tree, *, writable: bool) -> None:
        self.ground = ground
        self.start = self.tree = tree
        self.writable = writable
        self.acts: list[Act] = []
        self._stack = AsyncExitStack()
        self._sandbox: Sandbox | None = None
        self._opening = asyncio.Lock()
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._throw_away()

    async def act(
        self,
        run: Run,
        fn: Doing,
        *args: Any,
        key: str = "act",
        timeout: float | None = None,
        changes: bool = True,
    ) -> Act:
        """``fn(sandbox, *args)`` as a step. ``changes`` False: it reads only.

        In a workspace that is writable, calls go one after another, in the order in which they
        come; that order must be the same on replay. Raises `StepFailed` where the call did not
        come to its end; then the workspace is as before it.
        """
        changes = changes and self.writable
        effect = self.ground.effect if changes or not self.ground.contained else Effect.IDEMPOTENT
        async with self._turn if self.writable else nullcontext():
            try:
                act: Act = await run.step(
                    key,
                    partial(self._live, run, fn, changes),
                    *args,
                    effect=effect,
                    returns=Act,
                    timeout=timeout,
                )
            except BaseException:
                if changes:
                    await self._throw_away()
                raise
            self.acts.append(act)
            if act.delta:
                self.tree = self.tree.after(act.delta)
        return act

    async def _live(self, run: Run, fn: Doing, changes: bool, *args: Any) -> Act:
        sandbox, anew = await self._open(run)
        try:
            act = await fn(sandbox, *args)
        except ToolError as error:
            act = Act(text=str(error), ok=False)
        if changes:
            act = await self._with_delta(run, sandbox, act)
        return act.model_copy(update={"text": f"{_RESTARTED}{act.text}"}) if anew else act

    async def _open(self, run: Run) -> tuple[Sandbox, bool]:
        """The sandbox, and whether an earlier one is gone."""
        async with self._opening:
            if self._sandbox is not None:
                return self._sandbox, False
            place = self.ground.at(self.tree, run.read_blob, writable=self.writable)
            self._sandbox = await self._stack.enter_async_context(place)
            return self._sandbox, any(act.command for act in self.acts)

    async def _throw_away(self) -> None:
        self._sandbox = None
        await self._stack.aclose()

    async def _with_delta(self, run: Run, sandbox: Sandbox, act: Act) -> Act:
        """The act with what the sandbox's state is beyond the tree, also of a refused one. What
        cannot be kept is undone: the sandbox is thrown away."""
        try:
            return act.model_copy(update={"delta": await _state(run, sandbox, self.tree)})
        except ToolError as error:
            await self._throw_away()
            before = f"\n\nBefore it was undone:\n{act.text}" if act.ok else ""
            return Act(text=f"{error}{before}", ok=False, command=act.command, output=act.output)


async def _state(run: Run, sandbox: Sandbox, known: Tree) -> Delta:
    changes = await sandbox.diff()
    total = sum(change.size for change in changes)
    if total > MOST_BYTES or len(changes) > MOST_PATHS:
        raise ToolError(
            f"undone: the workspace now differs by {total} bytes in {len(changes)} files; at most "
            f"{MOST_BYTES} in {MOST_PATHS} can be kept",
            next="write large or many files to /tmp, or remove them in the same command",
        )
    nodes: dict[str, Node] = {}
    for change in changes:
        nodes[change.path] = await _node(run, sandbox, change, known)
    for folder in await emptied(sandbox, Tree(nodes=nodes)):
        nodes[folder] = Node(kind="folder")
    return Tree(nodes=nodes).since(known)


async def _node(run: Run, sandbox: Sandbox, change: Change, known: Tree) -> Node:
    _refuse_name(run, change.path)
    _refuse_name(run, change.link or "")
    if change.kind is ChangeKind.DELETED:
        return GONE
    if change.kind is ChangeKind.SYMLINK:
        return Node(kind="link", link=change.link or "")
    if change.folder:
        return Node(kind="folder", mode=change.mode & 0o777)
    try:
        found = await sandbox.read(change.path, 0, MOST_BYTES)
    except SandboxMissing:
        return GONE  # a command in the background took it away meanwhile
    except SandboxError as error:
        raise ToolError(f"undone: {error.what}", next="make the file readable") from error
    name = blob_name(found.data)
    before = known.nodes.get(change.path)
    if (before is None or before.blob != name) and await run.blob(found.data) != name:
        raise ToolError(
            f"undone: {change.path!r} would hold a secret of this machine, which is not kept",
            next="leave the secret out",
        )
    return Node(kind="file", mode=change.mode & 0o777, size=len(found.data), blob=name)


def _refuse_name(run: Run, name: str) -> None:
    """What the journal could not give back as it is."""
    try:
        kept = run.hide(name.encode()) == name.encode()
        why = "holds a secret of this machine"
    except UnicodeEncodeError:
        kept, why = False, "is not UTF-8"
    if not kept:
        raise ToolError(
            f"undone: the name {os.fsencode(name)[:200]!r} {why}, and cannot be kept",
            next="choose another name",
        )
