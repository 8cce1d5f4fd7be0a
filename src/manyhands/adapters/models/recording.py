"""Recording: every request of a program and what became of it, appended to one file.

Invariants: a reply is on disk before the program has it; nothing is rewritten, so a crash costs at
most the line that was being written; the file is its owner's alone, and holds no known secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from manyhands import __version__
from manyhands.adapters.models.chat_reply import clean, redacted
from manyhands.adapters.models.recording_format import (
    About,
    Answer,
    AnyLine,
    Failure,
    Header,
    ModelLine,
    Pair,
    Part,
    read_lines,
    write_line,
)
from manyhands.adapters.models.recording_request import Named, Shape, Shapes
from manyhands.errors import ModelError, RecordingError
from manyhands.ports import Model, ModelReply, ModelRequest, Price, ToolCall
from manyhands.redaction import Redactor, secrets_of


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on its way: the ``number``-th of its agent to this model, at a unix time."""

    model: str
    agent: str
    shape: Shape
    number: int
    at: float


class Recording:
    """A file that is recorded to; one session of it. Use as ``async with``, or `close` it.

    A recording that is there is appended to. ``secrets``: what is taken out beside the values of
    the environment's variables that look like secrets (`secrets_of`). Raises `RecordingError`.
    """

    def __init__(self, path: Path | str, *, secrets: Iterable[str] = ()) -> None:
        self.path = Path(path)
        self._redactor = Redactor({*secrets_of(), *secrets})
        self._models: dict[str, ModelLine] = {}
        self._shapes: dict[tuple[str, str], Shapes] = {}
        self._before: dict[tuple[str, str], Sequence[Named]] = {}
        self._parts: set[str] = set()
        self._about: dict[str, str] = {}
        self._written = self._synced = 0
        self._syncing = asyncio.Lock()
        self._file = _open(self.path)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def model(self, label: str, make: Callable[[], Model]) -> Model:
        """What ``make`` makes, recorded under ``label``."""
        return RecordingModel(make(), self, label)

    def note(self, **about: str) -> None:
        """Say something of the program that is recorded, such as ``run=…``.

        Raises `RecordingError` where the file says otherwise: it is of another run.
        """
        for what, value in about.items():
            if self._about.get(what, value) != value:
                raise RecordingError(
                    f"recording {self.path} is of {what} {self._about[what]}, not {value}",
                    next="record to another file",
                )
        if about.items() - self._about.items():
            self._about |= about
            self._write(About(about=about))

    def close(self) -> None:
        """Safe to call twice."""
        file, self._file = self._file, -1
        if file >= 0:
            os.fsync(file)
            os.close(file)

    # ---------------------------------------------------------------- for `RecordingModel`

    def describe(self, label: str, model: Model) -> None:
        price = model.price
        line = ModelLine(
            model=label,
            name=model.name,
            price=price and (price.input_per_million, price.output_per_million),
            context_length=model.context_length,
        )
        if self._models.get(label) != line:
            self._models[label] = line
            self._write(line)

    def ask(self, label: str, request: ModelRequest) -> Asked:
        key = (label, request.agent)
        if key not in self._shapes:
            self._shapes[key] = Shapes(self._redactor)
        shape = self._shapes[key].of(request)
        return Asked(label, request.agent, shape, self._shapes[key].count, time.time())

    def add(
        self,
        asked: Asked,
        end: ModelReply | ModelError | float,
        pieces: Sequence[str] | None = None,
    ) -> None:
        """Write a pair, and those of its parts that the file does not have yet.

        ``end``: a float is the seconds after which the program gave the request up. ``pieces``:
        None where nobody watched.
        """
        key = (asked.model, asked.agent)
        for part in asked.shape.parts():
            if part.hash not in self._parts:
                self._write(Part.of(part.hash, part.content))
                self._parts.add(part.hash)
        pair = Pair(
            model=asked.model,
            agent=asked.agent,
            number=asked.number,
            at=asked.at,
            request=asked.shape.line(self._before.get(key, ())),
            answer=Answer.of(self._hidden(end)) if isinstance(end, ModelReply) else None,
            failure=Failure.of(end) if isinstance(end, ModelError) else None,
            given_up=end if isinstance(end, float) else None,
        )
        self._write(self._with_pieces(pair, pieces))
        self._before[key] = asked.shape.messages

    async def sync(self) -> None:
        """Until all that was written so far is on disk. Those who wait together share one."""
        upto = self._written
        async with self._syncing:
            if self._synced < upto and self._file >= 0:
                reached = self._written
                await asyncio.to_thread(os.fsync, self._file)
                self._synced = reached

    # ---------------------------------------------------------------- writing

    def _begin(self) -> None:
        size = os.fstat(self._file).st_size
        if size:
            for line in read_lines(self.path):
                if isinstance(line, Part):
                    self._parts.add(line.hash)
                elif isinstance(line, About):
                    self._about |= line.about
            if os.pread(self._file, 1, size - 1) != b"\n":  # a crash tore the last line
                self._append(b"\n")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(Header(version=__version__, at=now))

    def _hidden(self, reply: ModelReply) -> ModelReply:
        calls = tuple(ToolCall(*map(clean, (c.id, c.name, c.arguments))) for c in reply.tool_calls)
        told = replace(
            reply, text=clean(reply.text), reasoning=clean(reply.reasoning), tool_calls=calls
        )
        return redacted(told, self._redactor)

    def _with_pieces(self, pair: Pair, pieces: Sequence[str] | None) -> Pair:
        if pieces is None:
            return pair
        joined = clean("".join(pieces))
        told = self._redactor.text(joined)
        if told != joined:  # they may have cut a secret in two
            pieces = [told]
        if pair.answer is not None and told == pair.answer.text and pair.answer.text:
            return pair.model_copy(update={"cuts": tuple(map(len, pieces))})
        return pair.model_copy(update={"pieces": tuple(map(clean, pieces))})

    def _write(self, line: AnyLine) -> None:
        self._append(self._redactor.bytes(write_line(line)))

    def _append(self, data: bytes) -> None:
        """All of it, or nothing."""
        if self._file < 0:
            raise RecordingError(f"recording {self.path} is closed", next="keep it open")
        size = os.fstat(self._file).st_size
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            raise RecordingError(
                f"recording {self.path}: {error.strerror or error}",
                next="free some space, or record elsewhere; what is there stays usable",
            ) from error
        self._written += len(data)


class RecordingModel:
    """``model``, every request to which is kept in ``recording`` under ``label`` (default: its
    name). Everything else is as without it."""

    def __init__(self, model: Model, recording: Recording, label: str = "") -> None:
        self._model = model
        self._recording = recording
        self._label = label or model.name
        recording.describe(self._label, model)

    def __repr__(self) -> str:
        return f"RecordingModel({self._model!r}, {str(self._recording.path)!r})"

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def price(self) -> Price | None:
        return self._model.price

    @property
    def context_length(self) -> int | None:
        return self._model.context_length

    async def request(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """As the model's own. Raises `RecordingError` too, where the file cannot be written."""
        asked = self._recording.ask(self._label, request)
        pieces: list[str] | None = None if on_text is None else []
        begun = time.monotonic()

        def show(piece: str) -> None:
            assert pieces is not None
            assert on_text is not None
            pieces.append(piece)
            on_text(piece)

        try:
            reply = await self._model.request(request, None if on_text is None else show)
        except ModelError as error:
            self._recording.add(asked, error, pieces)
            await self._recording.sync()
            raise
        except asyncio.CancelledError:
            with contextlib.suppress(RecordingError):
                self._recording.add(asked, time.monotonic() - begun, pieces)
            raise
        self._recording.describe(self._label, self._model)
        self._recording.add(asked, reply, pieces)
        await self._recording.sync()
        return reply

    async def close(self) -> None:
        await self._model.close()


def _open(path: Path) -> int:
    """The file, made if need be, its owner's alone and held by this process alone."""
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RecordingError(
            f"recording {path}: {error.strerror or error}", next="name a file that can be written"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(file, 0o600)
    except OSError as error:
        os.close(file)
        busy = isinstance(error, BlockingIOError)
        raise RecordingError(
            f"recording {path}: {'another process records to it' if busy else error.strerror}",
            next="record to another file",
        ) from error
    return file
