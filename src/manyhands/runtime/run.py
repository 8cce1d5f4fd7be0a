"""What a workflow is handed: `Run`. Few verbs, each with a key that stays the same on replay.

A workflow is an async function ``(run, input)``. It is run again from the top after a crash: what
has finished comes from the journal, so everything that is not a pure function of its input and of
step results (time, random numbers, files, the network) belongs into a step.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from manyhands.errors import (
    BudgetExceeded,
    DuplicateKey,
    Halted,
    InDoubt,
    JournalError,
    RunStopped,
    StepFailed,
    WorkflowError,
)
from manyhands.runtime.artifacts import Artifact, ArtifactStatus, Evidence
from manyhands.runtime.budget import Amounts, Budget, Pool, Span, check_cost
from manyhands.runtime.codec import decode, digest, encode, object_of
from manyhands.runtime.events import Effect, Event, Type
from manyhands.runtime.execution import Execution
from manyhands.runtime.holds import ORDERS, Order, reaches
from manyhands.runtime.step import Call, Probe, Retry, perform

T = TypeVar("T")
R = TypeVar("R")

_NO_RETRY = Retry()
_RECORD_TYPE = re.compile(r"\w+:.")


@dataclass(frozen=True, slots=True)
class Workflow:
    """A named, versioned program: ``fn(run, input)``.

    ``takes``, ``returns``: types of the input and the result (None: JSON). Raise ``version`` when
    the steps of the new program do not fit runs of the old one; a run goes on only with the
    version that began it, so hand the old one in as well while such runs are there.
    """

    name: str
    fn: Callable[[Run, Any], Awaitable[Any]]
    version: int = 1
    takes: Any = None
    returns: Any = None


class Run:
    """One scope of a run. The outermost is the run itself (``path`` is empty)."""

    def __init__(
        self,
        execution: Execution,
        path: str,
        pool: Pool,
        budget: Budget,
        spans: tuple[Span, ...],
        depth: int = 0,
        exempt: int = 0,
        paced: bool = False,
        actor: str = "",
    ) -> None:
        self._execution = execution
        self._exempt = exempt
        self._paced = paced
        self._actor = actor
        self._ordered = 0
        self._pool = pool
        self._budget = budget
        self._spans = spans
        self._steered = 0
        self.path = path
        self.depth = depth

    @property
    def id(self) -> str:
        return self._execution.run_id

    @property
    def origin(self) -> str:
        """The id of the run that began this history: of a fork, not its own. What a replay has to
        make again as it was is made from this."""
        return self._execution.state.origin or self.id

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

        Raises `StepFailed` (live and on replay alike; an interrupted call is one, of kind
        ``Interrupted``), `BudgetExceeded`, `InDoubt`, `DuplicateKey`.
        """
        full = self._execution.claim(self.path, key, "step")
        if cost:
            check_cost(full, cost)
        call = Call(
            full,
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
            self._actor,
            self._exempt,
            self._paced,
        )
        return await perform(self._execution, self._pool, call)

    async def child(
        self,
        key: str,
        workflow: str,
        input: Any = None,
        *,
        run_id: str,
        budget: Budget | None = None,
        returns: Any = None,
    ) -> Any:
        """Another run of this journal as one step of this one: what it returns.

        ``workflow``: the name of one that the runtime has. ``run_id`` must be nobody else's. The
        child is a run like any other, with a journal and a ``budget`` of its own; killed together
        with its parent, it goes on where it was. A stop of the run is passed on to it; pauses and
        messages are not. Raises `StepFailed` where it fails or is killed; tried again, a child that
        failed tries again what ended it.
        """
        told = encode(input)

        async def follow(workflow: str, told: str, run_id: str) -> Any:
            launch = self._execution.launch
            again = self.retries(key) > 0
            return await launch(self._execution, workflow, decode(told), run_id, budget, again)

        return await self.step(key, follow, workflow, told, run_id, returns=returns)

    def history(self, run_id: str) -> Iterator[tuple[Event, Any]]:
        """The events of a run of this journal (a child's), each with its decoded value. Not
        journaled: what is made of it belongs into a step."""
        journal = self._execution.journal
        for event in journal.events(run_id):
            text = journal.value(event)
            yield event, None if text is None else decode(text)

    @property
    def timed(self) -> bool:
        """Whether this scope, or one around it, has a limit of time."""
        return bool(self._spans)

    def time_left(self) -> float | None:
        """Seconds until the time of this scope, or of one around it, is over (None: no limit), as
        of now. Not journaled. Raises `BudgetExceeded` when nothing is left."""
        return self._time_left(None)

    def _time_left(self, timeout: float | None) -> float | None:
        """The tightest of ``timeout`` and the ``seconds`` of this scope and those around it."""
        if not self._spans:
            return timeout
        active = self._execution.active()
        left = [span.left(active) for span in self._spans]
        return min(left if timeout is None else [timeout, *left])

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
        finish (their work is paid for); then one failure is raised: a lost journal before a step in
        doubt before what halts the run before the first of the rest, in item order.
        """
        todo = [(f"{key}/{key_of(item)}", item) for item in items]
        if len({k for k, _ in todo}) < len(todo):
            twice = next(k for i, (k, _) in enumerate(todo) if k in {j for j, _ in todo[:i]})
            raise DuplicateKey(f"two items of one map have the key {self.key(twice)!r}")
        limits = [n for n in (limit, self._budget.fan_out) if n is not None]
        if limits and min(limits) < 1:
            raise WorkflowError(f"map {self.key(key)!r}: limit {limit}", next="give 1 or more")
        slots = asyncio.Semaphore(min(limits)) if limits else contextlib.nullcontext()

        async def one(key: str, item: T) -> R:
            async with slots, self.scope(key, budget=budget) as child:
                return await fn(child, item)

        results = await asyncio.gather(*(one(*each) for each in todo), return_exceptions=True)
        failures = [r for r in results if isinstance(r, BaseException)]
        if failures:
            raise foremost(failures)
        return cast(list[R], results)

    @asynccontextmanager
    async def scope(self, key: str, budget: Budget | None = None) -> AsyncGenerator[Run]:
        """A nested scope: keys below it start with ``key/``, and ``budget`` bounds it."""
        execution = self._execution
        path = execution.claim(self.path, key, "scope")
        depth = self._budget.depth
        if depth is not None and depth < 1:
            raise BudgetExceeded(self.path, "depth", 1, self.depth, self.depth)
        budget = budget or Budget()
        if budget.model_fields_set and path not in execution.state.scopes:
            await execution.append(
                Type.SCOPE_OPENED, path, budget.model_dump(exclude_defaults=True)
            )
        if path in execution.state.rebudgeted and path in execution.state.scopes:
            budget = execution.state.scopes[path][0]
        pool, spans = self._pool, self._spans
        if budget.limits():
            pool = execution.pool(path, self._pool, budget)
        if budget.seconds is not None:
            span = execution.span(path, budget.seconds, execution.state.scopes[path][1])
            spans = (*spans, span)
        yield Run(
            execution,
            path,
            pool,
            budget.within(self._budget),
            spans,
            self.depth + 1,
            self._exempt,
            self._paced,
            self._actor,
        )

    # ---------------------------------------------------------------- records, artifacts, blobs

    async def record(self, key: str, type: str, data: dict[str, Any], *, value: Any = None) -> None:
        """Write one event of the workflow's own, once per key. ``type`` is ``owner:what``."""
        if not _RECORD_TYPE.match(type):
            raise WorkflowError(
                f"type {type!r} of record {self.key(key)!r}",
                next="name its owner and what it is, such as 'lab:row'",
            )
        copied = decode(encode(data))  # as a replay reads it, whatever the caller does to its own
        await self._once(key, type, copied, None if value is None else encode(value))

    async def _once(self, key: str, type: str, data: dict[str, Any], value: str | None) -> Event:
        full = self._execution.claim(self.path, key, "record")
        known = self._execution.state.records.get(full)
        if known is None:
            return await self._execution.append(type, full, data, value)
        self._execution.check_type(known, type)
        return known

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
        data: dict[str, Any] = {}
        if self.key(key) not in self._execution.state.records:
            blob = await self.blob(raw)
            data = Artifact(
                name=name,
                version=self._execution.state.artifacts.next_version(name),
                kind=kind,
                blob=blob,
                producer=self.path,
                seq=0,
                status=status,
                evidence=tuple(evidence),
            ).model_dump(mode="json", exclude={"seq"})
        event = await self._once(key, Type.ARTIFACT_PUT, data, None)
        artifact = Artifact.model_validate(event.data | {"seq": event.seq})
        if artifact.name != name:
            raise self._execution.mismatch(event.key, artifact.name, name)
        self._execution.artifacts.put(artifact)
        return artifact

    async def mark(
        self, key: str, name: str, version: int, status: ArtifactStatus, reason: str
    ) -> None:
        """Change an artifact's status, with the reason."""
        if self._execution.state.artifacts.get(name, version) is None:
            raise WorkflowError(
                f"artifact {name!r} has no version {version}", next="put it before it is marked"
            )
        data = {"name": name, "version": version, "status": status, "reason": reason}
        event = await self._once(key, Type.ARTIFACT_MARKED, data, None)
        self._execution.artifacts.mark_as(event.data)

    def artifact(self, name: str, version: int | None = None) -> Artifact | None:
        """One version (None: the latest) as this workflow has put and marked it so far."""
        return self._execution.artifacts.get(name, version)

    def newest(self, name: str) -> Artifact | None:
        """The latest version in the journal as of now, put in another branch of the workflow or
        before a crash. Not journaled: a replay may see a later one, so act on it only where the
        outcome is put or kept in a step."""
        return self._execution.state.artifacts.get(name)

    def known(self, key: str) -> bool:
        """Whether the journal holds the record or artifact with this key: a replay comes by it."""
        return self.key(key) in self._execution.state.records

    async def blob(self, content: bytes) -> str:
        """Store bytes once, whatever happens after; returns ``sha256:<hex>``."""
        return await self._execution.journal.put_blob(self.hide(content))

    def hide(self, content: bytes) -> bytes:
        """``content`` as the journal keeps it: without the secrets that the runtime was told of."""
        return self._execution.journal.redactor.bytes(content)

    def read_blob(self, name: str) -> bytes:
        return self._execution.journal.blob(name)

    # ---------------------------------------------------------------- time, people

    async def now(self, key: str) -> float:
        """Unix time, the same on replay."""
        return await self.step(key, self._execution.clock.time, effect=Effect.PURE)

    async def sleep(self, key: str, seconds: float) -> None:
        """Sleep that a crash does not prolong: the moment of waking is in the journal.

        A ``stop`` wakes it at once.
        """
        execution = self._execution
        full = execution.claim(self.path, key, "timer")
        if full not in execution.state.timers:
            wake_at = execution.clock.time() + seconds
            await execution.append(Type.TIMER_SET, full, {"wake_at": wake_at})
        wake_at = execution.state.timers[full]
        while (left := wake_at - execution.clock.time()) > 0 and not self._asked_to_stop:
            await _first(execution.clock.sleep(left), execution.arrived.wait())

    async def wait(self, key: str, returns: Any = None) -> Any:
        """Wait, across restarts, for `Runtime.answer(run_id, key, value)`; returns the value.

        The first answer that fits ``returns`` counts; others are left aside. Raises `RunStopped`
        when a person asks to stop before there is one.
        """
        execution = self._execution
        full = execution.claim(self.path, key, "wait")
        state = execution.state
        if full not in state.waits:
            await execution.append(Type.WAIT_SET, full, {})
        while True:
            for answer in state.answers.get(full, ()):
                asked = self._asked_to_stop
                if asked is not None and asked < answer.seq:
                    break
                with contextlib.suppress(ValueError):
                    return decode(encode(answer.message), returns)
            if self._asked_to_stop is not None:
                execution.wrapping_up |= "" in state.stops
                raise RunStopped(f"run {self.id} was asked to stop while it waited for {full!r}")
            await execution.arrived.wait()

    # ---------------------------------------------------------------- pauses, a person who drives

    def pace(self) -> None:
        """This scope comes to `rest` at places of its own: a pause that is not one for ``now``
        leaves its steps, and those of the scopes that are opened in it, alone."""
        self._paced = True

    def acting(self, actor: str, order: Order) -> Run:
        """This scope for what a person orders: its steps, and those of scopes opened in it, say so,
        and are not held by what holds the scope for that person."""
        return Run(
            self._execution,
            self.path,
            self._pool,
            self._budget,
            self._spans,
            self.depth,
            max(order.seq, self._exempt),
            self._paced,
            actor,
        )

    async def rest(self, key: str, *following: str, always: bool = False) -> bool:
        """Whether this scope rests here (journaled), because of a pause or of a person who has
        taken it; ``always``: it does so in any case.

        Ask for `order` then, until it says ``hand_back`` or ``free``. ``following``: beginnings of
        the keys of what comes after this place; where the journal has any, it was passed before.
        """
        state = self._execution.state
        about: dict[str, Any] = {}
        if not self.known(key):
            holds = state.holds.on(self.path, self._exempt)
            if not holds and not always:
                return False
            if self._execution.begun(tuple(map(self.key, following))):
                return False
            after = holds[0].seq - 1 if holds else state.seq
            about = {"state": "paused", "after": after}
        await self.record(key, "scope:rest", about)
        self._ordered = max(self._ordered, state.records[self.key(key)].data["after"])
        return True

    async def order(self, key: str, *, always: bool = False) -> Order:
        """What comes next for this scope, which rests (journaled); waits for it, across restarts.

        The first command of a person who drives it after the last one that was given out here;
        ``free`` once nothing holds the scope, or (``always``) once a stop was asked for.
        """
        execution = self._execution
        while not self.known(key):
            found = self._next_order(always)
            if found is not None:
                about = {"verb": found.verb, "seq": found.seq, "owner": found.owner}
                await self.record(key, "scope:order", about)
                break
            await execution.arrived.wait()
        else:
            await self.record(key, "scope:order", {})
        about = execution.state.records[self.key(key)].data
        if not about["seq"]:
            return Order("free")
        self._ordered = about["seq"]
        given = next(c for c in execution.state.commands if c.seq == about["seq"])
        return Order(about["verb"], about["seq"], given.id, about["owner"], given.message)

    def _next_order(self, always: bool) -> Order | None:
        state = self._execution.state
        for command in state.commands:
            if command.verb in ORDERS and command.seq > self._ordered:
                told = object_of(command.message)
                target, alone = command.target, bool(told.get("alone"))
                to = (told.get("to") or target) if command.verb == "act" else self.path
                if to == self.path and reaches(target, self.path, alone=alone):
                    owner = str(told.get("owner", ""))
                    return Order(command.verb, command.seq, command.id, owner, command.message)
        waits = self._asked_to_stop is None if always else state.holds.on(self.path, self._exempt)
        return None if waits else Order("free")

    def begun(self, key: str) -> bool:
        """Whether the journal has anything at or below ``key``: a replay comes by it."""
        full = self.key(key)
        return full in self._execution.state.steps or self._execution.begun((f"{full}/",))

    def started(self, key: str) -> bool:
        """Whether the call of a step that has ended was begun, and not only asked for."""
        return self._execution.state.steps[self.key(key)].started_seq > 0

    def retries(self, key: str) -> int:
        """How often a person had the failure of a step tried again: what is made of the step's
        value belongs into steps whose keys differ by it."""
        step = self._execution.state.steps.get(self.key(key))
        return step.retries if step is not None else 0

    async def stopping(self, key: str) -> bool:
        """Whether a person has asked the run, or this scope, to stop (journaled, so a replay takes
        the same turn)."""
        asked = await self.step(key, lambda: self._asked_to_stop is not None, effect=Effect.PURE)
        self._execution.wrapping_up |= asked and "" in self._execution.state.stops
        return asked

    async def killed(self, key: str) -> bool:
        """Whether a person has killed this scope, so that it ends without a word (journaled)."""
        state = self._execution.state
        return await self.step(key, lambda: state.killed(self.path), effect=Effect.PURE)

    @property
    def _asked_to_stop(self) -> int | None:
        return self._execution.state.stop_of(self.path)

    @property
    def stop_asked(self) -> bool:
        """`stopping`, as of now and not journaled: for what happens inside of a step."""
        return self._asked_to_stop is not None

    def settings(self, target: str) -> dict[str, Any]:
        """What ``set`` commands have told of ``target``, the last of each name; as of now and not
        journaled: nothing that a replay makes again may depend on it."""
        told = [c for c in self._execution.state.commands if c.verb == "set"]
        return {n: v for c in told if c.target == target for n, v in c.message.items()}

    async def steers(self, key: str) -> list[str]:
        """Messages for this scope since the last call, oldest first (journaled).

        Those for the whole run, or for a scope around this one, are for this one too.
        """
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

    def spent(self, under: str = "") -> dict[str, int]:
        """Unit -> what is spent in the scope ``under`` of this one, as of now ('': in all of it).
        Not journaled: show it, or keep it in a record."""
        path = self.key(under) if under else self.path
        return dict(self._execution.state.spent(path))

    def seconds(self, under: str = "") -> float:
        """Seconds from the first step's start to the last one's end in the scope ``under`` of this
        one, as of now. Not journaled."""
        return self._execution.state.seconds(self.key(under) if under else self.path)

    def remaining(self, unit: str) -> int | None:
        """What may still be spent of ``unit`` here (None: no limit). Not journaled: show only."""
        return self._pool.remaining(unit)


def foremost(failures: list[BaseException]) -> BaseException:
    """Of several, the one to raise: a lost journal before a step in doubt before what halts the run
    before the first of the rest. A failed step names all steps that failed."""
    first = min(failures, key=_urgency)
    if isinstance(first, StepFailed):
        failed = [f for f in failures if isinstance(f, StepFailed)]
        first.keys = tuple(dict.fromkeys(key for f in failed for key in f.keys))
    return first


def _urgency(error: BaseException) -> int:
    if isinstance(error, JournalError):
        return 0
    if isinstance(error, InDoubt):
        return 1
    return 2 if isinstance(error, Halted) else 3


async def _first(*these: Coroutine[Any, Any, Any]) -> None:
    """Until one of them ends; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in these]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else encode(content)
