"""What a workflow is handed: `Run`. Few verbs, each with a key that stays the same on replay.

A workflow is an async function ``(run, input)``. It is run again from the top after a crash: what
has finished comes from the journal, so everything that is not a pure function of its input and of
step results (time, random numbers, files, the network) belongs into a step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from manyhands.errors import BudgetExceeded, RunKilled
from manyhands.runtime.artifacts import Artifact, ArtifactStatus, Evidence
from manyhands.runtime.budget import Amounts, Budget, Pool
from manyhands.runtime.codec import decode, digest, encode
from manyhands.runtime.events import Effect, Event, Type
from manyhands.runtime.execution import Execution
from manyhands.runtime.step import Call, Probe, Retry, perform

T = TypeVar("T")
R = TypeVar("R")

_NO_RETRY = Retry()


@dataclass(frozen=True, slots=True)
class Workflow:
    """A named, versioned program: ``fn(run, input)``. ``takes``: the input's type (None: JSON)."""

    name: str
    fn: Callable[[Run, Any], Awaitable[Any]]
    version: int = 1
    takes: Any = None
    returns: Any = None


class Run:
    """One scope of a run. The outermost is the run itself (``path`` is empty)."""

    def __init__(
        self, execution: Execution, path: str, pool: Pool, budget: Budget, depth: int = 0
    ) -> None:
        self._execution = execution
        self._pool = pool
        self._budget = budget
        self._steered = 0
        self.path = path
        self.depth = depth

    @property
    def id(self) -> str:
        return self._execution.run_id

    @property
    def epoch(self) -> int:
        return self._execution.epoch

    def key(self, key: str) -> str:
        """The full key of ``key`` in this scope."""
        return f"{self.path}/{key}" if self.path else key

    def idempotency_key(self, key: str) -> str:
        """Stable over attempts and processes: hand it to whatever a ``once`` step calls."""
        return digest(f"{self.id}\n{self.key(key)}")[7:39]

    # ---------------------------------------------------------------- steps

    async def step(
        self,
        key: str,
        fn: Callable[..., Any],
        *args: Any,
        effect: Effect = Effect.IDEMPOTENT,
        returns: Any = None,
        cost: Amounts | None = None,
        usage: Callable[[Any], Amounts] | None = None,
        probe: Probe | None = None,
        retry: Retry = _NO_RETRY,
        timeout: float | None = None,
    ) -> Any:
        """Call ``fn(*args)`` once and keep what it returns; on replay return that.

        ``args`` are hashed: a replay with others is refused (`ReplayMismatch`). ``returns``: the
        type to read the value back as (None: plain JSON). ``cost``: the worst case, reserved in
        this scope and all around it before the call; ``usage(value)`` says what was used.
        ``timeout``: seconds. ``probe()`` settles a ``once`` step that is in doubt.

        Raises `StepFailed` (live and on replay alike), `BudgetExceeded`, `InDoubt`,
        `DuplicateKey`.
        """
        return await perform(
            self._execution,
            self._pool,
            Call(
                self.key(key),
                self.path,
                fn,
                args,
                effect,
                returns,
                cost or {},
                usage,
                probe,
                retry,
                lambda: self._time_left(timeout),
            ),
        )

    def _time_left(self, timeout: float | None) -> float | None:
        """The tightest of ``timeout`` and the ``seconds`` of this scope and those around it."""
        state = self._execution.state
        path: str | None = self.path
        left = [] if timeout is None else [timeout]
        while path is not None:
            budget, since = state.scopes.get(path, (state.budget if not path else Budget(), 0.0))
            if budget.seconds is not None:
                now = self._execution.clock.time()
                gone = state.active + max(0.0, now - state.updated_at) - since
                if gone >= budget.seconds:
                    raise BudgetExceeded(path, "seconds", 0, gone, budget.seconds)
                left.append(budget.seconds - gone)
            path = path.rpartition("/")[0] if path else None
        return min(left) if left else None

    async def map(
        self,
        key: str,
        fn: Callable[[Run, T], Awaitable[R]],
        items: Iterable[T],
        *,
        key_of: Callable[[T], str],
        limit: int | None = None,
        budget: Budget | None = None,
    ) -> list[R]:
        """``fn(child, item)`` for each item, at most ``limit`` at once; results in item order.

        Each item has a scope of its own, ``key/key_of(item)``. When some fail, the others still
        finish (their work is paid for); then the first failure, in item order, is raised.
        """
        limits = [n for n in (limit, self._budget.fan_out) if n is not None]
        slots = asyncio.Semaphore(min(limits)) if limits else None

        async def one(item: T) -> R:
            async with self.scope(f"{key}/{key_of(item)}", budget=budget) as child:
                return await fn(child, item)

        async def bounded(item: T) -> R:
            if slots is None:
                return await one(item)
            async with slots:
                return await one(item)

        results = await asyncio.gather(*(bounded(i) for i in items), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results  # type: ignore[return-value]

    @asynccontextmanager
    async def scope(self, key: str, budget: Budget | None = None) -> AsyncGenerator[Run]:
        """A nested scope: keys below it start with ``key/``, and ``budget`` bounds it."""
        path = self.key(key)
        self._execution.claim(path, "scope")
        depth = self._budget.depth
        if depth is not None and depth < 1:
            raise BudgetExceeded(self.path, "depth", 1, self.depth, self.depth)
        budget = budget or Budget()
        bounded = bool(budget.model_fields_set)
        if bounded and path not in self._execution.state.scopes:
            await self._execution.append(
                Type.SCOPE_OPENED, path, budget.model_dump(exclude_defaults=True)
            )
        pool = self._pool
        if budget.limits():
            pool = self._execution.pool(path, self._pool, budget)
            self._execution.load_spend(pool)
        depths = [d for d in (budget.depth, None if depth is None else depth - 1) if d is not None]
        inner = budget.model_copy(update={"depth": min(depths) if depths else None})
        yield Run(self._execution, path, pool, inner, self.depth + 1)

    # ---------------------------------------------------------------- records, artifacts, blobs

    async def record(self, key: str, type: str, data: dict[str, Any], *, value: Any = None) -> None:
        """Write one event of the workflow's own, once per key. ``type`` has a colon in it."""
        if ":" not in type:
            raise ValueError(f"type {type!r} of a record needs a colon, such as 'lab:row'")
        await self._once(key, type, data, None if value is None else encode(value))

    async def _once(self, key: str, type: str, data: dict[str, Any], value: str | None) -> Event:
        full = self.key(key)
        self._execution.claim(full, "record")
        known = self._execution.state.records.get(full)
        return known or await self._execution.append(type, full, data, value)

    async def put(
        self,
        key: str,
        name: str,
        content: Any,
        *,
        kind: str,
        status: ArtifactStatus = ArtifactStatus.PROPOSED,
        evidence: Iterable[Evidence] = (),
    ) -> Artifact:
        """A new version of the artifact ``name``; ``content`` is bytes, text or a JSON value."""
        raw = content if isinstance(content, bytes) else _text(content).encode()
        artifacts = self._execution.state.artifacts
        if self.key(key) not in self._execution.state.records:
            blob = await self.blob(raw)
            data = Artifact(
                name=name,
                version=artifacts.next_version(name),
                kind=kind,
                blob=blob,
                producer=self.path,
                seq=0,
                status=status,
                evidence=tuple(evidence),
            ).model_dump(mode="json", exclude={"seq"})
        else:
            data = {}
        event = await self._once(key, Type.ARTIFACT_PUT, data, None)
        found = artifacts.get(name, event.data["version"])
        assert found is not None
        return found

    async def mark(
        self, key: str, name: str, version: int, status: ArtifactStatus, reason: str
    ) -> None:
        """Change an artifact's status, with the reason."""
        if self._execution.state.artifacts.get(name, version) is None:
            raise ValueError(f"artifact {name!r} has no version {version}")
        data = {"name": name, "version": version, "status": status, "reason": reason}
        await self._once(key, Type.ARTIFACT_MARKED, data, None)

    def artifact(self, name: str, version: int | None = None) -> Artifact | None:
        return self._execution.state.artifacts.get(name, version)

    async def blob(self, content: bytes) -> str:
        """Store bytes once, whatever happens after; returns ``sha256:<hex>``."""
        return await self._execution.journal.put_blob(content)

    def read_blob(self, name: str) -> bytes:
        return self._execution.journal.blob(name)

    # ---------------------------------------------------------------- time, people

    async def now(self, key: str) -> float:
        """Unix time, the same on replay."""
        return await self.step(key, self._execution.clock.time, effect=Effect.PURE)

    async def sleep(self, key: str, seconds: float) -> None:
        """Sleep that a crash does not prolong: the moment of waking is in the journal."""
        full = self.key(key)
        self._execution.claim(full, "timer")
        if full not in self._execution.state.timers:
            wake_at = self._execution.clock.time() + seconds
            await self._execution.append(Type.TIMER_SET, full, {"wake_at": wake_at})
        left = self._execution.state.timers[full] - self._execution.clock.time()
        if left > 0:
            await self._execution.clock.sleep(left)

    async def wait(self, key: str, returns: Any = None) -> Any:
        """Wait, across restarts, for `Runtime.answer(run_id, key, value)`; returns the value."""
        full = self.key(key)
        self._execution.claim(full, "wait")
        state = self._execution.state
        if full not in state.waits:
            await self._execution.append(Type.WAIT_SET, full, {})
        while full not in state.answers:
            await self._execution.arrived.wait()
        return decode(encode(state.answers[full]), returns)

    async def stopping(self, key: str) -> bool:
        """Whether a person has asked to stop (journaled, so a replay takes the same turn)."""
        return await self.step(key, lambda: self._execution.stop_requested, effect=Effect.PURE)

    async def steers(self, key: str) -> list[str]:
        """Messages for this scope since the last call, oldest first (journaled)."""
        found = await self.step(key, self._new_steers, effect=Effect.PURE)
        self._steered = max(self._steered, found["seq"])
        return found["messages"]

    def _new_steers(self) -> dict[str, Any]:
        mine = [
            c
            for c in self._execution.state.commands
            if c.verb == "steer" and c.seq > self._steered and self._is_for_me(c.target)
        ]
        return {
            "messages": [str(c.message) for c in mine],
            "seq": mine[-1].seq if mine else self._steered,
        }

    def _is_for_me(self, target: str) -> bool:
        return not target or self.path == target or self.path.startswith(target + "/")

    def remaining(self, unit: str) -> int | None:
        """What may still be spent of ``unit`` here (None: no limit). Not journaled: show only."""
        return self._pool.remaining(unit)

    def raise_if_killed(self) -> None:
        if self._execution.killed:
            raise RunKilled(f"run {self.id} was killed", next=f"manyhands resume {self.id}")


def _text(content: Any) -> str:
    return content if isinstance(content, str) else encode(content)
