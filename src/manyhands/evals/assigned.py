"""The code team on an assignment: a workspace that somebody else has made, wherever it is.

Invariant: what counts is what is landed, and that is the state which the run's journal ends with.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import secrets
import tarfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from manyhands.agents.request import Attempt
from manyhands.agents.workspace.ground import Ground
from manyhands.agents.workspace.tree import Tree
from manyhands.config import Config, load_config
from manyhands.errors import SandboxError
from manyhands.evals.assignments import Assignment, Spent
from manyhands.ports import Capabilities, Sandbox, Sandboxes, SandboxLimits
from manyhands.runtime import Budget, Event, Runtime
from manyhands.teams.code.records import Order, Outcome
from manyhands.wiring import open_runtime
from manyhands.wiring.code import code_workflow

#: Of a workspace, packed: megabytes.
MOST_MB = 512
#: The part of the time that is the team's; the rest is for landing.
_PART = 0.95
_PACK = "tar -czf - . | base64 && echo packed"


async def solve(given: Assignment, *, config: Config | None = None) -> Spent:
    """Work on it, and land the result. The journal is kept in the assignment's folder."""
    config = config or load_config(Path.cwd())
    base = await fetched(given)
    sandboxes = Elsewhere(given.sandboxes, given.base)
    order = Order(
        instruction=given.instruction,
        repo=str(base),
        as_is=True,
        keep_git=True,
        place=given.place,
        env=dict(given.env),
        seconds=given.limits.seconds,
        memory_mb=given.limits.memory_mb,
        disk_mb=given.limits.disk_mb,
        models={"": given.model} if given.model else {},
        project=str(given.folder),
    )
    budget = Budget(seconds=given.seconds * _PART) if given.seconds else Budget()
    workflow = code_workflow(config, sandboxes=sandboxes)
    async with open_runtime(config, str(given.folder / "journal.db")) as runtime:
        run_id = f"code-{secrets.token_hex(4)}"
        handle = await runtime.start(workflow, order, run_id=run_id, budget=budget)
        outcome: Outcome = await handle.result()
        await _land(given, sandboxes, base, outcome, runtime)
        return await _spent(runtime, run_id, outcome)


async def fetched(given: Assignment) -> Path:
    """The workspace's files on this machine: what states are told from."""
    target = given.folder / "base"
    packed = bytearray()
    limits = replace(given.limits, output_mb=float(MOST_MB))
    async with given.sandboxes.open(
        given.base, writable=False, limits=limits, env=given.env, place=given.place
    ) as sandbox:
        result = await sandbox.exec(_PACK, on_output=packed.extend)
    body, end, _ = bytes(packed).rpartition(b"packed")
    try:
        raw = base64.b64decode(b"".join(body.split()), validate=True) if end else b""
    except binascii.Error:
        raw = b""
    if result.code != 0 or not raw:
        told = result.output.decode("utf-8", "replace").strip()[-300:]
        raise SandboxError(
            f"{given.place} could not be fetched (at most {MOST_MB} MB packed): {told}",
            next="tar and base64 must be there; make the workspace smaller",
        )
    await asyncio.to_thread(_unpack, raw, target)
    return target


def _unpack(raw: bytes, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        tar.extractall(target, filter="tar")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Implements ``ports.Sandboxes`` over others whose base is not on this machine: whatever base
    is asked for, it is theirs."""

    inner: Sandboxes
    base: Path

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    @asynccontextmanager
    async def open(
        self,
        base: Path,
        *,
        writable: bool = True,
        limits: SandboxLimits | None = None,
        env: Mapping[str, str] | None = None,
        readable: Sequence[Path] = (),
        place: str | None = None,
        scratch: Sequence[str] = (),
    ) -> AsyncGenerator[Sandbox]:
        async with self.inner.open(
            self.base,
            writable=writable,
            limits=limits,
            env=env,
            readable=readable,
            place=place,
            scratch=scratch,
        ) as sandbox:
            yield sandbox


async def _land(
    given: Assignment, sandboxes: Sandboxes, base: Path, outcome: Outcome, runtime: Runtime
) -> None:
    read = runtime.journal.blob
    tree = Tree.model_validate_json(read(outcome.tree))
    ground = Ground(sandboxes, base, limits=given.limits, env=given.env, place=given.place)
    async with ground.at(tree, read) as sandbox:
        await given.land(sandbox)


async def _spent(runtime: Runtime, run_id: str, outcome: Outcome) -> Spent:
    attempts = [attempt async for attempt in _attempts(runtime, run_id)]
    money = sum(attempt.charged.micro_usd for attempt in attempts)
    return Spent(
        outcome="complete" if outcome.complete else "partial",
        input_tokens=sum(attempt.charged.input_tokens for attempt in attempts),
        output_tokens=sum(attempt.charged.output_tokens for attempt in attempts),
        usd=money / 1e6 if money else None,
    )


async def _attempts(runtime: Runtime, run_id: str) -> AsyncGenerator[Attempt]:
    async for event in runtime.events(run_id):
        if event.type == "step.done" and _is_request(event):
            yield runtime.value(event, Attempt)


def _is_request(event: Event) -> bool:
    parts = event.key.split("/")
    return len(parts) > 1 and parts[-2] in ("request", "summary")
