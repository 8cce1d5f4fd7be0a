"""Where a request differs from what was recorded, for a person to read.

Invariant: what is shown is short, however long the messages are, and names the first place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from manyhands.adapters.models.recording_request import Named, Shape, common

#: `agents.encoding.delimit` puts data between them.
_MARK = re.compile(r"(</?[a-z]+ )[0-9a-f]{8}(?=>)")
#: Characters shown before and after the first difference.
_BEFORE, _AFTER = 40, 80


def closeness(asked: Shape, recorded: Shape) -> tuple[int, bool, bool]:
    """For finding the recorded request that is most like the one asked: more is closer."""
    return (
        common(recorded.messages, asked.messages),
        [t.hash for t in recorded.tools] == [t.hash for t in asked.tools],
        recorded.settings == asked.settings,
    )


def differences(recorded: Shape, asked: Shape) -> str:
    """One difference a line: the first message that differs, and every setting and tool."""
    return "\n".join([*_messages(recorded, asked), *_settings(recorded, asked)])


def _messages(recorded: Shape, asked: Shape) -> Iterator[str]:
    at = common(recorded.messages, asked.messages)
    before, now = len(recorded.messages), len(asked.messages)
    if at == before == now:
        return
    if at == before:
        yield f"message {at} ({_role(asked.messages[at])}) is asked and was not recorded:"
        yield f"  asked:    {_excerpt(_content(asked.messages[at]), 0)}"
    elif at == now:
        yield f"message {at} ({_role(recorded.messages[at])}) was recorded and is not asked:"
        yield f"  recorded: {_excerpt(_content(recorded.messages[at]), 0)}"
    else:
        yield from _message(at, recorded.messages[at], asked.messages[at])
    if before != now:
        yield f"{before} messages were recorded, {now} are asked"


def _message(at: int, recorded: Named, asked: Named) -> Iterator[str]:
    roles = dict.fromkeys((_role(recorded), _role(asked)))
    yield f"message {at} ({' → '.join(roles)}) differs:"
    left, right = _content(recorded), _content(asked)
    if left == right:  # it is in something else, such as the calls of an assistant
        left, right = _text(recorded), _text(asked)
    start = _first_difference(left, right)
    yield f"  recorded: {_excerpt(left, start)}"
    yield f"  asked:    {_excerpt(right, start)}"


def _settings(recorded: Shape, asked: Shape) -> Iterator[str]:
    left, right = recorded.settings.model_dump(), asked.settings.model_dump()
    for name, value in left.items():
        if value != right[name] and name != "response_schema":
            yield f"{name}: {value} recorded, {right[name]} asked"
    if left["response_schema"] != right["response_schema"]:
        yield "response_schema differs:"
        yield from _schemas(recorded.schema, asked.schema)
    yield from _tools(_by_name(recorded.tools), _by_name(asked.tools))


def _schemas(recorded: Named | None, asked: Named | None) -> Iterator[str]:
    left, right = ("none" if each is None else _text(each) for each in (recorded, asked))
    start = _first_difference(left, right)
    yield f"  recorded: {_excerpt(left, start)}"
    yield f"  asked:    {_excerpt(right, start)}"


def _tools(recorded: Mapping[str, Named], asked: Mapping[str, Named]) -> Iterator[str]:
    gone, new = recorded.keys() - asked.keys(), asked.keys() - recorded.keys()
    changed = {
        name for name in recorded.keys() & asked.keys() if recorded[name].hash != asked[name].hash
    }
    for what, names in (("not asked", gone), ("not recorded", new), ("changed", changed)):
        if names:
            yield f"tools {what}: {', '.join(sorted(names))}"
    if not (gone or new or changed) and list(recorded) != list(asked):
        yield f"tools in another order: {', '.join(recorded)} recorded, {', '.join(asked)} asked"


def _first_difference(left: str, right: str) -> int:
    """Beside the marks around data, where there is one: these differ because the data does."""
    masked = [_MARK.sub(lambda m: m[1] + "·" * 8, text) for text in (left, right)]
    for one, other in (masked, (left, right)):
        for at, (a, b) in enumerate(zip(one, other)):
            if a != b:
                return at
        if len(one) != len(other):
            break
    return min(len(left), len(right))


def _by_name(tools: Sequence[Named]) -> dict[str, Named]:
    found: dict[str, Named] = {}
    for at, tool in enumerate(tools):
        function = _object(tool).get("function")
        name = cast(dict[str, Any], function).get("name") if isinstance(function, dict) else None
        found[str(name) if name else f"number {at}"] = tool
    return found


def _excerpt(text: str, at: int) -> str:
    """Around the character ``at``, on one line."""
    start, end = max(0, at - _BEFORE), at + _AFTER
    shown = json.dumps(text[start:end], ensure_ascii=False)[1:-1]
    return f"{'…' if start else ''}{shown}{'…' if end < len(text) else ''}" or "(nothing)"


def _role(message: Named) -> str:
    return str(_object(message).get("role", "no role"))


def _content(message: Named) -> str:
    content = _object(message).get("content")
    return content if isinstance(content, str) else _text(message)


def _object(part: Named) -> dict[str, Any]:
    try:
        found: Any = json.loads(part.content)
    except ValueError:
        return {}
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def _text(part: Named) -> str:
    return part.content.decode("utf-8", "replace")
