"""Replay: a program runs again on what was recorded, with no network and no key.

Invariants: an answer is given only for the request that it was recorded for, by content; what an
agent asks twice is answered in the order in which it was; nothing depends on how agents interleave.
What was not recorded is an error that says where, never a guess.
"""

from __future__ import annotations

import asyncio
import difflib
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from manyhands.adapters.models.recording_diff import closeness, differences
from manyhands.adapters.models.recording_format import (
    About,
    Header,
    ModelLine,
    Pair,
    Part,
    read_lines,
)
from manyhands.adapters.models.recording_request import Named, Shape, Shapes
from manyhands.errors import RecordingError, ReplayDiverged
from manyhands.ports import Model, ModelReply, ModelRequest, Price
from manyhands.redaction import Redactor, secrets_of

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded request, the ``number``-th of ``agent`` to ``model`` in the recording."""

    model: str
    agent: str
    number: int
    session: int
    shape: Shape
    pair: Pair

    def __str__(self) -> str:
        became = self.pair.failure.kind if self.pair.failure is not None else "an answer"
        if self.pair.given_up is not None:
            became = "given up"
        return f"request {self.number} of agent {self.agent!r} to {self.model} ({became})"


class Replay:
    """A recording, read to be replayed: the models of the program are its `model`\\ s.

    ``pace``: 0 answers at once; 1 takes the time that the model took, 0.5 half of it. ``secrets``:
    as for the recording. ``about``: what the program said of itself; ``torn``: lines that a crash
    cut. Raises `RecordingError`.

    Where a run was recorded in several sessions, an answer that an earlier one got and a later one
    asked for again was lost to the crash between them, and is left out.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        pace: float = 0.0,
        secrets: Iterable[str] = (),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.path = Path(path)
        self.pace = pace
        self.sleep = sleep
        self.torn = 0
        self.about: dict[str, str] = {}
        self.divergences: list[ReplayDiverged] = []
        self._redactor = Redactor({*secrets_of(), *secrets})
        self._models: dict[str, list[ModelLine]] = defaultdict(list)
        self._recorded = _numbered(self._read())
        self._left: dict[Key, deque[Recorded]] = defaultdict(deque)
        for each in self._recorded:
            self._left[each.model, each.agent, each.shape.hash].append(each)
        self._shapes: dict[tuple[str, str], Shapes] = {}

    def model(self, label: str, make: Callable[[], Model] | None = None) -> Model:
        """The model that was recorded under ``label``. ``make`` is not called."""
        return ReplayModel(self, label)

    def unused(self) -> tuple[Recorded, ...]:
        """What was recorded and not asked for, oldest first."""
        left = (each for queue in self._left.values() for each in queue)
        return tuple(sorted(left, key=lambda each: (each.session, each.pair.at)))

    def take(self, label: str, request: ModelRequest) -> Recorded:
        """What became of this request. Raises `ReplayDiverged`, which `divergences` keeps."""
        agent = (label, request.agent)
        if agent not in self._shapes:
            self._shapes[agent] = Shapes(self._redactor)
        shapes = self._shapes[agent]
        shape = shapes.of(request)
        queue = self._left.get((*agent, shape.hash))
        if queue:
            return queue.popleft()
        raise self.diverged(self._explain(label, request.agent, shapes.count, shape))

    def diverged(self, what: str) -> ReplayDiverged:
        run = f" in run {self.about['run']}" if "run" in self.about else ""
        error = ReplayDiverged(
            f"replay of {self.path}: {what}",
            next=f"make the program, its role files, input and models what they were{run}, "
            "or record anew with --record",
        )
        self.divergences.append(error)
        return error

    def lines_of(self, label: str) -> Sequence[ModelLine]:
        if label not in self._models:
            known = ", ".join(repr(each) for each in self._models) or "none"
            raise RecordingError(
                f"recording {self.path} has no model {label!r}; it has: {known}",
                next="name the same models as when it was recorded",
            )
        return self._models[label]

    # ---------------------------------------------------------------- reading

    def _read(self) -> list[Recorded]:
        parts: dict[str, Named] = {}
        before: dict[tuple[str, str], Sequence[Named]] = {}
        found: list[Recorded] = []
        session = 0
        for line in read_lines(self.path):
            match line:
                case None:
                    self.torn += 1
                case Header():
                    session += 1
                    before = {}
                case About():
                    self.about |= line.about
                case Part():
                    parts[line.hash] = Named(line.hash, line.content)
                case ModelLine():
                    self._models[line.model].append(line)
                case Pair():
                    shape = self._shape(line, before.get((line.model, line.agent), ()), parts)
                    before[line.model, line.agent] = shape.messages
                    found.append(
                        Recorded(line.model, line.agent, line.number, session, shape, line)
                    )
        return found

    def _shape(self, pair: Pair, before: Sequence[Named], parts: Mapping[str, Named]) -> Shape:
        told = pair.request
        try:
            messages = (*before[: told.keep], *(parts[hash] for hash in told.add))
            tools = tuple(parts[hash] for hash in told.tools)
            name = told.settings.response_schema
            shape = Shape.of(messages, tools, None if name is None else parts[name], told.settings)
        except KeyError as error:
            raise RecordingError(
                f"recording {self.path}: part {error.args[0]} is missing",
                next="restore the file, or record anew",
            ) from None
        if shape.hash != told.hash:
            raise RecordingError(
                f"recording {self.path}: request {pair.number} of agent {pair.agent!r} does not "
                "fit its hash",
                next="restore the file, or record anew",
            )
        return shape

    # ---------------------------------------------------------------- diverging

    def _explain(self, label: str, agent: str, number: int, asked: Shape) -> str:
        which = f"request {number} of agent {agent!r}"
        mine = [r for r in self._recorded if r.agent == agent and r.model == label]
        times = sum(r.shape.hash == asked.hash for r in mine)
        if times:
            return f"{which} was recorded {times} time{'s' * (times > 1)}, and is asked once more"
        if not mine:
            return f"{which} to {label!r} was not recorded; {self._who(agent)}"
        closest = max(mine, key=lambda r: (closeness(asked, r.shape), -abs(r.number - number)))
        return (
            f"{which} was not recorded. The closest is its request {closest.number}:\n"
            f"{differences(closest.shape, asked)}"
        )

    def _who(self, agent: str) -> str:
        others = sorted({r.model for r in self._recorded if r.agent == agent})
        if others:
            return f"it was recorded with {', '.join(map(repr, others))}"
        agents = list(dict.fromkeys(r.agent for r in self._recorded))
        like = difflib.get_close_matches(agent, agents, n=3, cutoff=0.3) or agents[:3]
        if not like:
            return "nothing was"
        return f"agents like it that were: {', '.join(map(repr, like))} ({len(agents)} in all)"


class ReplayModel:
    """A model that says what it said when it was recorded as ``label``: the same pieces, replies
    and errors.

    A request that the program gave up then waits here for as long as it may take, to be given up
    again. Raises `RecordingError` where the recording has no such model.
    """

    def __init__(self, replay: Replay, label: str) -> None:
        self._replay = replay
        self._label = label
        self._lines = replay.lines_of(label)
        self._asked = False

    def __repr__(self) -> str:
        return f"ReplayModel({self._label!r}, {str(self._replay.path)!r})"

    @property
    def _line(self) -> ModelLine:
        """What was known at first, and what was once it had answered."""
        return self._lines[-1 if self._asked else 0]

    @property
    def name(self) -> str:
        return self._line.name

    @property
    def price(self) -> Price | None:
        return self._line.the_price()

    @property
    def context_length(self) -> int | None:
        return self._line.context_length

    async def request(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """The recorded reply or error. Raises `ReplayDiverged` too."""
        found = self._replay.take(self._label, request)
        pair, pace = found.pair, self._replay.pace
        if pair.given_up is not None:
            await self._replay.sleep(request.seconds)
            raise self._replay.diverged(
                f"{found}: the program gave it up after {pair.given_up:.1f} s when it was recorded "
                "(a person's interrupt, or the end of a scope's time), and does not now"
            )
        seconds = pair.answer.seconds if pair.answer is not None else 0.0
        await self._replay.sleep(seconds * pace)
        for piece in pair.streamed() if on_text is not None else ():
            on_text(piece)  # type: ignore[misc]
        if pair.failure is not None:
            raise pair.failure.error()
        assert pair.answer is not None
        self._asked = True
        return pair.answer.reply()

    async def close(self) -> None: ...


def _numbered(found: list[Recorded]) -> list[Recorded]:
    """In the order of asking, without those that a later session asked for again."""
    last: dict[Key, int] = {}
    for each in found:
        last[each.model, each.agent, each.shape.hash] = each.session
    counts: dict[tuple[str, str], int] = defaultdict(int)
    kept: list[Recorded] = []
    for each in sorted(found, key=lambda r: (r.session, r.number)):
        lost = each.session < last[each.model, each.agent, each.shape.hash]
        if lost and each.pair.failure is None:
            continue
        counts[each.model, each.agent] += 1
        kept.append(replace(each, number=counts[each.model, each.agent]))
    return kept
