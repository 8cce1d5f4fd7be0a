"""`check_model`: what every `Model` must do, whatever is behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from manyhands.errors import (
    ModelError,
    ModelMalformed,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
)
from manyhands.ports import Model, ModelReply, ModelRequest, Usage
from manyhands.testing.models import Conversation, Reply, ScriptedModel, calls, say

#: Opens a model that is answered from the script: itself, or a server that speaks from it.
OpenModel = Callable[[ScriptedModel], AbstractAsyncContextManager[Model]]

_TEXT = 'Grüße, 世界 🌍\nand a "quoted" line with a \\ in it.'
_TOOL = (
    b'{"type":"function","function":{"name":"look","description":"Looks.",'
    b'"parameters":{"type":"object","properties":{"at":{"type":"string"}}}}}'
)


def _ask(text: str = "Hello", **settings: float) -> ModelRequest:
    message = json.dumps({"role": "user", "content": text}, ensure_ascii=False).encode()
    return ModelRequest(messages=(message,), tools=(_TOOL,), max_tokens=64, **settings)  # type: ignore[arg-type]


async def check_text(open_model: OpenModel) -> None:
    """Text, usage and the reason of its end come back as they were said."""
    async with open_model(ScriptedModel([say(_TEXT, usage=Usage(7, 3))])) as model:
        assert model.name
        reply = await model.request(_ask())
    assert (reply.text, reply.tool_calls, reply.finish_reason) == (_TEXT, (), "stop")
    assert reply.usage == Usage(7, 3)
    assert reply.seconds >= 0


async def check_no_usage(open_model: OpenModel) -> None:
    """A server that does not say what was used is believed to have said nothing."""
    async with open_model(ScriptedModel([say("a", usage=None), say("a", usage=None)])) as model:
        assert (await model.request(_ask())).usage is None
        assert (await model.request(_ask(), lambda _: None)).usage is None


async def check_stream(open_model: OpenModel) -> None:
    """The pieces of a streamed text are the text; the reply is that of an unstreamed one."""
    pieces: list[str] = []
    async with open_model(ScriptedModel([_TEXT, _TEXT])) as model:
        streamed = await model.request(_ask(), pieces.append)
        whole = await model.request(_ask())
    assert "".join(pieces) == streamed.text == whole.text == _TEXT
    assert len(pieces) > 1
    assert streamed.finish_reason == whole.finish_reason
    assert streamed.usage == whole.usage
    assert streamed.first_token_seconds is not None


async def check_calls(open_model: OpenModel) -> None:
    """Calls keep order, names and the arguments' text; ids are there and differ."""
    made: Reply = calls(("look", {"at": _TEXT}), ("look", "{not json"), ("other", ""))
    replies: list[ModelReply] = []
    async with open_model(ScriptedModel([made, made])) as model:
        replies.append(await model.request(_ask()))
        replies.append(await model.request(_ask(), lambda _: None))
    for reply in replies:
        assert [(c.name, c.arguments) for c in reply.tool_calls] == list(made.calls)
        assert len({c.id for c in reply.tool_calls if c.id}) == 3
        assert reply.finish_reason == "tool_calls"


async def check_at_once(open_model: OpenModel) -> None:
    """Requests at once each get their own answer."""
    script = ScriptedModel(lambda request: f"heard {Conversation.of(request).last}")
    async with open_model(script) as model:
        asked = [str(n) for n in range(32)]
        replies = await asyncio.gather(*(model.request(_ask(text)) for text in asked))
    assert [reply.text for reply in replies] == [f"heard {text}" for text in asked]


async def check_errors(open_model: OpenModel) -> None:
    """What fails, fails as the `ModelError` that says what to do."""
    overloaded = ModelOverloaded("full", retry_after=7)
    errors: list[ModelError] = [
        overloaded,
        ModelRefused("no such model"),
        ModelUnreachable("gone"),
        ModelMalformed("not the protocol"),
    ]
    async with open_model(ScriptedModel([*errors, "and then it works"])) as model:
        for error in errors:
            found = await _error_of(model.request(_ask()))
            assert type(found) is type(error), f"{found!r} in place of {error!r}"
            assert found.retryable is error.retryable
            if isinstance(found, ModelOverloaded):
                assert found.retry_after == 7
        assert (await model.request(_ask())).text == "and then it works"


async def check_deadlines(open_model: OpenModel) -> None:
    """No request outlives its ``seconds``; a streamed one begins within its own."""
    slow = say("late", seconds=3600)
    async with open_model(ScriptedModel([slow, slow, "soon"])) as model:
        assert type(await _error_of(model.request(_ask(seconds=0.2)))) is ModelTimeout
        streamed = model.request(_ask(first_token_seconds=0.2), lambda _: None)
        assert type(await _error_of(streamed)) is ModelTimeout
        assert (await model.request(_ask())).text == "soon"


async def check_cancel(open_model: OpenModel) -> None:
    """A cancelled request ends as cancelled, and the next one works."""
    async with open_model(ScriptedModel([say("late", seconds=3600), "soon"])) as model:
        task = asyncio.ensure_future(model.request(_ask()))
        await asyncio.sleep(0.1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert (await model.request(_ask())).text == "soon"


async def check_close(open_model: OpenModel) -> None:
    """Closing twice is closing once."""
    async with open_model(ScriptedModel(["a"])) as model:
        await model.request(_ask())
        await model.close()
        await model.close()


MODEL_CHECKS: tuple[Callable[[OpenModel], Awaitable[None]], ...] = (
    check_text,
    check_no_usage,
    check_stream,
    check_calls,
    check_at_once,
    check_errors,
    check_deadlines,
    check_cancel,
    check_close,
)


async def check_model(open_model: OpenModel) -> None:
    """Run them all; raises AssertionError at the first that fails."""
    for check in MODEL_CHECKS:
        await check(open_model)


async def _error_of(request: Awaitable[ModelReply]) -> ModelError:
    try:
        reply = await request
    except ModelError as error:
        return error
    raise AssertionError(f"answered {reply.text!r} in place of an error")
