"""The lines of a recording, and reading them back.

JSONL. A ``header`` begins the file and each later session that was appended to it; ``about`` is
what the program says of itself; a ``part`` is a message, a tool or a schema, stored once and named
by its hash; a ``model`` says what a model was; a ``pair`` is a request and what became of it.

Invariants: a line is written whole or is the last of its session; a request's list of messages is
written as what it adds to that agent's request before it, so a long conversation grows linearly.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from manyhands.errors import ModelError, ModelOverloaded, RecordingError
from manyhands.ports import ModelReply, Price, ToolCall, Usage

SCHEMA = 1


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Header(_Line):
    line: Literal["header"] = "header"
    manyhands: Literal["recording"] = "recording"
    schema_version: int = Field(default=SCHEMA, alias="schema")
    version: str
    at: str

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class About(_Line):
    """What the program says of its session, such as the id of its run."""

    line: Literal["about"] = "about"
    about: dict[str, str]


class Part(_Line):
    """``text``, or ``base64`` where it is no UTF-8."""

    line: Literal["part"] = "part"
    hash: str
    text: str | None = None
    base64: str | None = None

    @classmethod
    def of(cls, hash: str, content: bytes) -> Part:
        try:
            return cls(hash=hash, text=content.decode())
        except UnicodeDecodeError:
            return cls(hash=hash, base64=base64.b64encode(content).decode())

    @property
    def content(self) -> bytes:
        return (
            base64.b64decode(self.base64) if self.base64 is not None else (self.text or "").encode()
        )


class ModelLine(_Line):
    """What was known of a model: first, and again where that changed."""

    line: Literal["model"] = "model"
    model: str
    name: str
    price: tuple[float, float] | None
    context_length: int | None

    def the_price(self) -> Price | None:
        return None if self.price is None else Price(*self.price)


class Settings(_Line):
    """All of a request but messages and tools. ``response_schema`` is a part's hash."""

    max_tokens: int
    temperature: float | None = None
    response_schema: str | None = None
    tool_choice: str | None = None
    seed: int | None = None


class RequestLine(_Line):
    """``keep`` of the messages of the agent's pair before this one, and then ``add``."""

    hash: str
    keep: int
    add: tuple[str, ...]
    tools: tuple[str, ...] = ()
    settings: Settings


class Answer(_Line):
    """A `ModelReply`. ``raw_base64``: where it is no UTF-8."""

    text: str
    calls: tuple[tuple[str, str, str], ...] = ()
    finish_reason: str
    usage: tuple[int, int, int] | None = None
    reasoning: str = ""
    raw: str = ""
    raw_base64: str | None = None
    seconds: float
    first_token_seconds: float | None = None
    queued_seconds: float = 0.0

    @classmethod
    def of(cls, reply: ModelReply) -> Answer:
        usage = reply.usage
        raw, raw_base64 = "", None
        try:
            raw = reply.raw.decode()
        except UnicodeDecodeError:
            raw_base64 = base64.b64encode(reply.raw).decode()
        return cls(
            text=reply.text,
            calls=tuple((c.id, c.name, c.arguments) for c in reply.tool_calls),
            finish_reason=reply.finish_reason,
            usage=usage and (usage.input_tokens, usage.output_tokens, usage.cached_tokens),
            reasoning=reply.reasoning,
            raw=raw,
            raw_base64=raw_base64,
            seconds=reply.seconds,
            first_token_seconds=reply.first_token_seconds,
            queued_seconds=reply.queued_seconds,
        )

    def reply(self) -> ModelReply:
        raw = self.raw.encode() if self.raw_base64 is None else base64.b64decode(self.raw_base64)
        return ModelReply(
            text=self.text,
            tool_calls=tuple(ToolCall(*call) for call in self.calls),
            finish_reason=self.finish_reason,
            usage=None if self.usage is None else Usage(*self.usage),
            raw=raw,
            seconds=self.seconds,
            first_token_seconds=self.first_token_seconds,
            reasoning=self.reasoning,
            queued_seconds=self.queued_seconds,
        )


class Failure(_Line):
    """A `ModelError`, by its class and fields."""

    kind: str
    what: str
    next: str = ""
    retryable: bool
    may_have_spent: bool
    retry_after: float | None = None

    @classmethod
    def of(cls, error: ModelError) -> Failure:
        return cls(
            kind=type(error).__name__,
            what=error.what,
            next=error.next,
            retryable=error.retryable,
            may_have_spent=error.may_have_spent,
            retry_after=error.retry_after if isinstance(error, ModelOverloaded) else None,
        )

    def error(self) -> ModelError:
        kinds: dict[str, type[ModelError]] = {k.__name__: k for k in _kinds(ModelError)}
        kind = kinds.get(self.kind, ModelError)
        if issubclass(kind, ModelOverloaded):
            error: ModelError = kind(self.what, next=self.next, retry_after=self.retry_after)
        else:
            error = kind(self.what, next=self.next)
        error.retryable, error.may_have_spent = self.retryable, self.may_have_spent
        return error


class Pair(_Line):
    """The ``number``-th request of ``agent`` to ``model`` in its session, and what became of it:
    an answer, a failure, or ``given_up`` by the program after so many seconds.

    ``cuts``: the lengths of the pieces in which the text came, where it was streamed; ``pieces``:
    they themselves, where they do not make up the text.
    """

    line: Literal["pair"] = "pair"
    model: str
    agent: str
    number: int
    at: float
    request: RequestLine
    answer: Answer | None = None
    failure: Failure | None = None
    given_up: float | None = None
    cuts: tuple[int, ...] | None = None
    pieces: tuple[str, ...] | None = None

    def streamed(self) -> tuple[str, ...]:
        """The pieces that somebody who watched was shown."""
        found = list(self.pieces or ())
        start = 0
        if self.answer is not None and self.pieces is None:
            for length in self.cuts or (len(self.answer.text),):
                found.append(self.answer.text[start : start + length])
                start += length
        return tuple(piece for piece in found if piece)


AnyLine = Header | About | Part | ModelLine | Pair
_LINE: TypeAdapter[AnyLine] = TypeAdapter(Annotated[AnyLine, Field(discriminator="line")])


def write_line(line: AnyLine) -> bytes:
    found = line.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    found = {"line": line.line, **found}
    if isinstance(line, Header):
        found |= {"manyhands": line.manyhands, "schema": line.schema_version}
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def read_lines(path: Path) -> Iterator[AnyLine | None]:
    """The lines of a recording. None stands for one that was torn: the last of a session.

    Raises `RecordingError` where it is not a recording, too new, or damaged elsewhere.
    """
    try:
        with path.open("rb") as file:
            yield from _checked(path, file)
    except OSError as error:
        raise RecordingError(
            f"recording {path}: {error.strerror or error}", next="name a file that --record wrote"
        ) from error


def _checked(path: Path, file: Iterable[bytes]) -> Iterator[AnyLine | None]:
    torn = 0
    for at, text in enumerate(file, start=1):
        line = _parse(path, at, text)
        if at == 1 and not isinstance(line, Header):
            raise RecordingError(
                f"{path} is not a recording", next="name a file that --record wrote, or a new one"
            )
        if torn and not isinstance(line, Header):
            raise _damaged(path, torn)
        torn = at if line is None else 0
        yield line


def _parse(path: Path, at: int, text: bytes) -> AnyLine | None:
    """None where it is no whole line."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    newer = isinstance(found, dict) and found.get("schema", SCHEMA)  # type: ignore[union-attr]
    if isinstance(newer, int) and newer > SCHEMA:
        raise RecordingError(
            f"recording {path}: schema {newer}, and this version reads up to {SCHEMA}",
            next="use the version of Manyhands that recorded it, or a newer one",
        )
    try:
        return _LINE.validate_python(found)
    except ValidationError:
        if at == 1:
            return None
        raise _damaged(path, at) from None


def _damaged(path: Path, at: int) -> RecordingError:
    return RecordingError(
        f"recording {path}: line {at} is damaged", next="restore the file, or record anew"
    )


def _kinds(kind: type[ModelError]) -> Iterator[type[ModelError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)
